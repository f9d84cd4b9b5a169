"""Errors of API keys."""

from mayfly.core.errors import MayflyError

__all__ = ["KeyNotFound", "KeyUnreadable"]


class KeyNotFound(MayflyError):
    """The tenant has no API key of this id.

    The key never existed, belongs to another tenant, or was revoked.
    """

    status = 404
    retryable = False

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"this tenant has no key {key_id!r}; 'mayfly keys list' shows a tenant's keys"
        )


class KeyUnreadable(MayflyError):
    """The record of an API key does not have the form of a key."""

    retryable = False

    def __init__(self, key_id: str, reason: str) -> None:
        super().__init__(f"the record of API key {key_id!r} cannot be read: {reason}; revoke it")
