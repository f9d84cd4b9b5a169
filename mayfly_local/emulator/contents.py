"""Converts the emulator's state to rows of the journal, and back."""

import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from ministack.core import persistence
from ministack.core.responses import AccountRegionScopedDict
from ministack.services import dynamodb, sqs

from mayfly_local.emulator.hooks import MODULES, Queue, Scope, new_records
from mayfly_local.emulator.journal import Row, StateError
from mayfly_local.emulator.kinesis import settings_of_kinesis
from mayfly_local.emulator.packed import Items, Records, Token, dump, load

if TYPE_CHECKING:
    from mayfly_local.emulator.durable import Durable

__all__ = ["Found", "at_port", "is_settled", "item_of", "rows", "settings_of", "tables"]

#: Parts of a table that are not settings: its items, and their counts.
_NOT_SETTINGS: Final = {"items", "_index_members", "ItemCount", "TableSizeBytes"}
_TABLE_SETTINGS: Final = (
    "tags", "ttl_settings", "pitr_settings", "kinesis_destinations", "contributor_insights",
    "backups", "resource_policies", "exports",
    "imports",
)  # fmt: skip
_QUEUE_STATE: Final = {"messages", "dedup_cache", "fifo_seq"}
_COUNTS: Final = "ApproximateNumberOf"
_QUEUE_URL: Final = re.compile(rb"http://127\.0\.0\.1:\d+/(\d{12}/)")


def tables() -> Iterator[tuple[str, Items]]:
    """Yields all tables: name and items."""
    for (_, _, name), table in dynamodb._tables.all_items():
        yield name, table["items"]


