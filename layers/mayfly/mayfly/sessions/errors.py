"""Errors of sessions."""

from mayfly.core.errors import MayflyError

__all__ = ["SessionNotFound", "VersionConflict"]


class SessionNotFound(MayflyError):
    """The token opens no session of this tenant: it is unknown, or its session has expired or
    ended. Nobody is told which.
    """

    status = 404
    retryable = False

    def __init__(self) -> None:
        super().__init__(
            "no such session: it is unknown, or it has expired or ended; create another one"
        )


class VersionConflict(MayflyError):
    """The session is at another version than If-Match allows (RFC 9110, 13.1.1)."""

    status = 412
    retryable = False

    def __init__(self, version: int) -> None:
        super().__init__(f"the session is at version {version}; read it, and patch that version")
