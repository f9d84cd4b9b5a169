"""Items that transactions hold: DynamoDB refuses other writes of them meanwhile.

The emulator runs a transaction in one step, so no request can meet one there. Here a transaction
takes time, and this is what meets it::

    transaction   [hold its items - the emulator's step - the seconds of a transaction - let go]
    plain write                           ^ TransactionConflictException
    transaction                           ^ TransactionCanceledException, a reason for each item
    plain read                            ^ answered

"Transaction conflict handling in DynamoDB":
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html
"""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from mayfly_local.iam.batches import BATCHES, answer, others
from mayfly_local.iam.bodies import Message, Receive, replay
from mayfly_local.iam.items import WRITES, Item, ItemAction, Tables, item_actions
from mayfly_local.iam.requests import UNREADABLE, Request
from mayfly_local.iam.responses import (
    JSON,
    Send,
    respond,
    transaction_cancelled,
    transaction_conflict,
    transaction_in_progress,
)

__all__ = ["TRANSACTION_SECONDS", "Transactions"]

#: Seconds for which a transaction holds its items, about as long as one of DynamoDB takes.
TRANSACTION_SECONDS: Final = 0.02
_TRANSACTIONS: Final = ("TransactWriteItems", "TransactGetItems", "ExecuteTransaction")

_App = Callable[[Mapping[str, Any], Receive, Send], Awaitable[None]]


@dataclass(frozen=True, eq=False)
class _Hold:
    """A transaction in progress; one that a test requested writes nothing."""

    items: Collection[Item]
    is_requested: bool


@dataclass(frozen=True)
class _Call:
    """A request to DynamoDB, with what it does to items."""

    operation: str
    arguments: Mapping[str, Any]
    actions: Sequence[ItemAction]

    @property
    def is_transaction(self) -> bool:
        return self.operation in _TRANSACTIONS

    @property
    def is_write(self) -> bool:
        return any(action.action in WRITES for action in self.actions)

    @property
    def token(self) -> str:
        return str(self.arguments.get("ClientRequestToken") or "")


