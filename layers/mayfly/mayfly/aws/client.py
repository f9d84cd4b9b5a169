"""A client of one AWS service, as the adapters of this package use it.

There are two: `LeanClient` in functions, and boto3's, wrapped by `BotoClient`, everywhere else.
Both raise the errors of `mayfly.aws.errors`.
"""

from collections.abc import Mapping
from typing import Any, Protocol

__all__ = ["Client", "as_client"]


class Client(Protocol):
    """A client of one service."""

    def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Calls an operation by its name in the API reference, and returns the answer.

        Raises Refused, Unanswered, Unsent.
        """


def as_client(client: Any) -> Client:
    """Returns a client that has `call`: the client itself, or a wrapped client of boto3."""
    if hasattr(client, "call"):
        found: Client = client
        return found
    from mayfly.aws.boto import BotoClient  # noqa: PLC0415  # functions do without it

    return BotoClient(client)
