"""Responses that an API makes itself, as the services word them.

https://docs.aws.amazon.com/apigateway/latest/developerguide/supported-gateway-response-types.html
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from mayfly_local.application.apis import GatewayResponse

__all__ = ["Refused", "http_refusal", "rest_refusal"]

#: The value of x-amzn-ErrorType, by the type of a REST API's response.
_ERROR_TYPES: Final = {
    "ACCESS_DENIED": "AccessDeniedException",
    "AUTHORIZER_CONFIGURATION_ERROR": "AuthorizerConfigurationException",
    "BAD_REQUEST_BODY": "BadRequestException",
    "BAD_REQUEST_PARAMETERS": "BadRequestException",
    "INVALID_API_KEY": "ForbiddenException",
    "INVALID_SIGNATURE": "InvalidSignatureException",
    "MISSING_AUTHENTICATION_TOKEN": "MissingAuthenticationTokenException",
    "REQUEST_TOO_LARGE": "RequestTooLargeException",
    "UNAUTHORIZED": "UnauthorizedException",
    "UNRECOGNIZED_CLIENT": "UnrecognizedClientException",
}
#: A variable in the template of a response.
_VARIABLE: Final = re.compile(
    r"\$context\.("
    r"authorizer\.claims\.\w(?:[\w-]|:(?=\w))*"  # such as cognito:username
    r"|authorizer\.\w[\w-]*"
    r"|[A-Za-z]\w*(?:\.[A-Za-z]\w*)*)"
)


@dataclass
class Refused(Exception):
    """A request that the API answers itself.

    `kind` is the type of a REST API's response, which a template can change. `message` None is a
    JSON null, which AWS sends if an authorizer fails. `reason` is for the log only.
    `invalid` says what a validator found in the body. `authorizer` is the context that a Lambda
    authorizer gave for a caller whom it denies.
    """

    status: int
    message: str | None
    kind: str = "DEFAULT_5XX"
    reason: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    invalid: str = ""
    authorizer: Mapping[str, Any] = field(default_factory=dict)


def http_refusal(refused: Refused, *, is_url: bool = False) -> web.Response:
    """Returns the response of an HTTP API or, with `is_url`, of a function URL."""
    # Lambda writes this one with a capital letter.
    key = "Message" if is_url and refused.status == 403 else "message"
    return web.json_response(
        {key: refused.message}, status=refused.status, headers=dict(refused.headers)
    )


def rest_refusal(
    refused: Refused, responses: Mapping[str, GatewayResponse], variables: Mapping[str, str]
) -> web.Response:
    """Returns the response of a REST API.

    `responses` are the template's own, by type. `variables` are the values of the request for their
    templates, by the name that follows `$context.`, such as `identity.sourceIp`. An unknown
    variable is empty.
    Page api-gateway-mapping-template-reference of
    https://docs.aws.amazon.com/apigateway/latest/developerguide/
    """
    general = "DEFAULT_4XX" if refused.status < 500 else "DEFAULT_5XX"
    own = responses.get(refused.kind) or responses.get(general)
    message = json.dumps(refused.message)
    # The service writes this one with a capital letter.
    key = "Message" if refused.kind == "ACCESS_DENIED" else "message"
    body = f'{{"{key}":{message}}}'
    if refused.status >= 500 and refused.message is not None:
        body = f'{{"{key}": {message}}}'
    status = refused.status
    headers = dict(refused.headers)
    usual = "BadRequestException" if refused.status < 500 else "InternalServerErrorException"
    error_type = _ERROR_TYPES.get(refused.kind, usual)
    headers.setdefault("x-amzn-ErrorType", error_type)
    if own is not None:
        status = own.status or status
        headers |= own.headers
        if own.template is not None:
            known = {
                **variables,
                "error.messageString": message,
                "error.message": refused.message or "",
                "error.responseType": refused.kind,
                "error.validationErrorString": f"[{refused.invalid}]" if refused.invalid else "",
            }
            body = _VARIABLE.sub(lambda found: known.get(found[1], ""), own.template)
    return web.Response(
        status=status, body=body.encode(), headers=headers, content_type="application/json"
    )
