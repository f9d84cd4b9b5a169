"""Requests and answers of sessions: bodies, headers, cursors, and the shape that callers see."""

import base64
import re
from dataclasses import dataclass
from typing import Any, Final

from mayfly.core.clock import rfc3339
from mayfly.core.errors import InvalidRequest
from mayfly.core.json_input import NAME, Fields
from mayfly.sessions.model import Session
from mayfly.sessions.rules import DEFAULT_ABSOLUTE_SECONDS, DEFAULT_IDLE_SECONDS, MAX_SECONDS
from mayfly.sessions.tokens import ID

__all__ = [
    "Creation",
    "public",
    "read_creation",
    "read_cursor",
    "read_if_match",
    "read_rotation",
    "write_cursor",
]

_IF_MATCH: Final = re.compile(r'\s*(?:W/)?"[^"]*"\s*(?:,\s*(?:W/)?"[^"]*"\s*)*')


@dataclass(frozen=True)
class Creation:
    """The body of POST /sessions."""

    subject: str | None = None
    data: dict[str, Any] | None = None
    idle_seconds: int = DEFAULT_IDLE_SECONDS
    absolute_seconds: int = DEFAULT_ABSOLUTE_SECONDS


def read_creation(body: Any) -> Creation:
    """Reads the body of POST /sessions. Raises InvalidRequest."""
    fields = Fields(body)
    creation = Creation(
        subject=fields.text("subject", pattern=NAME, default=None),
        data=_object(fields.anything("data", default={}), "data"),
        idle_seconds=fields.integer("idle_seconds", 1, MAX_SECONDS, default=DEFAULT_IDLE_SECONDS),
        absolute_seconds=fields.integer(
            "absolute_seconds", 1, MAX_SECONDS, default=DEFAULT_ABSOLUTE_SECONDS
        ),
    )
    fields.finish()
    return creation


def read_rotation(body: Any) -> str | None:
    """Reads the body of POST /sessions/current/rotate: the subject, None to keep the present one.

    Raises InvalidRequest.
    """
    fields = Fields(body)
    subject: str | None = fields.text("subject", pattern=NAME, default=None)
    fields.finish()
    return subject


def read_if_match(header: str | None) -> frozenset[str] | None:
    """Returns the versions that an If-Match header allows.

    Returns None if it allows any: the header is absent, or `*`. Weak tags are left out, because
    they never match here (RFC 9110, 13.1.1). Raises InvalidRequest if the header is not a list of
    tags.
    """
    if header is None or header.strip() == "*":
        return None
    if not _IF_MATCH.fullmatch(header):
        raise InvalidRequest("If-Match", 'must be a version as ETag showed it, such as "3"')
    return frozenset(tag for weak, tag in re.findall(r'(W/)?"([^"]*)"', header) if not weak)


def public(session: Session) -> dict[str, Any]:
    """Returns a session as callers see it. Times are RFC 3339."""
    return {
        "id": session.id,
        "subject": session.subject,
        "data": session.data,
        "version": session.version,
        "created_at": rfc3339(session.created_at_ms),
        "idle_expires_at": rfc3339(session.idle_expires_at_ms),
        "absolute_expires_at": rfc3339(session.absolute_expires_at_ms),
    }


def write_cursor(session_id: str) -> str:
    """Returns the cursor of the page after a session, which the caller sends back.

    It does not name the tenant: it is only used in the partition of one subject.
    """
    return base64.urlsafe_b64encode(f"after/{session_id}".encode()).decode().rstrip("=")


def read_cursor(text: str) -> str:
    """Returns the session id in a cursor. Raises InvalidRequest."""
    try:
        word, _, session_id = (
            base64.urlsafe_b64decode(text.encode("ascii") + b"==").decode("ascii").partition("/")
        )
        if word == "after" and (not session_id or ID.fullmatch(session_id)):
            return session_id
    except ValueError:
        pass
    raise InvalidRequest("cursor", "must be the `next` of the page before")


def _object(value: Any, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest(field, "must be a JSON object")
    return value
