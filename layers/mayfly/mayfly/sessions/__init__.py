"""Sessions in a store with time expiration, never in the process (twelve factors, VI): any process
serves any of them.

Every verb takes the store first. A token is shown when it is made and never again; what is stored
opens nothing. Where a token opens nothing (unknown, expired, ended, rotated away) verbs raise
SessionNotFound, where the store did not answer StoreUnavailable."""

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
