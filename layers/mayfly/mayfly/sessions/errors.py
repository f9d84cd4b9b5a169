"""Errors of sessions."""

from mayfly.core.errors import MayflyError

__all__ = ["SessionNotFound", "VersionConflict"]


class SessionNotFound(MayflyError):
    """The token is unknown, or its session has expired, has ended, or has another token.

    The answer does not say which. A session of another tenant counts as unknown.
    """

    status = 404
    retryable = False

    def __init__(self) -> None:
        super().__init__(
            "no such session: it is unknown, has expired, or has ended; create another session"
        )


class VersionConflict(MayflyError):
    """The session is at another version than If-Match allows (RFC 9110, 13.1.1)."""

    status = 412
    retryable = False

    def __init__(self, version: int) -> None:
        super().__init__(f"the session is at version {version}; read it, and patch this version")
