"""Errors as problem details (RFC 9457)."""

import json
from typing import Any

from aws_lambda_powertools.event_handler import Response

from mayfly.core.errors import (
    InvalidRequest,
    MayflyError,
    MethodNotAllowed,
    QuotaExceeded,
    Unauthenticated,
)
from mayfly.web.answers import SECURITY_HEADERS
from mayfly.web.rate_headers import rate_headers

__all__ = ["problem"]


def problem(error: MayflyError, request_id: str) -> Response[str]:
    """Returns the answer that an error becomes."""
    body: dict[str, Any] = {
        "type": error.type_uri or f"urn:mayfly:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": str(error),
        "code": error.code,
        "request_id": request_id,
    }
    headers = dict(SECURITY_HEADERS)
    if isinstance(error, InvalidRequest):
        body["field"] = error.field
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(error.allowed)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, QuotaExceeded):
        headers |= rate_headers(
            error.policy,
            error.limit,
            error.period_seconds,
            error.remaining,
            error.reset_seconds,
            is_allowed=False,
        )
    if retry_after := getattr(error, "retry_after_seconds", None):
        headers["Retry-After"] = str(retry_after)
    # ASCII: a message may quote what cannot be encoded.
    return Response(error.status, "application/problem+json", json.dumps(body), headers=headers)
