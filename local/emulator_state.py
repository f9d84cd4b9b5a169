"""The emulator's state by its own names: where it changes, what it is as rows, and how rows become it again.

All that relies on ministack's private names stands here and in `local.emulator`. A name that is missing ends the start.
"""

import json
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ministack.core import persistence
from ministack.core.responses import AccountRegionScopedDict
from ministack.services import cloudformation, dynamodb, iam, s3, sqs, ssm

from local.journal import Row, StateError
from local.packed import Items, Records, Token, dump, load

if TYPE_CHECKING:
    from local.durable import Durable

__all__ = ["Found", "TakenOver", "drop_aged_records", "drop_records", "hook", "key_of", "rows", "settings_of", "tables"]

Scope = tuple[str, str, str]
_MODULES: Final = {"cloudformation": cloudformation, "dynamodb": dynamodb, "iam": iam, "s3": s3, "sqs": sqs, "ssm": ssm}
#: What of a table is not a setting: its items, and what is counted from them.
_NOT_SETTINGS: Final = {"items", "_index_members", "ItemCount", "TableSizeBytes"}
_TABLE_SETTINGS: Final = (
    "tags", "ttl_settings", "pitr_settings", "kinesis_destinations", "contributor_insights", "backups", "resource_policies", "exports",
    "imports",
)  # fmt: skip
_QUEUE_STATE: Final = {"messages", "dedup_cache", "fifo_seq"}
_COUNTS: Final = "ApproximateNumberOf"
#: Calls that change no settings, by the last part of X-Amz-Target.
_DATA_CALLS: Final = {
    "BatchExecuteStatement", "BatchGetItem", "BatchWriteItem", "ChangeMessageVisibility", "ChangeMessageVisibilityBatch", "DeleteItem",
    "DeleteMessage", "DeleteMessageBatch", "DescribeStream", "DescribeTable", "ExecuteStatement", "ExecuteTransaction", "GetItem",
    "GetParameter", "GetParameters", "GetQueueAttributes", "GetQueueUrl", "GetRecords", "GetShardIterator", "ListStreams", "PutItem",
    "Query", "ReceiveMessage", "Scan", "SendMessage", "SendMessageBatch", "TransactGetItems", "TransactWriteItems", "UpdateItem",
}  # fmt: skip


# ---------------------------------------------------------------- tables


class _Table(dict[str, Any]):
    """A table as the emulator has it, with packed items."""

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

    def _note(self, durable: "Durable", pk: Any, sk: Any, item: dict[str, Any] | None, data: bytes | None) -> None:
        durable.note(("item", *self._scope, pk, sk), data)
        if item is not None:
            durable.note_expiry(self._scope[2], pk, sk, item)


class _Watched(AccountRegionScopedDict):  # type: ignore[misc]  # ministack has no types
    """A store of the emulator's by account, region and name.

    Holds what `packed` makes of each value; tells `taken` of what is about to be taken out, and `changed` of both afterwards.
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


def tables() -> Iterator[tuple[str, Items]]:
    """All tables: name and items."""
    for (_, _, name), table in dynamodb._tables.all_items():
        yield name, table["items"]


def key_of(table: str, pk: Any, sk: Any) -> dict[str, Any] | None:
    """The primary key of an item, as DynamoDB's API has it; None if there is no such item."""
    for (_, _, name), found in dynamodb._tables.all_items():
        if name == table and pk in found["items"] and (item := found["items"][pk].get(sk)) is not None:
            return {each["AttributeName"]: item[each["AttributeName"]] for each in found["KeySchema"]}
    return None


# ---------------------------------------------------------------- queues


