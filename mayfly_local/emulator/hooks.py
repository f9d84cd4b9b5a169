"""Hooks in the emulator: its tables, streams, tokens, queues and objects note every change.

Only these modules use ministack's private names: this one, `contents`, `preparation`, `secrets`,
`statements`, `tables`, `keys`, `stacks`, and those of deliveries: `deliveries`, `topics`, `buses`
and `buckets`. A missing name ends the start.
"""

import errno
import os
import time
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from ministack.core.responses import AccountRegionScopedDict
from ministack.services import (
    cloudformation,
    dynamodb,
    eventbridge,
    iam,
    kinesis,
    kms,
    lambda_svc,
    s3,
    secretsmanager,
    sns,
    sqs,
    ssm,
)

from mayfly_local.emulator.buckets import hook_buckets
from mayfly_local.emulator.buses import hook_buses
from mayfly_local.emulator.kinesis import hook_kinesis
from mayfly_local.emulator.lambda_api import LambdaApi
from mayfly_local.emulator.packed import Items, Records, Token, dump, load
from mayfly_local.emulator.secrets import hook_secrets
from mayfly_local.emulator.stacks import hook_stacks
from mayfly_local.emulator.statements import hook_statements
from mayfly_local.emulator.topics import hook_topics

if TYPE_CHECKING:
    from mayfly_local.emulator.durable import Durable

__all__ = [
    "MODULES",
    "STREAMS",
    "Queue",
    "Scope",
    "drop_aged_records",
    "drop_records",
    "hook",
    "last_number",
    "load_objects",
    "new_records",
    "next_messages",
    "queues",
]

#: Account, region and name.
Scope = tuple[str, str, str]
MODULES: Final = {
    "cloudformation": cloudformation,
    "dynamodb": dynamodb,
    "eventbridge": eventbridge,
    "iam": iam,
    "kinesis": kinesis,
    "kms": kms,
    "s3": s3,
    "secretsmanager": secretsmanager,
    "sns": sns,
    "sqs": sqs,
    "ssm": ssm,
}
#: The place of all streams' new records: a stack has few streams.
STREAMS: Final = "streams"
#: Seconds after a moment at which the clock has passed it.
_CLOCK_STEP: Final = 0.001
#: Calls that do not change settings, by the last part of X-Amz-Target.
_DATA_CALLS: Final = {
    "BatchExecuteStatement", "BatchGetItem", "BatchWriteItem", "ChangeMessageVisibility",
    "ChangeMessageVisibilityBatch", "Decrypt", "DeleteItem",
    "DeleteMessage", "DeleteMessageBatch", "DescribeKey", "DescribeStream", "DescribeTable",
    "Encrypt", "ExecuteStatement",
    "ExecuteTransaction", "GenerateDataKey", "GenerateDataKeyWithoutPlaintext", "GenerateMac",
    "GetItem",
    "GetParameter", "GetParameters", "GetQueueAttributes", "GetQueueUrl", "GetRecords",
    "GetSecretValue", "GetShardIterator", "ListShards", "ListStreams", "PutEvents",
    "PutItem", "PutRecord", "PutRecords", "Query", "ReEncrypt", "ReceiveMessage", "Scan",
    "SendMessage",
    "SendMessageBatch", "Sign", "TransactGetItems", "TransactWriteItems", "UpdateItem", "Verify",
    "VerifyMac",
}  # fmt: skip


class _Table(dict[str, Any]):
    """A table of the emulator, with packed items."""

    def __init__(self, scope: Scope, table: dict[str, Any], durable: "Durable") -> None:
        super().__init__(table)
        self._items = Items(lambda pk, sk, item, data: self._note(durable, pk, sk, item, data))
        self._scope = scope
        dict.__setitem__(self, "items", self._items)
        self._fill(table.get("items") or {})

    def __setitem__(self, name: str, value: Any) -> None:
        if name != "items":
            super().__setitem__(name, value)
        elif value is not self._items:
            for gone in [pk for pk in self._items if pk not in value]:
                del self._items[gone]
            self._fill(value)

    def _fill(self, items: Any) -> None:
        for pk, rows in list(items.items()):
            self._items[pk] = dict(rows)

    def _note(
        self, durable: "Durable", pk: Any, sk: Any, item: dict[str, Any] | None, data: bytes | None
    ) -> None:
        durable.note(("item", *self._scope, pk, sk), data)
        if item is not None:
            durable.expiry.note(self._scope[2], pk, sk, item)


