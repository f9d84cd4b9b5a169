"""Sessions in DynamoDB, each behind a token. The functions are verbs over a store (service.py)."""

from mayfly.sessions.model import Page, Session
from mayfly.sessions.rules import DEFAULT_ABSOLUTE_SECONDS, DEFAULT_IDLE_SECONDS
from mayfly.sessions.service import (
    change,
    create,
    end,
    end_all,
    end_one,
    end_read,
    list_by_subject,
    patch,
    read,
    rotate,
)
from mayfly.sessions.store import SessionStore

__all__ = [
    "DEFAULT_ABSOLUTE_SECONDS",
    "DEFAULT_IDLE_SECONDS",
    "Page",
    "Session",
    "SessionStore",
    "change",
    "create",
    "end",
    "end_all",
    "end_one",
    "end_read",
    "list_by_subject",
    "patch",
    "read",
    "rotate",
]