class _Messages(list[dict[str, Any]]):
    """A queue's messages, which tell of each that comes."""

    def __init__(
        self, messages: list[dict[str, Any]], note: Callable[[dict[str, Any]], None], forget: Callable[[dict[str, Any]], None]
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


class _Queue(dict[str, Any]):
    """A queue as the emulator has it. The emulator deletes messages by putting a list without them in the place of the last one."""

    def __init__(self, scope: Scope, queue: dict[str, Any], durable: "Durable") -> None:
        super().__init__(queue)
        self._durable = durable
        self.scope = scope
        dict.__setitem__(self, "messages", self._watched([]))
        for message in queue["messages"]:
            self["messages"].append(message)

    def __setitem__(self, name: str, value: Any) -> None:
        if name != "messages":
            super().__setitem__(name, value)
            return
        old = self["messages"]
        if len(value) != len(old):  # as long as before: nothing was left out
            index, count = 0, len(value)
            for message in old:
                if index < count and value[index] is message:
                    index += 1
                else:
                    self.forget(message)
        super().__setitem__("messages", self._watched(value))

    def hold(self, messages: list[dict[str, Any]]) -> None:
        """Takes messages as they were read from a file; notes nothing."""
        super().__setitem__("messages", self._watched(messages))

    def note(self, message: dict[str, Any]) -> None:
        """Takes note that a message has come, or has changed."""
        self._durable.note_message(("message", *self.scope, message["id"]), message)

    def forget(self, message: dict[str, Any]) -> None:
        """Takes note that a message is gone."""
        self._durable.note_message(("message", *self.scope, message["id"]), None)

    def note_numbers(self) -> None:
        """Takes note of a FIFO queue's numbers and deduplication."""
        self._durable.note(("fifo", *self.scope), dump([self["fifo_seq"], self["dedup_cache"]]))

    def _watched(self, messages: list[dict[str, Any]]) -> _Messages:
        return _Messages(messages, self.note, self.forget)


# ---------------------------------------------------------------- hooks


def hook(durable: "Durable") -> None:
    """Makes the emulator tell `durable` of every change. Once, before it serves."""
    _hook_tables(durable)
    _hook_streams(durable)
    _hook_tokens(durable)
    _hook_queues(durable)
    _hook_objects(durable)
    for name, module in _MODULES.items():
        module.handle_request = _noting_settings(name, module.handle_request, durable)


def _hook_tables(durable: "Durable") -> None:
    def packed(scope: Scope, table: Any) -> Any:
        return table if isinstance(table, _Table) else _Table(scope, table, durable)

    def taken(scope: Scope) -> None:
        for pk, sk, _ in dynamodb._tables.get_scoped(*scope)["items"].rows():
            durable.note(("item", *scope, pk, sk), None)

    dynamodb._tables = _Watched(dynamodb._tables, packed, taken, lambda: durable.note_service("dynamodb"))


def _hook_streams(durable: "Durable") -> None:
    def packed(scope: Scope, records: Any) -> Any:
        return records if isinstance(records, Records) else _records(scope, durable, [dump(record) for record in records])

    def taken(scope: Scope) -> None:
        horizon = dynamodb._stream_trimmed.get_scoped(*scope, 0)
        for number in range(len(dynamodb._stream_records.get_scoped(*scope))):
            durable.note(("record", *scope, horizon + number), None)
        durable.note(("horizon", *scope), None)

    dynamodb._stream_records = _Watched(dynamodb._stream_records, packed, taken)


def _records(scope: Scope, durable: "Durable", rows: list[bytes]) -> Records:
    def note(index: int, data: bytes) -> None:
        durable.note(("record", *scope, dynamodb._stream_trimmed.get_scoped(*scope, 0) + index), data)

    def aged(gone: list[bytes]) -> None:
        first = dynamodb._stream_trimmed.get_scoped(*scope, 0)
        _note_dropped(durable, scope, first, len(gone))
        if gone:
            arn = dynamodb._tables.get_scoped(*scope, {}).get("LatestStreamArn")
            durable.note_aged(arn, load(gone[-1])["dynamodb"]["SequenceNumber"])

    return Records(note, aged, rows)


def _note_dropped(durable: "Durable", scope: Scope, first: int, count: int) -> None:
    for number in range(first, first + count):
        durable.note(("record", *scope, number), None)
    durable.note(("horizon", *scope), str(first + count).encode())


def drop_records(durable: "Durable", stream: str, read: list[str]) -> None:
    """Drops the records that every mapping has read; `read` are the sequence numbers that they have read to."""
    for scope, table in dynamodb._tables.all_items():
        records = dynamodb._stream_records.get_scoped(*scope)
        if table.get("LatestStreamArn") != stream or not records:
            continue
        left, indexes = set(read), []
        for index, record in enumerate(records):
            if record["dynamodb"]["SequenceNumber"] in left:
                left.discard(record["dynamodb"]["SequenceNumber"])
                indexes.append(index)
                if not left:
                    break
        if left:  # one of them stands before what is still there
            return
        first, count = dynamodb._stream_trimmed.get_scoped(*scope, 0), min(indexes) + 1
        _note_dropped(durable, scope, first, count)
        del records.rows[:count]
        dynamodb._stream_trimmed.set_scoped(*scope, first + count)


def drop_aged_records() -> None:
    """Has the emulator drop records above 24 hours now, as it would before the next read."""
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

    dynamodb._txn_idempotency = _Watched(dynamodb._txn_idempotency, packed, lambda scope: durable.note(("token", *scope), None))
    dynamodb._txn_token_store = stored


def _hook_queues(durable: "Durable") -> None:
    def packed(scope: Scope, queue: Any) -> Any:
        return queue if isinstance(queue, _Queue) else _Queue(scope, queue, durable)

    def taken(scope: Scope) -> None:
        sqs._queues.get_scoped(*scope)["messages"].clear()
        durable.note(("fifo", *scope), None)

    sqs._queues = _Watched(sqs._queues, packed, taken, lambda: durable.note_service("sqs"))
    sqs._collect_msgs = _noting_received(sqs._collect_msgs)
    sqs._act_send_message = sqs._HANDLERS["SendMessage"] = _noting_sent(sqs._act_send_message)
    for name in ("ChangeMessageVisibility", "ChangeMessageVisibilityBatch"):
        sqs._HANDLERS[name] = _noting_visibility(sqs._HANDLERS[name])


def _noting_received(collect: Callable[..., Any]) -> Callable[..., Any]:
    def collected(queue: _Queue, count: int, visibility: int) -> Any:
        messages = collect(queue, count, visibility)
        for message in messages:
            queue.note(message)
        return messages

    return collected


def _noting_sent(send: Callable[..., Any]) -> Callable[..., Any]:
    def sent(data: dict[str, Any], url: str) -> Any:
        result = send(data, url)
        queue = sqs._get_q(data.get("QueueUrl", url))
        if queue["is_fifo"]:
            queue.note_numbers()
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
    """Objects of buckets: a file that cannot be written is an error for its sender, and notices go out before the answer."""
    write = s3._atomic_write

    def written(path: str, data: Any, *, text: bool = False) -> None:
        try:
            write(path, data, text=text)
        except OSError as problem:
            durable.note_failed_file(problem)
            raise
        durable.note_file(path)

    def fired(bucket: str, key: str, event: str, *facts: Any, **more: Any) -> None:
        if bucket in s3._bucket_notifications:
            s3._fire_s3_event(bucket, key, event, *facts, sequencer=s3._next_event_sequencer(event), **more)

    s3._atomic_write = written
    getattr(s3, "_fire_s3_event_async")  # noqa: B009 - a name that has moved ends the start
    s3._fire_s3_event_async = fired


def _noting_settings(name: str, handle: Callable[..., Any], durable: "Durable") -> Callable[..., Any]:
    """A service's handler that tells when a call may have changed settings."""

    async def handled(method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]], **more: Any) -> Any:
        if headers.get("x-amz-target", "").rpartition(".")[2] not in _DATA_CALLS and not (name == "s3" and method in ("GET", "HEAD")):
            durable.note_service(name)
        return await handle(method, path, headers, body, query, **more)

    return handled


