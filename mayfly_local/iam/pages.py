"""Pages of other sites that send requests to buckets, as CORS allows."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["Cors", "asks_another_service", "headers_for_pages", "no_cors"]

_Header = tuple[bytes, bytes]

#: An object that is opened in a browser runs no script in the emulator's origin.
_FOR_BROWSERS: Final = {"content-security-policy": "sandbox", "x-content-type-options": "nosniff"}


@dataclass(frozen=True)
class Cors:
    """CORS headers that a bucket's configuration gives to a page of another site."""

    headers: Mapping[str, str]
    is_preflight: bool


def no_cors(_method: str, _path: str, _headers: Mapping[str, str]) -> Cors | None:
    """Returns None: no bucket is open to pages of other sites."""
    return None


def asks_another_service(headers: Mapping[str, str], query: Mapping[str, str]) -> bool:
    """Returns True if a request is not S3's own.

    For a preflight, this is about the announced request.
    """
    announced = headers.get("access-control-request-headers", "").lower()
    is_query_protocol = headers.get("content-type", "").startswith(
        "application/x-www-form-urlencoded"
    )
    return (
        is_query_protocol
        or "x-amz-target" in headers
        or "x-amz-target" in announced
        or "Action" in query
    )


def headers_for_pages(own: Iterable[_Header], cors: Cors | None) -> list[_Header]:
    """Returns the headers of a response, from the emulator's own.

    The emulator's own CORS headers are removed, because they let every page read.
    """
    kept = [(name, value) for name, value in own if not name.lower().startswith(b"access-control-")]
    more = {**_FOR_BROWSERS, **({**cors.headers, "vary": "Origin"} if cors else {})}
    return kept + [
        (name.encode("latin-1"), value.encode("latin-1")) for name, value in more.items()
    ]
