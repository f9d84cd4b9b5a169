"""Responses that REST APIs make without a function, such as those to preflight requests.

https://docs.aws.amazon.com/apigateway/latest/developerguide/how-to-mock-integration.html
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from mayfly_local.application.apis import Mock

__all__ = ["computed_headers", "mock_of", "static_headers"]

_STATUS: Final = re.compile(r"[\"']?statusCode[\"']?\s*:\s*[\"']?(\d{3})")
_COMPUTED_STATUS: Final = re.compile(r"[\"']?statusCode[\"']?\s*:\s*[\"']?\$")
#: A directive of a mapping template (VTL), which does not run here.
_DIRECTIVE: Final = re.compile(r"#\{?(set|if|foreach|else|elseif|end|include|parse|macro|stop)\b")
_FAILED: Final = Mock(
    500,
    {"x-amzn-ErrorType": "InternalServerErrorException"},
    '{"message": "Internal server error"}',
)


def mock_of(integration: Mapping[str, Any]) -> Mock | None:
    """Returns the response of a mock integration, or None if a template must compute it."""
    requests = " ".join(str(text) for text in (integration.get("requestTemplates") or {}).values())
    if _DIRECTIVE.search(requests) or _COMPUTED_STATUS.search(requests):
        return None
    asked = _STATUS.search(requests)
    responses = integration.get("responses") or {}
    response = None if asked is None else _selected(responses, asked[1])
    if asked is None or response is None:  # AWS fails, too, without a status and a response to it.
        return _FAILED
    status = asked[1]
    templates = response.get("responseTemplates") or {}
    body = str(templates.get("application/json", next(iter(templates.values()), "")) or "")
    if "$" in body or _DIRECTIVE.search(body):
        return None
    return Mock(
        int(response.get("statusCode") or status),
        static_headers(response.get("responseParameters") or {}),
        body,
    )


def _selected(responses: Mapping[str, Any], status: str) -> Mapping[str, Any] | None:
    """Returns the response whose pattern a status matches, or the default one."""
    for pattern, response in responses.items():
        if pattern != "default" and re.fullmatch(str(pattern), status):
            return dict(response or {})
    return dict(responses["default"] or {}) if "default" in responses else None


def computed_headers(parameters: Mapping[str, Any]) -> list[str]:
    """Returns the headers among response parameters whose value must be computed.

    A mock has no headers of an integration's response, so those have no value on AWS either.
    """
    wanted = {
        key: value
        for key, value in parameters.items()
        if not str(value).startswith("integration.response.header.")
    }
    every = {key.rpartition("header.")[2] for key in wanted if "header." in key}
    return sorted(every - set(static_headers(wanted)))


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