# ---------------------------------------------------------------- rows


def rows(durable: "Durable") -> Iterator[Row]:
    """Every row that counts now. State may change while they are taken."""
    for scope, table in dynamodb._tables.all_items():
        for pk, sk, data in table["items"].rows():
            yield ("item", *scope, pk, sk), data
    for scope, records in dynamodb._stream_records.all_items():
        yield from _record_rows(scope, records)
    for scope, token in dynamodb._txn_idempotency.all_items():
        if time.time() - token.completed_at < dynamodb._TXN_TOKEN_TTL:
            yield ("token", *scope), dump([token.digest, token.reply, token.completed_at])
    for scope, queue in sqs._queues.all_items():
        yield from _queue_rows(scope, queue)
    yield from durable.position_rows()


def _record_rows(scope: Scope, records: Records) -> Iterator[Row]:
    first = dynamodb._stream_trimmed.get_scoped(*scope, 0)
    yield ("horizon", *scope), str(first).encode()
    for number in range(first, first + len(records.rows)):
        index = number - dynamodb._stream_trimmed.get_scoped(*scope, 0)  # records before it may have been dropped meanwhile
        if 0 <= index < len(records.rows):
            yield ("record", *scope, number), records.rows[index]


def _queue_rows(scope: Scope, queue: _Queue) -> Iterator[Row]:
    if queue["is_fifo"]:
        yield ("fifo", *scope), dump([queue["fifo_seq"], queue["dedup_cache"]])
    for message in list(queue["messages"]):
        yield ("message", *scope, message["id"]), dump(message)


def settings_of(name: str) -> bytes:
    """A service's settings in the emulator's own JSON, without items, messages and what is counted from them."""
    state = _settings_of_tables() if name == "dynamodb" else _settings_of_queues() if name == "sqs" else _MODULES[name].get_state()
    return json.dumps(state, default=persistence._json_default, sort_keys=True).encode()


