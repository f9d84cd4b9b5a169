"""The answer to a call of a service that this machine does not have."""

import json
from collections.abc import Iterable, Mapping
from typing import Final
from xml.sax.saxutils import escape

from mayfly_local.iam.requests import SERVICES, Request

__all__ = ["ERROR_CODE", "absent_resources", "absent_service"]

#: The error code that SDKs report.
ERROR_CODE: Final = "AbsentService"
#: The service that requests are signed for, by the second word of a type, if it is another word.
_SIGNED_FOR: Final = {
    "ApplicationAutoScaling": "application-autoscaling", "CertificateManager": "acm",
    "CloudWatch": "monitoring", "Cognito": "cognito-idp", "EFS": "elasticfilesystem",
    "ElasticLoadBalancingV2": "elasticloadbalancing", "Elasticsearch": "es",
    "KinesisFirehose": "firehose", "Location": "geo", "MSK": "kafka",
    "OpenSearchServerless": "aoss", "OpenSearchService": "es", "StepFunctions": "states",
}  # fmt: skip
#: Services that a client signs for next to the first.
_SISTERS: Final = {
    "cognito-identity": "cognito-idp", "execute-api": "apigatewayv2", "iotdata": "iot",
    "rds-data": "rds", "rds-db": "rds", "redshift-data": "redshift",
}  # fmt: skip


def absent_resources(service: str, kinds: Mapping[str, str]) -> list[str]:
    """Returns the resources that calls of a service are about.

    `kinds` has the type of each absent resource, by its logical id.
    """
    wanted = _SISTERS.get(service, service)
    return [
        f"{name} ({kind.removeprefix('AWS::')})"
        for name, kind in kinds.items()
        if _signed_for(kind) == wanted
    ]


def _signed_for(kind: str) -> str:
    word = kind.removeprefix("AWS::").partition("::")[0]
    return _SIGNED_FOR.get(word, word.lower())


def absent_service(request: Request, service: str, absent: Iterable[str]) -> tuple[int, bytes, str]:
    """Returns status, body and content type of the error that names what is absent.

    `absent` are the template's resources of the service.
    """
    named = ", ".join(absent)
    sentence = (
        f"the service {service[:50]!r} is absent on this machine, and so is {named} of the template"
        if named
        else f"this stack has no service {service[:50]!r}; it has {', '.join(sorted(SERVICES))}"
    )
    kind = request.headers.get("content-type", "")
    if kind.startswith("application/x-www-form-urlencoded"):
        text = (
            f"<ErrorResponse><Error><Type>Sender</Type><Code>{ERROR_CODE}</Code>"
            f"<Message>{escape(sentence)}</Message></Error></ErrorResponse>"
        )
        return 403, text.encode(), "text/xml"
    body = {"__type": ERROR_CODE, "message": sentence}
    return 403, json.dumps(body).encode(), "application/x-amz-json-1.1"
