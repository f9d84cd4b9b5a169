"""Runs the invocations that clients and other services request: `Invoke`, SNS, S3, EventBridge.

An asynchronous invocation that fails runs again, by Lambda's rules. When its tries or its time are
over, its event goes to the on-failure destination and to the dead-letter queue.
https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
"""

import asyncio
import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

import aiohttp

from mayfly_local.application.model import Function
from mayfly_local.compute.invocation import Failure, Invocation, Reply
from mayfly_local.emulator.invocations import run_of
from mayfly_local.logs import Log
from mayfly_local.sources.destinations import Destinations, Outcome
from mayfly_local.sources.log_tails import LogTails

__all__ = ["RETRY_SECONDS", "Asynchronous", "Requests"]

#: Seconds before the first retry. The second waits twice as long.
RETRY_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 5.0
_PAUSE: Final = 0.5
_DRAIN_PAUSE: Final = 0.02
#: Failures of an invocation that the stack's stop has caused.
_STOPPED: Final = "Runtime.Stopped"


class Requests(Protocol):
    """The requested invocations, in this process or in the emulator's.

    Methods raise aiohttp.ClientError.
    """

    async def due(self, holding: list[str], *, seconds: float) -> list[dict[str, Any]]:
        """Returns the invocations that are due and not held, when there are some or time is up."""

    async def again(self, invocation: str, *, tries: int, due: float) -> None:
        """Postpones an invocation that failed."""

    async def done(self, invocation: str) -> None:
        """Forgets an invocation."""

    async def answer(self, invocation: str, reply: dict[str, Any]) -> None:
        """Gives a reply to the caller that waits for it."""

    async def add(self, function: str, event: str) -> None:
        """Adds an asynchronous invocation."""

    async def left(self) -> int:
        """Returns the number of asynchronous invocations that are not done."""


@dataclass(frozen=True)
class _Requested:
    """A requested invocation, as `mayfly_local.emulator.invocations` describes it."""

    id: str
    function: str
    event: str
    requested_at: float
    due: float
    tries: int
    reports: bool
    tail: bool
    client_context: str


