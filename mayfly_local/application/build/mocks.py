"""Responses that REST APIs make without a function, such as those to preflight requests.

https://docs.aws.amazon.com/apigateway/latest/developerguide/how-to-mock-integration.html
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from mayfly_local.application.apis import Mock

__all__ = ["mock_of", "static_headers"]

_STATUS: Final = re.compile(r"[\"']?statusCode[\"']?\s*:\s*[\"']?(\d{3})")
#: A mapping template that computes something (VTL), which does not run here.
_COMPUTED: Final = re.compile(r"[$]|#(set|if|foreach|else|end)\b")


def mock_of(integration: Mapping[str, Any]) -> Mock | None:
    """Returns the response of a mock integration, or None if a template must compute it."""
    requests = " ".join(str(text) for text in (integration.get("requestTemplates") or {}).values())
    asked = _STATUS.search(requests)
    status = asked[1] if asked else "200"
    responses = integration.get("responses") or {}
    response = next(
        (
            spec
            for pattern, spec in responses.items()
            if pattern != "default" and re.fullmatch(str(pattern), status)
        ),
        responses.get("default") or {},
    )
    templates = response.get("responseTemplates") or {}
    body = str(templates.get("application/json", next(iter(templates.values()), "")) or "")
    if _COMPUTED.search(body):
        return None
    return Mock(
        int(response.get("statusCode") or status),
        static_headers(response.get("responseParameters") or {}),
        body,
    )


def static_headers(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Returns the headers with fixed values among response parameters.

    Keys are like `method.response.header.X` or `gatewayresponse.header.X`; fixed values are in
    single quotes.
    """
    return {
        key.rpartition("header.")[2]: str(value)[1:-1]
        for key, value in parameters.items()
        if "header." in key and re.fullmatch(r"'.*'", str(value), re.DOTALL)
    }
