"""The limit of a request's line and headers, which is the same for all kinds of APIs.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html
"""

from typing import Final

from mayfly_local.sources.http_request import HttpRequest
from mayfly_local.sources.refusals import Refused

__all__ = ["check_head"]

#: Most bytes of the request line and all headers together.
_LIMIT: Final = 10_240


def check_head(request: HttpRequest) -> None:
    """Raises Refused if the request line alone, or together with the headers, is too long.

    RFC 9110, 15.5.15; RFC 6585, 5.
    """
    target = f"{request.path}?{request.query}" if request.query else request.path
    line = len(f"{request.method} {target} {request.protocol}".encode())
    if line > _LIMIT:
        raise Refused(414, "Request-URI Too Long", "DEFAULT_4XX")
    headers = sum(len(name.encode()) + len(value.encode()) for name, value in request.headers)
    if line + headers > _LIMIT:
        raise Refused(431, "Request Header Fields Too Large", "DEFAULT_4XX")