class Asynchronous:
    """Runs requested invocations until it is drained.

    `retry_seconds` is the delay before the first retry. `keeps` tells that the requests outlive
    this stack.
    """

    def __init__(
        self,
        functions: Mapping[str, Function],
        requests: Requests,
        invoke: Callable[[str, Invocation], Awaitable[Reply | Failure]],
        *,
        destinations: Destinations,
        log: Log,
        tails: LogTails,
        retry_seconds: float = RETRY_SECONDS,
        keeps: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        #: By logical id, and by the name that clients use.
        self._functions = {
            **{function.function_name: function for function in functions.values()},
            **functions,
        }
        self._requests = requests
        self._invoke = invoke
        self._destinations = destinations
        self._log = log
        self._tails = tails
        self._retry_seconds = retry_seconds
        self._keeps = keeps
        self._clock = clock
        self._held: dict[str, asyncio.Task[None]] = {}
        self._is_draining = False
        self._has_drained = False
        self._is_stopped = False

    @property
    def is_busy(self) -> bool:
        """True while an invocation runs; while it drains, until it has seen that nothing is due."""
        # A run that failed in an unforeseen way stays held, but does not run.
        is_running = any(not task.done() for task in self._held.values())
        return is_running or (self._is_draining and not self._has_drained)

    async def submit(self, function: str, event: Any) -> None:
        """Requests an asynchronous invocation of a function, by its logical id."""
        await self._until_told(lambda: self._requests.add(function, json.dumps(event)))

    async def run(self) -> None:
        """Runs what is due, until it is cancelled."""
        while True:
            try:
                is_draining = self._is_draining
                has_started = await self._start_due(_POLL_SECONDS)
                if is_draining:
                    self._has_drained = not has_started
                    # From now on the emulator answers without waiting.
                    await asyncio.sleep(_DRAIN_PAUSE)
            except (aiohttp.ClientError, OSError) as problem:
                self._log.event(
                    "poll failed", "WARNING", quiet=True, what="invocations", reason=str(problem)
                )
                await asyncio.sleep(_PAUSE)

    def drain(self) -> None:
        """Starts no further tries of what is kept for the next start.

        Callers still get their replies. Without a kept state, all that is due now still runs.
        """
        self._is_draining = True

    async def stop(self) -> str | None:
        """Ends without waiting for running invocations; each stays requested.

        Returns a line about asynchronous invocations that are left, or None if there are none.
        """
        self._is_stopped = True
        tasks = list(self._held.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        try:
            left = await self._requests.left()
        except (aiohttp.ClientError, OSError):
            return None
        what = "the next start runs them" if self._keeps else "they are lost; --state keeps them"
        return f"{left} asynchronous invocations are not done: {what}" if left else None

    async def _start_due(self, seconds: float) -> bool:
        """Starts what is due, and returns whether there was something."""
        found = await self._requests.due(list(self._held), seconds=seconds)
        has_started = False
        for facts in found:
            requested = _Requested(**facts)
            if self._is_draining and self._keeps and not requested.reports:
                continue
            run = self._call if requested.reports else self._try
            task = asyncio.ensure_future(run(requested))
            self._held[run_of(requested.id, requested.tries)] = task
            task.add_done_callback(partial(self._forget, requested))
            has_started = True
        return has_started

    def _forget(self, requested: _Requested, task: "asyncio.Task[None]") -> None:
        """Notes that a run is over.

        If it failed in an unforeseen way, it stays held: it would fail so again and again.
        """
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._report(requested, "ERROR", f"{type(problem).__name__}: {problem}", "left")
        else:
            self._held.pop(run_of(requested.id, requested.tries), None)

    async def _call(self, requested: _Requested) -> None:
        """Runs an invocation whose caller waits, and answers it."""
        invocation = _invocation(requested)
        function = self._functions.get(requested.function)
        if function is None:
            absent = Failure("ResourceNotFoundException", f"there is no {requested.function}")
            await self._answer(requested, absent, log=None)
            return
        with self._tails.collecting(function.name, invocation.request_id) as lines:
            started = time.monotonic()
            result = await self._invoke(function.name, invocation)
            seconds = time.monotonic() - started
            log = None
            if requested.tail:
                await self._tails.settle()
                log = lines.text(invocation.request_id, seconds, memory_mb=function.memory_mb)
        await self._answer(requested, result, log=log)

    async def _answer(
        self, requested: _Requested, result: Reply | Failure, *, log: str | None
    ) -> None:
        reply = {
            "error": isinstance(result, Failure),
            "payload": result.payload.decode(),
            "log": log,
        }
        # A caller whose emulator has ended has lost its connection.
        with contextlib.suppress(aiohttp.ClientError, OSError):
            await self._requests.answer(requested.id, reply)

    async def _try(self, requested: _Requested) -> None:
        """Runs an asynchronous invocation once, and decides what becomes of it."""
        function = self._functions.get(requested.function)
        if function is None:  # The template of an earlier start had it.
            self._report(requested, "ERROR", "the function is gone", "discarded")
            await self._until_told(lambda: self._requests.done(requested.id))
            return
        rules = function.asynchronous
        expires = requested.requested_at + rules.max_age_seconds
        outcome = Outcome(function.arn, requested.id, requested.event, tries=requested.tries)
        if function.limit == 0:
            await self._discard(requested, function, outcome.discarded("ZeroReservedConcurrency"))
        elif self._clock() > expires:
            await self._discard(requested, function, outcome.discarded("EventAgeExceeded"))
        else:
            result = await self._invoke(function.name, _invocation(requested))
            if isinstance(result, Failure) and result.kind == _STOPPED:
                # The stack is stopping. The try does not count.
                return
            outcome = outcome.after(result)
            if isinstance(result, Reply):
                if rules.on_success_arn is not None:
                    await self._destinations.send(function.name, rules.on_success_arn, outcome)
                await self._until_told(lambda: self._requests.done(requested.id))
            elif requested.tries >= rules.max_retries:
                await self._discard(requested, function, outcome)
            else:
                await self._postpone(requested, result, expires)

    async def _postpone(self, requested: _Requested, failure: Failure, expires: float) -> None:
        pause = self._retry_seconds * 2**requested.tries
        self._report(requested, "WARNING", failure.message, f"again in {pause:.0f} s")
        # At the end of its time it is discarded.
        due = min(self._clock() + pause, max(self._clock(), expires))
        await self._until_told(
            lambda: self._requests.again(requested.id, tries=requested.tries + 1, due=due)
        )

    async def _discard(self, requested: _Requested, function: Function, outcome: Outcome) -> None:
        """Sends an event that will not run again where the function's settings say."""
        rules = function.asynchronous
        wanted = [rules.on_failure_arn, rules.dead_letter_arn]
        where = ", ".join(arn.rpartition(":")[2] for arn in wanted if arn) or "discarded"
        self._report(requested, "ERROR", outcome.reason, where)
        if rules.on_failure_arn is not None:
            await self._destinations.send(function.name, rules.on_failure_arn, outcome)
        if rules.dead_letter_arn is not None:
            await self._destinations.bury(function.name, rules.dead_letter_arn, outcome)
        await self._until_told(lambda: self._requests.done(requested.id))

    def _report(self, requested: _Requested, level: str, reason: str, follows: str) -> None:
        self._log.event(
            "asynchronous invocation failed", level,
            target=requested.function, request_id=requested.id,
            tries=requested.tries + 1, reason=reason, next=follows,
        )  # fmt: skip

    async def _until_told(self, tell: Callable[[], Awaitable[None]]) -> None:
        """Repeats a report while the emulator restarts; otherwise the event would run again."""
        while not self._is_stopped:
            try:
                await tell()
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(_PAUSE)
            else:
                return


def _invocation(requested: _Requested) -> Invocation:
    """Returns the invocation: all tries of an event have the same request id."""
    return Invocation.of_json(
        requested.event, request_id=requested.id, client_context=requested.client_context
    )
