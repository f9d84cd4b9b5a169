"""Errors as problem details (RFC 9457)."""

import json

from aws_lambda_powertools.event_handler import Response

from mayfly.core.errors import MayflyError
from mayfly.web.answers import SECURITY_HEADERS

__all__ = ["problem"]


def problem(error: MayflyError, request_id: str) -> Response[str]:
    """Returns the answer for an error."""
    body = {
        "type": error.type_uri or f"urn:mayfly:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": str(error),
        "code": error.code,
        "request_id": request_id,
        **error.members(),
    }
    return Response(
        error.status,
        "application/problem+json",
        json.dumps(body),  # ASCII, because a message may quote text that cannot be encoded
        headers={**SECURITY_HEADERS, **error.headers()},
    )