class Transactions:
    """The emulator, in which a transaction holds its items for `seconds`; 0 is not at all."""

    def __init__(self, emulator: _App, tables: Tables, *, seconds: float = 0.0) -> None:
        self._emulator = emulator
        self._tables = tables
        self._holds: dict[Item, _Hold] = {}
        self._tokens: set[str] = set()
        self._since = time.time_ns() // 1_000_000
        self._seconds = seconds
        self._ending = asyncio.Event()
        #: Requests that met a transaction, by operation, and those that met a requested one.
        self._met: Counter[str] = Counter()
        self._met_requested: Counter[str] = Counter()

    @property
    def seconds(self) -> float:
        """Seconds for which a transaction holds its items."""
        return self._seconds

    def set(self, seconds: float) -> None:
        """Sets for how long transactions hold their items, and ends those in progress."""
        self._seconds = seconds
        self._holds.clear()
        self._ending.set()
        self._ending = asyncio.Event()

    @property
    def is_idle(self) -> bool:
        """True if no request can meet a transaction."""
        return not self._seconds and not self._holds

    def report(self) -> dict[str, Any]:
        """Returns the time of a transaction, the number of items held now, and who met them.

        `met` and `requested` have the numbers of refused requests by operation, since the
        emulator's start at `since`, in milliseconds.
        """
        return {
            "milliseconds": round(self._seconds * 1000),
            "held": len(self._holds),
            "since": self._since,
            "met": dict(self._met),
            "requested": dict(self._met_requested),
        }

    def hold(self, request: Request, seconds: float, *, action: str | None = None) -> int:
        """Holds the items of a request for some seconds, as another transaction would.

        With `action`, holds only the first item that the request needs this permission for.
        Returns the number of items; 0 if the request cannot meet a transaction.
        """
        call = self._read(request)
        if call is None or not (call.is_transaction or call.is_write):
            return 0
        items = [
            each.item
            for each in call.actions
            if each.item is not None and action in (None, each.action)
        ]
        hold = _Hold(items if action is None else items[:1], is_requested=True)
        self._take(hold)
        asyncio.get_running_loop().call_later(seconds, self._let_go, hold)
        return len(hold.items)

    async def serve(
        self, request: Request, scope: Mapping[str, Any], receive: Receive, send: Send
    ) -> None:
        """Serves a request, which a transaction may hold up, and which may be one."""
        call = None if self.is_idle else self._read(request)
        if call is not None and call.token in self._tokens:
            await respond(send, 400, *transaction_in_progress())
        elif call is None or (call.token and self._tables.is_committed(call.token)):
            # A repeat of a committed transaction writes nothing, and is answered as before.
            await self._emulator(scope, replay(request.body, receive), send)
        elif met := self._held(call):
            await self._refuse(call, met, scope, receive, send)
        elif call.is_transaction and call.is_write and self._seconds:
            messages: list[Message] = []
            with self._holding(call):
                await self._emulator(scope, replay(request.body, receive), _into(messages))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), self._seconds)
            for message in messages:
                await send(message)
        else:
            await self._emulator(scope, replay(request.body, receive), send)

    def _read(self, request: Request) -> _Call | None:
        if request.service != "dynamodb":
            return None
        try:
            operation, arguments = request.operation()
        except UNREADABLE:
            return None
        actions = item_actions(operation, arguments, self._tables)
        return _Call(operation, arguments, actions) if actions else None

    def _held(self, call: _Call) -> dict[int, _Hold]:
        """Returns the transactions that a request meets, by the places of its items."""
        return {
            place: self._holds[each.item]
            for place, each in enumerate(call.actions)
            if each.item in self._holds and (call.is_transaction or each.action in WRITES)
        }

    @contextmanager
    def _holding(self, call: _Call) -> Iterator[None]:
        hold = _Hold([each.item for each in call.actions if each.item], is_requested=False)
        self._take(hold)
        if call.token:
            self._tokens.add(call.token)
        try:
            yield
        finally:
            self._tokens.discard(call.token)
            self._let_go(hold)

    def _take(self, hold: _Hold) -> None:
        self._holds |= dict.fromkeys(hold.items, hold)

    def _let_go(self, hold: _Hold) -> None:
        for item in hold.items:
            if self._holds.get(item) is hold:
                del self._holds[item]

    async def _refuse(
        self,
        call: _Call,
        met: Mapping[int, _Hold],
        scope: Mapping[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        is_requested = all(hold.is_requested for hold in met.values())
        (self._met_requested if is_requested else self._met)[call.operation] += 1
        if call.is_transaction:
            await respond(send, 400, *transaction_cancelled(len(call.actions), met))
        elif call.operation in BATCHES:
            await self._serve_others(call, met, scope, receive, send)
        else:
            await respond(send, 400, *transaction_conflict())

    async def _serve_others(
        self,
        call: _Call,
        met: Collection[int],
        scope: Mapping[str, Any],
        receive: Receive,
        send: Send,
    ) -> None:
        """Serves the entries of a batch that do not meet a transaction."""
        reply: dict[str, Any] = {}
        if (left := others(call.operation, call.arguments, met)) is not None:
            body, messages = json.dumps(left).encode(), list[Message]()
            headers = [
                (name, str(len(body)).encode() if name == b"content-length" else value)
                for name, value in scope["headers"]
            ]
            await self._emulator(
                {**scope, "headers": headers}, replay(body, receive), _into(messages)
            )
            if messages[0]["status"] != 200:
                for message in messages:
                    await send(message)
                return
            reply = json.loads(b"".join(message.get("body", b"") for message in messages[1:]))
        whole = answer(call.operation, call.arguments, met, reply)
        await respond(send, 200, json.dumps(whole).encode(), JSON)


def _into(messages: list[Message]) -> Send:
    """Returns a `send` that keeps the messages of a response."""

    async def keep(message: Message) -> None:
        messages.append(message)

    return keep
