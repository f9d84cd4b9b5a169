"""Writes of PartiQL in the emulator: they get into the table's stream, as on AWS.

ministack itself adds records for the writes of other calls only.
"""

import copy
from collections.abc import Callable
from typing import Any, Final

from ministack.services import dynamodb

__all__ = ["hook_statements"]

_WRITES: Final = ("_partiql_insert", "_partiql_update", "_partiql_delete")
#: Calls that run statements. The batch of statements runs each by the first one.
_CALLS: Final = ("_execute_statement", "_execute_transaction")

#: A table with an item before and after a write. None is an absent item.
Change = tuple[str, dict[str, Any] | None, dict[str, Any] | None]


def hook_statements() -> None:
    """Makes ministack add a stream record for each write of a statement.

    A transaction's records come when it is committed, so one that is cancelled has none.
    """
    changes: list[Change] = []
    for name in _WRITES:
        setattr(dynamodb, name, _noting(getattr(dynamodb, name), changes))
    for name in _CALLS:
        setattr(dynamodb, name, _streaming(getattr(dynamodb, name), changes))


def _noting(write: Callable[..., Any], changes: list[Change]) -> Callable[..., Any]:
    def written(table: Any, parsed: Any, *more: Any) -> Any:
        before = _item(table, parsed)
        reply = write(table, parsed, *more)
        if reply[0] == 200:
            changes.append((table["TableName"], before, _item(table, parsed)))
        return reply

    return written


def _streaming(call: Callable[..., Any], changes: list[Change]) -> Callable[..., Any]:
    def called(data: Any) -> Any:
        changes.clear()
        reply = call(data)
        if reply[0] == 200:
            for table, before, after in changes:
                event = "REMOVE" if after is None else "MODIFY" if before is not None else "INSERT"
                if before != after:
                    dynamodb._emit_stream_event(table, event, before, after)
        changes.clear()
        return reply

    return called


def _item(table: Any, parsed: Any) -> dict[str, Any] | None:
    """Returns a copy of the item that a statement names, None if it names none or it is absent."""
    if parsed["op"] == "INSERT":
        item = parsed.get("item") or {}
        item = item.get("M", item) if set(item) == {"M"} else item
        names = (table["pk_name"], table["sk_name"])
        pk, sk = (dynamodb._extract_key_val(item.get(name)) if name else "" for name in names)
        sk = sk if table["sk_name"] else "__no_sort__"
    else:
        pk, sk, _, refusal = dynamodb._partiql_key_target(table, parsed)
        if refusal:
            return None
    found = table["items"].get(pk, {}).get(sk)
    return None if found is None else copy.deepcopy(dict(found))