def _settings_of_tables() -> dict[str, Any]:
    found = AccountRegionScopedDict()
    for scope, table in dynamodb._tables.all_items():
        found.set_scoped(*scope, {name: value for name, value in table.items() if name not in _NOT_SETTINGS})
    names = (
        "tags",
        "ttl_settings",
        "pitr_settings",
        "kinesis_destinations",
        "contributor_insights",
        "backups",
        "resource_policies",
        "exports",
        "imports",
    )
    return {"tables": found, **{name: getattr(dynamodb, f"_{name}") for name in names}}


def _settings_of_queues() -> dict[str, Any]:
    found = AccountRegionScopedDict()
    for scope, queue in sqs._queues.all_items():
        attributes = {name: value for name, value in queue["attributes"].items() if not name.startswith(_COUNTS)}
        found.set_scoped(*scope, {**{name: value for name, value in queue.items() if name not in _QUEUE_STATE}, "attributes": attributes})
    return {"queues": found, "queue_name_to_url": sqs._queue_name_to_url}


@dataclass
class Found:
    """Rows of a journal as they are read, and what becomes of them."""

    items: dict[Scope, dict[Any, dict[Any, bytes]]] = field(default_factory=dict)
    records: dict[Scope, dict[int, bytes]] = field(default_factory=dict)
    horizons: dict[Scope, int] = field(default_factory=dict)
    tokens: dict[Scope, bytes] = field(default_factory=dict)
    messages: dict[Scope, dict[str, bytes]] = field(default_factory=dict)
    numbers: dict[Scope, bytes] = field(default_factory=dict)
    services: dict[str, bytes] = field(default_factory=dict)
    positions: dict[str, dict[str, Any]] = field(default_factory=dict)
    lost: dict[str, bytes] = field(default_factory=dict)

    def take(self, key: tuple[Any, ...], value: bytes | None) -> None:
        """One row, in the order of the journal. Raises StateError for one of a kind that is not known."""
        kind, *rest = key
        taker = getattr(self, f"_take_{kind}", None)
        if taker is None:
            raise StateError(f"the state has rows of a kind that this Mayfly does not know ({kind!r}); it was written by a newer one")
        taker(rest, value)

    def _take_item(self, key: list[Any], value: bytes | None) -> None:
        *scope, pk, sk = key
        partitions = self.items.setdefault(tuple(scope), {})
        if value is not None:
            partitions.setdefault(pk, {})[sk] = value
        elif (partition := partitions.get(pk)) is not None:
            partition.pop(sk, None)
            if not partition:
                del partitions[pk]

    def _take_record(self, key: list[Any], value: bytes | None) -> None:
        *scope, number = key
        _keep(self.records.setdefault(tuple(scope), {}), number, value)

    def _take_horizon(self, key: list[Any], value: bytes | None) -> None:
        _keep(self.horizons, tuple(key), None if value is None else int(value))

    def _take_token(self, key: list[Any], value: bytes | None) -> None:
        _keep(self.tokens, tuple(key), value)

    def _take_message(self, key: list[Any], value: bytes | None) -> None:
        *scope, message_id = key
        _keep(self.messages.setdefault(tuple(scope), {}), message_id, value)

    def _take_fifo(self, key: list[Any], value: bytes | None) -> None:
        _keep(self.numbers, tuple(key), value)

    def _take_service(self, key: list[Any], value: bytes | None) -> None:
        _keep(self.services, key[0], value)

    def _take_position(self, key: list[Any], value: bytes | None) -> None:
        _keep(self.positions, key[0], None if value is None else json.loads(value))

    def _take_lost(self, key: list[Any], value: bytes | None) -> None:
        _keep(self.lost, key[0], value)

    def restore(self, durable: "Durable", port: int) -> dict[str, bytes]:
        """Makes it the emulator's state; returns the settings by service, as they are now."""
        for name, data in self.services.items():
            state = json.loads(_at_port(data, port), object_hook=persistence._json_object_hook)
            for table in state["tables"]._data.values() if name == "dynamodb" else ():
                table["items"] = {}
            for queue in state["queues"]._data.values() if name == "sqs" else ():
                queue.update(messages=[], dedup_cache={}, fifo_seq=0)
            _MODULES[name].load_persisted_state(state)
        for scope, table in dynamodb._tables.all_items():
            for pk, partition in self.items.pop(scope, {}).items():
                table["items"][pk].rows = partition
            dynamodb._update_counts(table)
            self._restore_stream(scope, durable)
        for scope, data in self.tokens.items():
            dynamodb._txn_idempotency.set_scoped(*scope, Token(*load(data)))
        for scope, queue in sqs._queues.all_items():
            self._restore_queue(scope, queue)
        return {name: settings_of(name) for name in self.services}

    def _restore_stream(self, scope: Scope, durable: "Durable") -> None:
        records = self.records.get(scope, {})
        first = max(self.horizons.get(scope, 0), min(records, default=0))
        if first or records:
            dynamodb._stream_trimmed.set_scoped(*scope, first)
            ordered = [records[number] for number in sorted(records) if number >= first]
            dynamodb._stream_records.set_scoped(*scope, _records(scope, durable, ordered))

    def _restore_queue(self, scope: Scope, queue: _Queue) -> None:
        found = [load(data) for data in self.messages.get(_former(scope, self.messages), {}).values()]
        queue.hold(sorted(found, key=lambda message: (message.get("sent_at", 0), message.get("seq") or "")))
        if (numbers := self.numbers.get(_former(scope, self.numbers))) is not None:
            queue["fifo_seq"], queue["dedup_cache"] = load(numbers)


