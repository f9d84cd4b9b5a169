"""What a session is."""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Page", "Session", "Token"]


@dataclass(frozen=True)
class Token:
    """A well-formed token, taken apart: where its session lives, its id there, and the secret that
    proves it.
    """

    partition: str
    session_id: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Session:
    """One session as it is stored: never its secret, only the secret's hash. Times in milliseconds
    since the epoch.

    `version` grows with every change of the data or of the token, and with nothing else.
    """

    tenant: str
    partition: str
    id: str
    #: Whose it is; None before anybody has logged in.
    subject: str | None
    data: dict[str, Any]
    version: int
    #: Its subject's generation when the session was made or rotated to the subject; another one
    #: there now means that it was ended.
    generation: int
    secret_hash: str
    created_at_ms: int
    #: How long it lasts without being used, and at most.
    idle_ms: int
    absolute_ms: int
    #: When it ends if nobody uses it; never after `absolute_expires_at_ms`.
    idle_expires_at_ms: int
    absolute_expires_at_ms: int
    #: Of the write that made this version, so that a writer whose answer was lost knows its own.
    nonce: str
    #: When its token was last rotated; 0 for never.
    rotated_at_ms: int = 0


@dataclass(frozen=True)
class Page:
    """Some of a subject's sessions, and the id after which the listing goes on, None where it is
    complete.
    """

    sessions: list[Session]
    next: str | None
