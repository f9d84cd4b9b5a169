"""Errors of the HTTP edge."""

from collections.abc import Mapping

from mayfly.core.errors import MayflyError

__all__ = [
    "Forbidden",
    "MethodNotAllowed",
    "RouteNotFound",
    "Unauthenticated",
    "UnsupportedMediaType",
]


class Unauthenticated(MayflyError):
    """The credential is missing, malformed, unknown or expired."""

    status = 401
    retryable = False

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(f"{reason}; send 'Authorization: Bearer mf_...'")

    def headers(self) -> Mapping[str, str]:
        """Returns WWW-Authenticate (RFC 9110, 11.6.1)."""
        return {"WWW-Authenticate": "Bearer"}


class Forbidden(MayflyError):
    """The API key is valid but lacks the scope of this route."""

    status = 403
    retryable = False

    def __init__(self, scope: str) -> None:
        super().__init__(
            f"the key lacks the scope {scope!r}; create one that has it with 'mayfly keys "
            f"create --scope {scope}'"
        )


class RouteNotFound(MayflyError):
    """No route has this path."""

    code = "not-found"
    status = 404
    title = "Not found"
    retryable = False

    def __init__(self, path: str) -> None:
        super().__init__(f"no route has the path {path}; GET /openapi.json lists the routes")


class MethodNotAllowed(MayflyError):
    """The path exists, but not with this method.

    The answer names the path's methods in Allow (RFC 9110, 15.5.6).
    """

    status = 405
    retryable = False

    def __init__(self, method: str, path: str, allowed: list[str]) -> None:
        self.allowed = allowed
        super().__init__(f"{path} does not support {method}; use {' or '.join(allowed)}")

    def headers(self) -> Mapping[str, str]:
        """Returns Allow."""
        return {"Allow": ", ".join(self.allowed)}


class UnsupportedMediaType(MayflyError):
    """The route does not accept a body of this type (RFC 9110, 15.5.16)."""

    status = 415
    retryable = False

    def __init__(self, media_type: str, accepted: list[str]) -> None:
        super().__init__(
            f"this route does not accept a body of type {media_type[:80]!r}; "
            f"send {' or '.join(accepted)}"
        )
