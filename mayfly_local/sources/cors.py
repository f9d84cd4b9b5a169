"""The CORS of an HTTP API or a function URL, which the service answers itself.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-cors.html
"""

from aiohttp import web

from mayfly_local.application.apis import Cors
from mayfly_local.sources.http_request import HttpRequest

__all__ = ["add_cors", "is_preflight", "preflight"]


def is_preflight(request: HttpRequest) -> bool:
    """Returns whether a browser asks before it sends a request."""
    return (
        request.method == "OPTIONS"
        and request.header("origin") is not None
        and request.header("access-control-request-method") is not None
    )


def preflight(cors: Cors, request: HttpRequest) -> web.Response:
    """Returns the answer to a preflight request. It has no headers for an unknown origin."""
    headers = _headers(cors, request)
    if headers:
        if cors.methods:
            headers["Access-Control-Allow-Methods"] = ",".join(cors.methods)
        if cors.headers:
            headers["Access-Control-Allow-Headers"] = ",".join(cors.headers)
        if cors.max_age is not None:
            headers["Access-Control-Max-Age"] = str(cors.max_age)
    return web.Response(status=204, headers=headers)


def add_cors(response: web.Response, cors: Cors, request: HttpRequest) -> None:
    """Replaces the CORS headers of a function's reply, which the service ignores."""
    for name in [name for name in response.headers if name.lower().startswith("access-control-")]:
        response.headers.popall(name, None)
    response.headers.update(_headers(cors, request))


def _headers(cors: Cors, request: HttpRequest) -> dict[str, str]:
    origin = request.header("origin")
    if origin is None or not _is_allowed(cors, origin):
        return {}
    headers = {"Access-Control-Allow-Origin": "*" if "*" in cors.origins else origin}
    if cors.exposed:
        headers["Access-Control-Expose-Headers"] = ",".join(cors.exposed)
    if cors.credentials:
        headers["Access-Control-Allow-Credentials"] = "true"
    return headers


def _is_allowed(cors: Cors, origin: str) -> bool:
    """Returns whether an origin is allowed; `https://*` allows every origin that begins so."""
    return any(
        allowed in ("*", origin)
        or (allowed in ("http://*", "https://*") and origin.startswith(allowed[:-1]))
        for allowed in cors.origins
    )
