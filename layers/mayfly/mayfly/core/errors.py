"""The base class of all errors that Mayfly raises on purpose, and the errors that features share.

Each feature has its own errors in `errors.py`. An error takes facts, and its class writes the
message from them, so the same mistake always has the same message. Every class has a row in
docs/errors.md.
"""

import re
from collections.abc import Mapping
from typing import Any, ClassVar

__all__ = [
    "ConfigError",
    "IdempotencyKeyReused",
    "InvalidRequest",
    "MayflyError",
    "PayloadTooLarge",
    "StoreUnavailable",
]


class MayflyError(Exception):
    """Base class of all errors.

    `code` is the stable, machine-readable name of the problem; `title` is its name for people.
    Both default to the words of the class's name; a kind of another error keeps those of that
    error. `status` is the HTTP status of the answer.
    `retryable` is true if the same work could succeed later.
    """

    code: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = True
    #: A registered URI for the kind of problem (RFC 9457, 3.1.1), if there is one.
    type_uri: ClassVar[str | None] = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if MayflyError not in cls.__bases__:
            return  # a kind of another error: callers get the same code, unless it sets one
        words = [word.lower() for word in re.findall("[A-Z][a-z]*", cls.__name__)]
        if "code" not in vars(cls):
            cls.code = "-".join(words)
        if "title" not in vars(cls):
            cls.title = " ".join(words).capitalize()

    def headers(self) -> Mapping[str, str]:
        """Returns header fields that this error adds to its answer."""
        return {}

    def members(self) -> Mapping[str, Any]:
        """Returns members of the problem details that this error adds (RFC 9457, 3.2)."""
        return {}


class ConfigError(MayflyError):
    """The environment of a function is incomplete or malformed.

    Raised once, at start, with all problems.
    """

    code = "bad-configuration"
    title = "Bad configuration"

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__(
            "the function's environment variables are missing or malformed: " + "; ".join(problems)
        )


class InvalidRequest(MayflyError):
    """A request or message does not have its documented shape; `field` names the member."""

    status = 400
    retryable = False

    def __init__(self, field: str, problem: str) -> None:
        self.field = field
        super().__init__(f"{field}: {problem}")

    def members(self) -> Mapping[str, Any]:
        """Returns `field`."""
        return {"field": self.field}


class PayloadTooLarge(MayflyError):
    """A body, payload or result is above its stated limit, in bytes of UTF-8 JSON."""

    status = 413
    retryable = False

    def __init__(self, field: str, size: int, limit: int) -> None:
        super().__init__(
            f"{field} has {size} bytes, the limit is {limit}; put large data in S3 and pass its key"
        )


class IdempotencyKeyReused(MayflyError):
    """The key was used before with another body (Idempotency-Key draft-07, 2.7)."""

    status = 422
    retryable = False

    def __init__(self, what: str) -> None:
        super().__init__(
            f"this Idempotency-Key belongs to {what}, which was requested with another body"
        )


class StoreUnavailable(MayflyError):
    """The store did not answer or was overloaded; a write may or may not have happened."""

    status = 503
    retry_after_seconds: ClassVar[int] = 1

    def __init__(self, operation: str, cause: str) -> None:
        super().__init__(f"the store did not complete {operation!r} ({cause}); try again")

    def headers(self) -> Mapping[str, str]:
        """Returns Retry-After."""
        return {"Retry-After": str(self.retry_after_seconds)}
