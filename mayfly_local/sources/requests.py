"""The places where requested invocations are kept: the emulator, or this process."""

from typing import Any

from mayfly_local.emulator.arrivals import Arrivals
from mayfly_local.emulator.control import Control
from mayfly_local.emulator.invocations import Invocations

__all__ = ["EmulatorRequests", "OwnRequests"]


class EmulatorRequests:
    """Requests in the emulator's process, which keeps them in its journal.

    Methods raise aiohttp.ClientError while it restarts.
    """

    def __init__(self, control: Control) -> None:
        self._control = control

    async def due(self, holding: list[str], *, seconds: float) -> list[dict[str, Any]]:
        """Returns the invocations that are due and not held, when there are some or time is up."""
        reply = await self._control.ask("due", {"holding": holding, "seconds": seconds})
        found: list[dict[str, Any]] = reply["invocations"]
        return found

    async def again(self, invocation: str, *, tries: int, due: float) -> None:
        """Postpones an invocation that failed."""
        await self._control.ask("again", {"id": invocation, "tries": tries, "due": due})

    async def done(self, invocation: str) -> None:
        """Forgets an invocation."""
        await self._control.ask("done", {"id": invocation})

    async def answer(self, invocation: str, reply: dict[str, Any]) -> None:
        """Gives a reply to the caller that waits for it."""
        await self._control.ask("answer", {"id": invocation, "reply": reply})

    async def add(self, function: str, event: str) -> None:
        """Adds an asynchronous invocation."""
        await self._control.ask("invoke", {"function": function, "event": event})

    async def left(self) -> int:
        """Returns the number of asynchronous invocations that are not done."""
        return int((await self._control.ask("left", {}))["count"])


class OwnRequests:
    """Requests in the memory of this process, next to an endpoint of the user's own.

    Only schedules request invocations there, since the endpoint knows no functions.
    """

    def __init__(self) -> None:
        self._arrivals = Arrivals()
        self._invocations = Invocations(lambda key, value: None, self._arrivals)

    async def due(self, holding: list[str], *, seconds: float) -> list[dict[str, Any]]:
        """Returns the invocations that are due and not held, when there are some or time is up."""
        return await self._invocations.due(holding, seconds=seconds)

    async def again(self, invocation: str, *, tries: int, due: float) -> None:
        """Postpones an invocation that failed."""
        self._invocations.again(invocation, tries=tries, due=due)

    async def done(self, invocation: str) -> None:
        """Forgets an invocation."""
        self._invocations.done(invocation)

    async def answer(self, invocation: str, reply: dict[str, Any]) -> None:
        """Gives a reply to the caller that waits for it."""
        self._invocations.answer(invocation, reply)

    async def add(self, function: str, event: str) -> None:
        """Adds an asynchronous invocation."""
        self._invocations.add(function, event)

    async def left(self) -> int:
        """Returns the number of asynchronous invocations that are not done."""
        return self._invocations.left

    def close(self) -> None:
        """Ends all waits."""
        self._arrivals.close()
