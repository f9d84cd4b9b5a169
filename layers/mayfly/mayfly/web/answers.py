"""Answers of handlers. None of them is kept by a cache."""

from collections.abc import Mapping
from typing import Any, Final

from aws_lambda_powertools.event_handler import Response

from mayfly.core.json_input import canonical_json

__all__ = ["SECURITY_HEADERS", "answer", "document", "nothing", "text"]

#: On every answer: it is not cached, guessed at, framed, or revealed to other sites
#: (ASVS 5.0: 3.4.1, 3.4.3 to 3.4.6, 14.3.2).
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
    """Returns a text that is JSON already."""
    return Response(200, "application/json", body, headers=dict(SECURITY_HEADERS))


def nothing() -> Response[str]:
    """Returns 204 No Content."""
    return Response(204, headers=dict(SECURITY_HEADERS))
