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
    """The credential is good but lacks the scope of this route."""

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
        super().__init__(f"there is nothing at {path}")


class MethodNotAllowed(MayflyError):
    """The path exists, with other methods (RFC 9110, 15.5.6: the answer must name them in
    Allow).
    """

    status = 405
    retryable = False

    def __init__(self, method: str, path: str, allowed: list[str]) -> None:
        self.allowed = allowed
        super().__init__(f"{path} does not take {method}; it takes {', '.join(allowed)}")

    def headers(self) -> Mapping[str, str]:
        """Returns Allow."""
        return {"Allow": ", ".join(self.allowed)}


class UnsupportedMediaType(MayflyError):
    """The body is of a kind that this route does not take (RFC 9110, 15.5.16)."""

    status = 415
    retryable = False

    def __init__(self, found: str, accepted: list[str]) -> None:
        super().__init__(
            f"a body of type {found[:80]!r} cannot be read here; send {' or '.join(accepted)}"
        )
