"""Errors of webhooks."""

from mayfly.core.errors import MayflyError

__all__ = ["BadSecret", "ForbiddenAddress", "UnknownSecret", "Unreachable"]


class ForbiddenAddress(MayflyError):
    """The host of a webhook has no address, or one to which no webhook may be sent."""

    retryable = False

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} has an address that is not public, or none; use a public host")


class Unreachable(MayflyError):
    """A webhook's endpoint did not answer; `where` is its origin or its host."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")


class UnknownSecret(MayflyError):
    """The tenant does not have the secret that signs this webhook."""

    retryable = False

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no webhook secret {name!r}; make one with 'mayfly webhooks secret "
            f"{name}', then redrive the job"
        )


class BadSecret(MayflyError):
    """A webhook secret is malformed."""

    retryable = False

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the webhook secret {name!r} must be 'whsec_' and 24 to 64 bytes in base64, or "
            "several of these, separated by spaces"
        )
