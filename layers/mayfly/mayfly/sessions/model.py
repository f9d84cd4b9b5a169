"""Sessions and tokens."""

from dataclasses import dataclass, field
from typing import Any

__all__ = ["Page", "Session", "Token"]


@dataclass(frozen=True)
class Token:
    """The parts of a well-formed token: the session's partition and id, and the secret."""

    partition: str
    session_id: str
    secret: str = field(repr=False)


@dataclass(frozen=True)
class Session:
    """One session as it is stored, with the hash of its secret. Times are milliseconds since epoch.

    `version` grows with every change of the data or of the token, and only then.
    """

    tenant: str
    partition: str
    id: str
    #: The name of the session's user; None before the login.
    subject: str | None
    data: dict[str, Any]
    version: int
    #: The subject's generation when the session was created, or rotated to the subject. If the
    #: subject now has another generation, the session was ended by end-all.
    generation: int
    secret_hash: str
    created_at_ms: int
    #: Time for which an unused session lasts.
    idle_ms: int
    #: Time for which any session lasts.
    absolute_ms: int
    #: Deadline of an unused session; never after `absolute_expires_at_ms`.
    idle_expires_at_ms: int
    absolute_expires_at_ms: int
    #: Name of the write that made this version. By it a writer recognises its own write after a
    #: lost response.
    nonce: str
    #: Time of the last rotation of its token; 0 for never.
    rotated_at_ms: int = 0


@dataclass(frozen=True)
class Page:
    """Some of a subject's sessions.

    `next` is the id after which the list continues, None if it is complete.
    """

    sessions: list[Session]
    next: str | None
