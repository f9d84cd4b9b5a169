"""Errors of webhooks."""

from mayfly.core.errors import MayflyError

__all__ = ["BadSecret", "ForbiddenAddress", "UnknownSecret", "Unreachable"]


class ForbiddenAddress(MayflyError):
    """The host of a webhook leads to an address that no webhook may go to, or to none."""

    retryable = False

    def __init__(self, host: str) -> None:
        super().__init__(f"{host} does not lead to public addresses only; webhooks go nowhere else")


class Unreachable(MayflyError):
    """A webhook's endpoint gave no answer; `where` is its origin or its host."""

    def __init__(self, where: str, reason: str) -> None:
        super().__init__(f"{where}: {reason}")


class UnknownSecret(MayflyError):
    """A webhook is to be signed with a secret that its tenant does not have."""

    retryable = False

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no webhook secret {name!r}; make one with 'mayfly webhooks secret "
            f"{name}', then redrive the job"
        )


class BadSecret(MayflyError):
    """A webhook secret is not one."""

    retryable = False

    def __init__(self, name: str) -> None:
        super().__init__(
            f"the webhook secret {name!r} must be 'whsec_' and 24 to 64 bytes in base64, or "
            "several of these apart by spaces"
        )