def _keep(where: dict[Any, Any], key: Any, value: Any) -> None:
    if value is None:
        where.pop(key, None)
    else:
        where[key] = value


def _at_port(data: bytes, port: int) -> bytes:
    """Settings with the addresses of queues at this start's port."""
    return re.sub(rb"http://127\.0\.0\.1:\d+/", b"http://127.0.0.1:%d/" % port, data)


def _former(scope: Scope, by_scope: dict[Scope, Any]) -> Scope:
    """A queue's scope as it was written: its address holds the port of that run."""
    path = scope[2].partition("://")[2].partition("/")[2]
    return next((each for each in by_scope if each[:2] == scope[:2] and each[2].endswith(f"/{path}")), scope)


# ---------------------------------------------------------------- the form before 0.2.0


class TakenOver:
    """A folder of the form before 0.2.0: one JSON file for each service, written at a clean stop."""

    def __init__(self, folder: Path, states: dict[str, Any]) -> None:
        self._folder = folder
        self._states = states
        self.aside = folder / "before-0.2.0"

    @classmethod
    def find(cls, folder: Path) -> "TakenOver | None":
        """What the folder holds, None if it holds nothing. Raises StateError for what cannot be read."""
        states = {name: cls._read(folder / f"{name}.json") for name in _MODULES if (folder / f"{name}.json").exists()}
        return cls(folder, states) if states else None

    @classmethod
    def refuse(cls, folder: Path) -> None:
        """Raises StateError if the folder holds files of the old form beside a journal."""
        if found := [f"{name}.json" for name in _MODULES if (folder / f"{name}.json").exists()]:
            raise StateError(
                f"{folder} holds state of this version and, written after it, of an older one ({', '.join(found)}); "
                "move one of the two away: the journal-*.log files, or the .json files"
            )

    @staticmethod
    def _read(path: Path) -> Any:
        try:
            data = json.loads(path.read_text(), object_hook=persistence._json_object_hook)
        except (OSError, ValueError) as problem:
            raise StateError(f"{path} cannot be read, and is left as it is ({problem}); move it away to start without it") from None
        if not isinstance(data, dict) or "__ministack_format__" not in data:
            return data
        supported = persistence._state_format_version(path.stem)
        if not isinstance(data["__ministack_format__"], int) or data["__ministack_format__"] > supported:
            raise StateError(f"{path} was written by a newer emulator (form {data['__ministack_format__']}, this one reads {supported})")
        return data["payload"]

    def restore(self, durable: "Durable", port: int) -> None:
        """Makes it the emulator's state."""
        for name, state in self._states.items():
            if name == "dynamodb":
                for table in state.get("tables", AccountRegionScopedDict())._data.values():
                    table["items"] = dict(table.get("items") or {})
            _MODULES[name].load_persisted_state(_with_port(state, port))
        for _, table in dynamodb._tables.all_items():
            dynamodb._update_counts(table)

    def put_aside(self) -> None:
        """Moves its files where no start looks."""
        self.aside.mkdir(exist_ok=True)
        for name in self._states:
            os.replace(self._folder / f"{name}.json", self.aside / f"{name}.json")


def _with_port(state: Any, port: int) -> Any:
    text = json.dumps(state, default=persistence._json_default).encode()
    return json.loads(_at_port(text, port), object_hook=persistence._json_object_hook)