def item_of(table: str, pk: Any, sk: Any) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Returns an item and its primary key, in the form of DynamoDB's API.

    Returns None if the item does not exist.
    """
    for (_, _, name), contents in dynamodb._tables.all_items():
        if (
            name == table
            and pk in contents["items"]
            and (item := contents["items"][pk].get(sk)) is not None
        ):
            return item, {
                part["AttributeName"]: item[part["AttributeName"]] for part in contents["KeySchema"]
            }
    return None


def rows(durable: "Durable") -> Iterator[Row]:
    """Yields every current row, with its value at the moment of reading.

    The state may change between two rows.
    """
    for scope, table in dynamodb._tables.all_items():
        for pk, sk, data in table["items"].rows():
            # The table was deleted, or created again.
            if dynamodb._tables.get_scoped(*scope) is not table:
                break
            yield ("item", *scope, pk, sk), data
    for scope, records in dynamodb._stream_records.all_items():
        yield from _record_rows(scope, records)
    for scope, token in dynamodb._txn_idempotency.all_items():
        if (
            dynamodb._txn_idempotency.get_scoped(*scope) is token
            and time.time() - token.completed_at < dynamodb._TXN_TOKEN_TTL
        ):
            yield ("token", *scope), dump([token.digest, token.reply, token.completed_at])
    for scope, queue in sqs._queues.all_items():
        if sqs._queues.get_scoped(*scope) is queue:
            yield from _queue_rows(scope, queue)
    yield from durable.invocations.rows()
    yield from durable.mappings.rows()


def _record_rows(scope: Scope, records: Records) -> Iterator[Row]:
    first = dynamodb._stream_trimmed.get_scoped(*scope, 0)
    yield ("horizon", *scope), str(first).encode()
    for number in range(first, first + len(records.rows)):
        if dynamodb._stream_records.get_scoped(*scope) is not records:
            return
        # Records before it may have been dropped meanwhile.
        index = number - dynamodb._stream_trimmed.get_scoped(*scope, 0)
        if 0 <= index < len(records.rows):
            yield ("record", *scope, number), records.rows[index]


def _queue_rows(scope: Scope, queue: Queue) -> Iterator[Row]:
    queue.gone = set()
    if queue["is_fifo"]:
        yield ("fifo", *queue.scope), dump(queue["fifo_seq"])
        for key, entry in list(queue["dedup_cache"].items()):
            yield ("dedup", *queue.scope, key), dump(entry)
    for message in list(queue["messages"]):
        if sqs._queues.get_scoped(*scope) is not queue:
            return
        if message["id"] not in queue.gone:
            yield ("message", *queue.scope, message["id"]), dump(message)
    queue.gone = None


def settings_of(name: str) -> bytes:
    """Returns a service's settings in the emulator's own JSON.

    Items, messages and their counts are left out.
    """
    state = (
        _settings_of_tables()
        if name == "dynamodb"
        else _settings_of_queues()
        if name == "sqs"
        else settings_of_kinesis()
        if name == "kinesis"
        else MODULES[name].get_state()
    )
    return json.dumps(state, default=persistence._json_default, sort_keys=True).encode()


def _settings_of_tables() -> dict[str, Any]:
    tables_by_scope = AccountRegionScopedDict()
    for scope, table in dynamodb._tables.all_items():
        tables_by_scope.set_scoped(
            *scope, {name: value for name, value in table.items() if name not in _NOT_SETTINGS}
        )
    others = {name: getattr(dynamodb, f"_{name}") for name in _TABLE_SETTINGS}
    return {"tables": tables_by_scope, **others}


def _settings_of_queues() -> dict[str, Any]:
    queues_by_scope = AccountRegionScopedDict()
    for scope, queue in sqs._queues.all_items():
        attributes = {
            name: value
            for name, value in queue["attributes"].items()
            if not name.startswith(_COUNTS)
        }
        queues_by_scope.set_scoped(
            *scope,
            {
                **{name: value for name, value in queue.items() if name not in _QUEUE_STATE},
                "attributes": attributes,
            },
        )
    return {"queues": queues_by_scope, "queue_name_to_url": sqs._queue_name_to_url}


@dataclass
class Found:
    """Rows that were read from a journal, and the state that they restore."""

    items: dict[Scope, dict[Any, dict[Any, bytes]]] = field(default_factory=dict)
    records: dict[Scope, dict[int, bytes]] = field(default_factory=dict)
    horizons: dict[Scope, int] = field(default_factory=dict)
    tokens: dict[Scope, bytes] = field(default_factory=dict)
    messages: dict[Scope, dict[str, bytes]] = field(default_factory=dict)
    numbers: dict[Scope, bytes] = field(default_factory=dict)
    deduplicated: dict[Scope, dict[str, bytes]] = field(default_factory=dict)
    staged: dict[str, bytes] = field(default_factory=dict)
    aged: dict[str, str] = field(default_factory=dict)
    services: dict[str, bytes] = field(default_factory=dict)
    positions: dict[str, dict[str, Any]] = field(default_factory=dict)
    lost: dict[str, bytes] = field(default_factory=dict)
    invocations: dict[str, bytes] = field(default_factory=dict)

    def take(self, key: tuple[Any, ...], value: bytes | None) -> None:
        """Adds a row, in the order of the journal.

        Raises StateError if the row's kind is unknown.
        """
        kind, *rest = key
        taker = getattr(self, f"_take_{kind}", None)
        if taker is None:
            raise StateError(
                f"the state has rows of a kind that this Mayfly does not know ({kind!r}); a newer "
                "Mayfly wrote them, so start that one"
            )
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

    def _take_dedup(self, key: list[Any], value: bytes | None) -> None:
        *scope, name = key
        _keep(self.deduplicated.setdefault(tuple(scope), {}), name, value)

    def _take_staged(self, key: list[Any], value: bytes | None) -> None:
        _keep(self.staged, key[0], value)

    def _take_aged(self, key: list[Any], value: bytes | None) -> None:
        _keep(self.aged, key[0], None if value is None else value.decode())

    def _take_service(self, key: list[Any], value: bytes | None) -> None:
        _keep(self.services, key[0], value)

    def _take_position(self, key: list[Any], value: bytes | None) -> None:
        _keep(self.positions, key[0], None if value is None else json.loads(value))

    def _take_invocation(self, key: list[Any], value: bytes | None) -> None:
        _keep(self.invocations, key[0], value)

    def _take_lost(self, key: list[Any], value: bytes | None) -> None:
        _keep(self.lost, key[0], value)

    def restore(self, durable: "Durable", port: int) -> dict[str, bytes]:
        """Restores the emulator's state from the rows.

        Returns the settings by service, as they are afterwards.
        """
        for name, data in self.services.items():
            state = json.loads(at_port(name, data, port), object_hook=persistence._json_object_hook)
            for table in state["tables"]._data.values() if name == "dynamodb" else ():
                table["items"] = {}
            for queue in state["queues"]._data.values() if name == "sqs" else ():
                queue.update(messages=[], dedup_cache={}, fifo_seq=0)
            MODULES[name].load_persisted_state(state)
        for scope, table in dynamodb._tables.all_items():
            for pk, partition in self.items.pop(scope, {}).items():
                table["items"][pk].rows = partition
            dynamodb._update_counts(table)
            self._restore_stream(scope, durable)
        for scope, data in self.tokens.items():
            dynamodb._txn_idempotency.set_scoped(*scope, Token(*load(data)))
        for queue in sqs._queues.all_values():
            self._restore_queue(queue)
        return {name: settings_of(name) for name in self.services}

    def _restore_stream(self, scope: Scope, durable: "Durable") -> None:
        records = self.records.get(scope, {})
        first = max(self.horizons.get(scope, 0), min(records, default=0))
        if first or records:
            dynamodb._stream_trimmed.set_scoped(*scope, first)
            ordered = [records[number] for number in sorted(records) if number >= first]
            dynamodb._stream_records.set_scoped(*scope, new_records(scope, durable, ordered))

    def _restore_queue(self, queue: Queue) -> None:
        messages = [load(data) for data in self.messages.get(queue.scope, {}).values()]
        queue.hold(
            sorted(
                messages, key=lambda message: (message.get("seq") or "", message.get("sent_at", 0))
            )
        )
        if (sequence := self.numbers.get(queue.scope)) is not None:
            entries = [
                (key, load(data)) for key, data in self.deduplicated.get(queue.scope, {}).items()
            ]
            queue["fifo_seq"] = load(sequence)
            queue["dedup_cache"] = {
                key: entry
                for key, entry in sorted(entries, key=lambda item: item[1]["expire"])
                if entry["expire"] > time.time()
            }


def _keep(where: dict[Any, Any], key: Any, value: Any) -> None:
    if value is None:
        where.pop(key, None)
    else:
        where[key] = value


def at_port(service: str, data: bytes, port: int) -> bytes:
    """Returns settings in which the URLs of queues have this start's port.

    Only settings of queues and stacks contain such URLs; other text belongs to the user.
    """
    return (
        _QUEUE_URL.sub(rb"http://127.0.0.1:%d/\1" % port, data)
        if service in ("cloudformation", "sqs")
        else data
    )


def is_settled() -> bool:
    """Returns True if CloudFormation is not in the middle of a change."""
    stacks = MODULES["cloudformation"]._stacks.all_values()
    return not any(str(stack.get("StackStatus", "")).endswith("_IN_PROGRESS") for stack in stacks)
