"""Answers of handlers. Their headers forbid caching."""

from collections.abc import Mapping
from typing import Any, Final

from aws_lambda_powertools.event_handler import Response

from mayfly.core.json_input import canonical_json

__all__ = ["SECURITY_HEADERS", "Response", "answer", "document", "nothing", "text"]

#: Headers of every answer. They forbid caching, content sniffing and framing, and hide the URL from
#: other sites (ASVS 5.0: 3.4.1, 3.4.3 to 3.4.6, 14.3.2).
SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
}


def answer(
    body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response[str]:
    """Returns `body` as JSON."""
    return Response(
        status,
        "application/json",
        canonical_json(body),
        headers={**SECURITY_HEADERS, **(headers or {})},
    )


def text(body: str) -> Response[str]:
    """Returns plain text."""
    return Response(200, "text/plain; charset=utf-8", body, headers=dict(SECURITY_HEADERS))


def document(body: str) -> Response[str]:
    """Returns a text that is already JSON."""
    return Response(200, "application/json", body, headers=dict(SECURITY_HEADERS))


def nothing() -> Response[str]:
    """Returns 204 No Content."""
    return Response(204, headers=dict(SECURITY_HEADERS))