class _Watched(AccountRegionScopedDict):  # type: ignore[misc]  # ministack has no types
    """A dictionary of the emulator by account, region and name.

    It stores the result of `packed` for each value. It calls `taken` before a value is removed, and
    `changed` after every change.
    """

    __slots__ = ("_changed", "_packed", "_taken")

    def __init__(
        self,
        old: Any,
        packed: Callable[[Scope, Any], Any],
        taken: Callable[[Scope], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._packed = packed
        self._taken = taken
        self._changed = changed
        for (account, region, key), value in old.all_items():
            self.set_scoped(account, region, key, value)

    def __setitem__(self, key: str, value: Any) -> None:
        self.set_scoped(self._scoped(key)[0], self._scoped(key)[1], key, value)

    def set_scoped(self, account_id: str, region: str, key: str, value: Any) -> None:
        scope = (account_id, region, key)
        if scope in self._data and self._data[scope] is not value:
            self._taken(scope)
        self._data[scope] = self._packed(scope, value)
        self._changed()

    def __delitem__(self, key: str) -> None:
        self.pop_scoped(*self._scoped(key))

    def pop(self, key: str, *default: Any) -> Any:
        return self.pop_scoped(*self._scoped(key), *default)

    def pop_scoped(self, account_id: str, region: str, key: str, *default: Any) -> Any:
        scope = (account_id, region, key)
        if scope not in self._data:
            return self._data.pop(scope, *default)
        self._taken(scope)
        value = self._data.pop(scope)
        self._changed()
        return value

    def setdefault(self, key: str, default: Any = None) -> Any:
        if self._scoped(key) not in self._data:
            self[key] = default
        return self[key]

    def update(self, other: Any) -> None:
        fresh = AccountRegionScopedDict()
        fresh.update(other)
        for (account, region, key), value in fresh.all_items():
            self.set_scoped(account, region, key, value)

    def clear(self) -> None:
        for scope in list(self._data):
            self.pop_scoped(*scope)


class _Messages(list[dict[str, Any]]):
    """A queue's messages, which note each addition and deletion."""

    def __init__(
        self,
        messages: list[dict[str, Any]],
        note: Callable[[dict[str, Any]], None],
        forget: Callable[[dict[str, Any]], None],
    ) -> None:
        super().__init__(messages)
        self._note = note
        self._forget = forget

    def append(self, message: dict[str, Any]) -> None:
        super().append(message)
        self._note(message)

    def remove(self, message: dict[str, Any]) -> None:
        super().remove(message)
        self._forget(message)

    def clear(self) -> None:
        for message in self:
            self._forget(message)
        super().clear()


class Queue(dict[str, Any]):
    """A queue of the emulator.

    The emulator deletes messages by replacing the list with a shorter one.
    """

    def __init__(self, scope: Scope, queue: dict[str, Any], durable: "Durable") -> None:
        super().__init__(queue)
        self._durable = durable
        #: With the queue's name instead of its URL, which changes with the port.
        self.scope = (scope[0], scope[1], str(queue["name"]))
        #: Ids of messages that were deleted since a copy of the queue's rows began.
        self.gone: set[str] | None = None
        dict.__setitem__(self, "messages", self._watched([]))
        for message in queue["messages"]:
            self["messages"].append(message)

    def __setitem__(self, name: str, value: Any) -> None:
        if name != "messages":
            super().__setitem__(name, value)
            return
        old = self["messages"]
        if len(value) != len(old):  # With the same length, no message was left out.
            index, count = 0, len(value)
            for message in old:
                if index < count and value[index] is message:
                    index += 1
                else:
                    self.forget(message)
        super().__setitem__("messages", self._watched(value))

    def hold(self, messages: list[dict[str, Any]]) -> None:
        """Sets messages that were read from a file, without noting them."""
        super().__setitem__("messages", self._watched(messages))

    def note(self, message: dict[str, Any]) -> None:
        """Notes that a message was added or changed."""
        self._durable.note_message(("message", *self.scope, message["id"]), message)
        self._durable.arrivals.note(self.scope)

    def forget(self, message: dict[str, Any]) -> None:
        """Notes that a message was deleted."""
        if self.gone is not None:
            self.gone.add(message["id"])
        self._durable.note_message(("message", *self.scope, message["id"]), None)
        # In a FIFO queue, the next message of its group can be received now.
        self._durable.arrivals.note(self.scope)

    def note_sent(self, last: str | None) -> None:
        """Notes a FIFO queue's sequence number, and the deduplication entry after `last`."""
        self._durable.note(("fifo", *self.scope), dump(self["fifo_seq"]))
        if (key := self.last_deduplicated) is not None and key != last:
            self._durable.note(("dedup", *self.scope, key), dump(self["dedup_cache"][key]))

    @property
    def last_deduplicated(self) -> str | None:
        """The newest key of the deduplication cache."""
        return next(reversed(self["dedup_cache"]), None)

    def _watched(self, messages: list[dict[str, Any]]) -> _Messages:
        return _Messages(messages, self.note, self.forget)


def hook(durable: "Durable") -> None:
    """Makes the emulator note every change in `durable`.

    Call it once, before the emulator serves.
    """
    _hook_tables(durable)
    _hook_streams(durable)
    _hook_tokens(durable)
    _hook_queues(durable)
    _hook_objects(durable)
    hook_topics(durable)
    hook_buses(durable)
    hook_buckets(durable)
    hook_kinesis()
    hook_secrets()
    hook_stacks(durable.stack)
    hook_statements()
    for name, module in MODULES.items():
        module.handle_request = _noting_settings(name, module.handle_request, durable)
    # Its functions are the runtime's. No request reaches ministack's own.
    getattr(lambda_svc, "handle_request")  # noqa: B009 - a missing name ends the start
    lambda_svc.handle_request = LambdaApi(durable.functions, durable.invocations).handle


def _hook_tables(durable: "Durable") -> None:
    def packed(scope: Scope, table: Any) -> Any:
        return table if isinstance(table, _Table) else _Table(scope, table, durable)

    def taken(scope: Scope) -> None:
        for pk, sk, _ in dynamodb._tables.get_scoped(*scope)["items"].rows():
            durable.note(("item", *scope, pk, sk), None)

    dynamodb._tables = _Watched(
        dynamodb._tables, packed, taken, lambda: durable.note_service("dynamodb")
    )


def _hook_streams(durable: "Durable") -> None:
    def packed(scope: Scope, records: Any) -> Any:
        return (
            records
            if isinstance(records, Records)
            else new_records(scope, durable, [dump(record) for record in records])
        )

    def taken(scope: Scope) -> None:
        horizon, records = (
            dynamodb._stream_trimmed.get_scoped(*scope, 0),
            dynamodb._stream_records.get_scoped(*scope),
        )
        for number in range(len(records)):
            durable.note(("record", *scope, horizon + number), None)
        durable.note(("horizon", *scope), None)
        records.detach()  # A closed stream ends with this process.

    dynamodb._stream_records = _Watched(dynamodb._stream_records, packed, taken)


def new_records(scope: Scope, durable: "Durable", rows: list[bytes]) -> Records:
    def note(index: int, data: bytes) -> None:
        durable.note(
            ("record", *scope, dynamodb._stream_trimmed.get_scoped(*scope, 0) + index), data
        )
        durable.arrivals.note(STREAMS)

    def aged(gone: list[bytes]) -> None:
        first = dynamodb._stream_trimmed.get_scoped(*scope, 0)
        _note_dropped(durable, scope, first, len(gone))
        if gone:
            arn = dynamodb._tables.get_scoped(*scope, {}).get("LatestStreamArn")
            durable.mappings.note_aged(arn, load(gone[-1])["dynamodb"]["SequenceNumber"])

    return Records(note, aged, rows)


def _note_dropped(durable: "Durable", scope: Scope, first: int, count: int) -> None:
    for number in range(first, first + count):
        durable.note(("record", *scope, number), None)
    durable.note(("horizon", *scope), str(first + count).encode())


def drop_records(
    durable: "Durable", stream: str, read: list[str], *, before: float, most: int
) -> None:
    """Drops records that every mapping has read.

    These are records made before a time, and the oldest ones above `most`. `read` are the sequence
    numbers that the mappings have read to.
    """
    for scope, table in dynamodb._tables.all_items():
        records = dynamodb._stream_records.get_scoped(*scope)
        if table.get("LatestStreamArn") != stream or not records:
            continue
        indexes = [_index_of(records, number) for number in set(read)]
        # One of them comes before the remaining records.
        if any(index is None for index in indexes):
            return
        read_by_all = min(index for index in indexes if index is not None) + 1
        count = max(0, read_by_all - most)
        while (
            count < read_by_all
            and records[count]["dynamodb"]["ApproximateCreationDateTime"] < before
        ):
            count += 1
        if not count:
            return
        first = dynamodb._stream_trimmed.get_scoped(*scope, 0)
        _note_dropped(durable, scope, first, count)
        del records.rows[:count]
        dynamodb._stream_trimmed.set_scoped(*scope, first + count)


def _index_of(records: Records, number: str) -> int | None:
    """Returns the index of a record, or None.

    It uses bisection, because sequence numbers grow. If the clock has gone back, it searches one by
    one.
    """
    index = bisect_left(records, number, key=_number)
    if index < len(records) and _number(records[index]) == number:
        return index
    return next((index for index, record in enumerate(records) if _number(record) == number), None)


def _number(record: dict[str, Any]) -> str:
    return str(record["dynamodb"]["SequenceNumber"])


def last_number(stream: str) -> str:
    """Returns the sequence number of a stream's newest record, or "0" if the stream is empty."""
    for scope, table in dynamodb._tables.all_items():
        if table.get("LatestStreamArn") == stream and (
            records := dynamodb._stream_records.get_scoped(*scope)
        ):
            return _number(records[len(records) - 1])
    return "0"


def drop_aged_records() -> None:
    """Makes the emulator drop records older than 24 hours now, as it would before the next read."""
    for (account, region, table), _ in dynamodb._stream_records.all_items():
        dynamodb._trim_stream_records(table, account_id=account, region=region)


def _hook_tokens(durable: "Durable") -> None:
    store = dynamodb._txn_token_store

    def stored(token: str, entry: dict[str, Any]) -> None:
        kept = Token.of(entry)
        store(token, kept)
        scope = dynamodb._txn_idempotency._scoped(token)
        durable.note(("token", *scope), dump([kept.digest, kept.reply, kept.completed_at]))

    def packed(scope: Scope, entry: Any) -> Any:
        return entry if isinstance(entry, Token) else Token.of(entry)

    dynamodb._txn_idempotency = _Watched(
        dynamodb._txn_idempotency, packed, lambda scope: durable.note(("token", *scope), None)
    )
    dynamodb._txn_token_store = stored


def _hook_queues(durable: "Durable") -> None:
    def packed(scope: Scope, queue: Any) -> Any:
        return queue if isinstance(queue, Queue) else Queue(scope, queue, durable)

    def taken(scope: Scope) -> None:
        queue = sqs._queues.get_scoped(*scope)
        queue["messages"].clear()
        for key in queue["dedup_cache"]:
            durable.note(("dedup", *queue.scope, key), None)
        durable.note(("fifo", *queue.scope), None)

    sqs._queues = _Watched(sqs._queues, packed, taken, lambda: durable.note_service("sqs"))
    sqs._collect_msgs = _noting_received(sqs._collect_msgs)
    sqs._act_send_message = sqs._HANDLERS["SendMessage"] = _noting_sent(sqs._act_send_message)
    for name in ("ChangeMessageVisibility", "ChangeMessageVisibilityBatch"):
        sqs._HANDLERS[name] = _noting_visibility(sqs._HANDLERS[name])
    sqs._HANDLERS["ReceiveMessage"] = _long_polling(sqs._HANDLERS["ReceiveMessage"], durable)


def _noting_received(collect: Callable[..., Any]) -> Callable[..., Any]:
    def collected(queue: Queue, count: int, visibility: int) -> Any:
        chosen: Any = queue
        if not queue["is_fifo"]:
            chosen = {"is_fifo": False, "messages": next_messages(queue["messages"], count)}
        messages = collect(chosen, count, visibility)
        for message in messages:
            queue.note(message)
        return messages

    return collected


def next_messages(messages: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """Returns the messages of a standard queue that are received next, by message groups.

    The group with the fewest messages in flight is the next one, and of several the one that waits
    longest. So a group with a backlog does not delay the others. AWS does about the same, without
    saying how.
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html
    """
    now = time.time()
    waiting: dict[Any, deque[tuple[int, dict[str, Any]]]] = {}
    in_flight: Counter[Any] = Counter()
    for index, message in enumerate(messages):
        group = message.get("group_id")
        if message.get("visible_at", 0) <= now:
            waiting.setdefault(group, deque()).append((index, message))
        elif message.get("receive_count"):
            in_flight[group] += 1
    chosen: list[dict[str, Any]] = []
    while waiting and len(chosen) < count:
        group = min(waiting, key=lambda group: (in_flight[group], waiting[group][0][0]))
        chosen.append(waiting[group].popleft()[1])
        in_flight[group] += 1
        if not waiting[group]:
            del waiting[group]
    return chosen


def _long_polling(
    receive: Callable[..., Awaitable[dict[str, Any]]], durable: "Durable"
) -> Callable[..., Awaitable[dict[str, Any]]]:
    """Returns a long poll that answers as soon as a message is visible.

    The emulator's own long poll looks ten times a second.
    AWS's SQS Developer Guide, "Short and long polling".
    """

    async def received(data: dict[str, Any], url: str) -> dict[str, Any]:
        queue, started = sqs._get_q(data.get("QueueUrl", url), "sqs:ReceiveMessage"), time.time()
        wait = data.get("WaitTimeSeconds")
        if wait is None:
            wait = queue["attributes"].get("ReceiveMessageWaitTimeSeconds", "0")
        # A caller waits for real seconds, even if a test moves the stack's clock meanwhile.
        ends = time.monotonic() + int(wait)
        while True:
            seen = durable.arrivals.count(queue.scope)
            answer = await receive({**data, "WaitTimeSeconds": 0}, url)
            now, left = time.time(), ends - time.monotonic()
            if answer or left <= 0 or durable.arrivals.is_closed:
                return answer
            # A delay or a visibility timeout may end first.
            later = [
                message["visible_at"]
                for message in queue["messages"]
                if message["visible_at"] > started
            ]
            started = now
            pause = min([left, *(moment - now for moment in later)])
            await durable.arrivals.wait(queue.scope, seen, max(0.0, pause) + _CLOCK_STEP)

    return received


def queues() -> list[Queue]:
    """Returns all queues."""
    return list(sqs._queues.all_values())


def _noting_sent(send: Callable[..., Any]) -> Callable[..., Any]:
    def sent(data: dict[str, Any], url: str) -> Any:
        queue = sqs._get_q(data.get("QueueUrl", url))
        last = queue.last_deduplicated
        result = send(data, url)
        if queue["is_fifo"]:
            queue.note_sent(last)
        return result

    return sent


def _noting_visibility(act: Callable[..., Any]) -> Callable[..., Any]:
    def acted(data: dict[str, Any], url: str) -> Any:
        result = act(data, url)
        queue = sqs._get_q(data.get("QueueUrl", url))
        handles = {entry.get("ReceiptHandle") for entry in data.get("Entries", [data])}
        for message in queue["messages"]:
            if message["receipt_handle"] in handles and message["receipt_handle"] is not None:
                queue.note(message)
        return result

    return acted


def _hook_objects(durable: "Durable") -> None:
    """Hooks into the objects of buckets.

    An overwritten object changes at the commit. Notifications are sent before the response.
    """
    write, persist = s3._atomic_write, s3._persist_object

    def written(path: str, data: Any, *, text: bool = False) -> None:
        target = durable.staging(path) if os.path.exists(path) else path
        try:
            write(target, data, text=text)
        except OSError as problem:
            durable.note_failed_file(problem)
            raise
        if target == path:
            durable.note_file(path)
        else:
            durable.note_staged(path, target)

    def persisted(bucket: str, key: str, obj: Any) -> None:
        persist(bucket, key, obj)  # There, a failure is only logged.
        path = s3._object_disk_path(bucket, key)
        if path is None:
            return
        files = (path, f"{path}.meta.json")
        if not all(map(os.path.exists, files)):
            # The half of a new object would keep its space for ever.
            for file in files:
                with suppress(FileNotFoundError):
                    os.unlink(file)
            durable.note_failed_file(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def fired(bucket: str, key: str, event: str, *facts: Any, **more: Any) -> None:
        if bucket in s3._bucket_notifications:
            s3._fire_s3_event(
                bucket, key, event, *facts, sequencer=s3._next_event_sequencer(event), **more
            )

    s3._atomic_write, s3._persist_object = written, persisted
    getattr(s3, "_fire_s3_event_async")  # noqa: B009 - a missing name ends the start
    s3._fire_s3_event_async = fired


def load_objects() -> None:
    """Reads the objects of buckets from their files again."""
    s3._load_persisted_data()


def _noting_settings(
    name: str, handle: Callable[..., Any], durable: "Durable"
) -> Callable[..., Any]:
    """Returns a service's handler that notes when a call may have changed settings."""

    async def handled(
        method: str,
        path: str,
        headers: dict[str, str],
        body: bytes,
        query: dict[str, list[str]],
        **more: Any,
    ) -> Any:
        if headers.get("x-amz-target", "").rpartition(".")[2] not in _DATA_CALLS and not (
            name == "s3" and method in ("GET", "HEAD")
        ):
            durable.note_service(name)
        return await handle(method, path, headers, body, query, **more)

    return handled
