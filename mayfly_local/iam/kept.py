"""The emulator's durable state, as the guard uses it: a change is committed before its response."""

from typing import Any, Protocol

from mayfly_local.iam.bodies import Message
from mayfly_local.iam.pages import Cors, headers_for_pages
from mayfly_local.iam.responses import Send, not_written, respond

__all__ = ["Kept", "NothingKept", "committing"]


class Kept(Protocol):
    """The part that stores the emulator's state durably."""

    @property
    def is_failing(self) -> bool:
        """True if the last commit failed."""

    def commit(self) -> None:
        """Writes all changes. Raises OSError if the disk does not accept them."""

    def serve(self, what: str, arguments: Any) -> Any:
        """Answers a control request of the runtime: JSON in, JSON out."""

    async def newest_record(self, stream: str, *, known: str, seconds: float) -> str:
        """Returns the number of a stream's newest record, when it is not `known` or time is up."""

    async def due_invocations(self, *, holding: list[str], seconds: float) -> list[dict[str, Any]]:
        """Returns the invocations that are due and not held, when there are some or time is up."""

    async def started(self) -> None:
        """Called before the emulator serves requests."""

    def stopped(self) -> None:
        """Called when the emulator has stopped serving."""


class NothingKept:
    """A `Kept` for an emulator whose state is not stored."""

    is_failing = False

    def commit(self) -> None:
        """Does nothing."""

    def serve(self, what: str, arguments: Any) -> Any:
        """Answers every request with an empty object."""
        return {}

    async def newest_record(self, stream: str, *, known: str, seconds: float) -> str:
        """Returns `known`, since there are no streams."""
        return known

    async def due_invocations(self, *, holding: list[str], seconds: float) -> list[dict[str, Any]]:
        """Returns an empty list, since there are no functions."""
        return []

    async def started(self) -> None:
        """Does nothing."""

    def stopped(self) -> None:
        """Does nothing."""


def committing(send: Send, kept: Kept, cors: Cors | None) -> Send:
    """Returns a `send` that commits the changes before the response starts.

    If the commit fails, the response is an error.
    """
    is_lost = False

    async def sending(message: Message) -> None:
        nonlocal is_lost
        if message["type"] == "http.response.start":
            try:
                kept.commit()
            except OSError as problem:
                is_lost = True
                await respond(send, 500, *not_written(problem))
                return
            message = {**message, "headers": headers_for_pages(message.get("headers", ()), cors)}
        if not is_lost:
            await send(message)

    return sending
