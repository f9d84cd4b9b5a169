"""Strict reading of JSON from outside: HTTP bodies, queue messages, task payloads.

Unknown fields, duplicate keys, NaN and wrong types are refused. Each error names the field.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

from mayfly.core.errors import InvalidRequest, PayloadTooLarge

__all__ = [
    "NAME",
    "NAME_PROBLEM",
    "Fields",
    "canonical_json",
    "check_json",
    "parse_json",
    "read_idempotency_header",
    "read_idempotency_key",
    "with_whole_numbers",
]

#: Names of counters, tasks, schedules and subjects: one alphabet, safe in URLs, keys and logs.
#: `.` and `..` are not names: HTTP clients remove them from a path (RFC 3986, 5.2.4).
NAME: Final = re.compile(r"(?!\.\.?$)[A-Za-z0-9._:@+-]{1,128}")
#: The problem of a text that NAME does not match.
NAME_PROBLEM: Final = (
    "must match [A-Za-z0-9._:@+-]{1,128}, and cannot be . or .., which HTTP clients remove from "
    "paths"
)
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
#: A key in a header: the quoted string of Idempotency-Key draft-07 (RFC 9651, 3.3.3), or bare. A
#: bare one has no quotes, and no comma: gateways join header fields of one name with commas.
_QUOTED_KEY: Final = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_BARE_KEY: Final = re.compile(r"[^,\"]*")
_MISSING: Final = object()
#: Whole numbers up to this one are exact as floats (RFC 8259, 6).
_EXACT: Final = 2**53
#: One encoder for all calls: `json.dumps` makes one in each call with options.
_CANONICAL: Final = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
)
#: Levels of arrays and objects that a value may have. Without this bound, a value could be read at
#: one depth of the call stack and fail at another.
_MAX_DEPTH: Final = 100
_CONTAINERS: Final = (dict, list, tuple)


def parse_json(raw: str | bytes, *, limit: int, where: str = "body") -> Any:
    """Returns the value of a JSON text of at most `limit` bytes.

    Follows RFC 8259, and refuses duplicate keys as I-JSON does (RFC 7493, 2.3). `where` names the
    text in errors. Raises PayloadTooLarge, or InvalidRequest for a text that is not strict JSON.
    """
    size = len(raw) if isinstance(raw, bytes) else len(raw.encode("utf-8", "surrogatepass"))
    if size > limit:
        raise PayloadTooLarge(where, size, limit)
    try:
        # Decoded here, because `json.loads` accepts UTF-16 and UTF-32 too. RFC 8259, 8.1 allows
        # UTF-8 only.
        text = raw.decode() if isinstance(raw, bytes) else raw
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
        )
        # A lone surrogate parses, but cannot be stored or sent. It is refused here, so that the
        # caller gets the error.
        json.dumps(value, ensure_ascii=False).encode()
    except InvalidRequest:
        raise
    except RecursionError:
        raise InvalidRequest(where, "not valid JSON (nested too deeply)") from None
    except json.JSONDecodeError as problem:
        raise InvalidRequest(where, f"not valid JSON ({problem})") from None
    except ValueError:
        raise InvalidRequest(
            where, "not valid JSON (not UTF-8, or a number with too many digits)"
        ) from None
    if any(level == _MAX_DEPTH for level, _ in enumerate(_levels(value))):
        raise InvalidRequest(where, f"nested deeper than {_MAX_DEPTH} levels")
    return value


def canonical_json(value: Any) -> str:
    """Returns the shortest JSON of a value, keys sorted: equal values give equal texts.

    Raises ValueError for NaN and infinities.
    """
    return _CANONICAL.encode(value)


def check_json(field: str, value: Any) -> None:
    """Raises InvalidRequest if JSON would change Python's `value`, or make it unreadable.

    Keys must be texts: Python's encoder changes others to texts, and cannot sort a mixture. NaN and
    infinities are not JSON (RFC 8259, 6). There are at most 100 levels of arrays and objects, as in
    what comes from outside, since a value that was written at one depth of the call stack must be
    readable at any other. Other types are left to the encoder.
    """
    for depth, containers in enumerate(_levels([value])):
        if depth > _MAX_DEPTH:
            raise InvalidRequest(
                field, f"nested deeper than {_MAX_DEPTH} levels, or circular (it contains itself)"
            )
        for name in (
            name for container in containers if isinstance(container, dict) for name in container
        ):
            if not isinstance(name, str):
                raise InvalidRequest(
                    field,
                    f"the keys of objects must be texts, not {type(name).__name__} ({name!r:.40})",
                )
        for member in (member for container in containers for member in _members(container)):
            if isinstance(member, float) and not math.isfinite(member):
                raise InvalidRequest(field, f"{member} is not JSON")


def with_whole_numbers(value: Any) -> Any:
    """Returns a JSON value with `1` in place of `1.0`, also inside: one spelling for each number.

    RFC 8785, 3.2.2.3 writes both as `1`; so texts of equal values are equal.
    """
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: with_whole_numbers(member) for name, member in value.items()}
    if isinstance(value, list | tuple):
        return [with_whole_numbers(member) for member in value]
    return value


def read_idempotency_header(value: str | None) -> str | None:
    """Returns the idempotency key in a header, None if there is no header.

    The header has one item: a quoted string (Idempotency-Key draft-07), or the bare key. Escapes
    in a quoted string stay as they were sent. Raises InvalidRequest.
    """
    if value is None:
        return None
    item = value.strip(" ")
    if quoted := _QUOTED_KEY.fullmatch(item):
        return _checked_key(quoted[1])
    if not _BARE_KEY.fullmatch(item):
        raise InvalidRequest(
            "Idempotency-Key",
            "must be one key in one header field; a key with a comma is sent in quotes, and a "
            'quote inside of quotes as \\"',
        )
    return _checked_key(item)


def read_idempotency_key(text: str | None) -> str | None:
    """Returns the idempotency key in a message, None if it has none.

    Quotes around it are left out, as in a header. Raises InvalidRequest.
    """
    if text is None:
        return None
    return _checked_key(text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text)


def _checked_key(key: str) -> str:
    if not _IDEMPOTENCY_KEY.fullmatch(key):
        raise InvalidRequest(
            "Idempotency-Key", "must have 1 to 255 printable ASCII characters, none of them a space"
        )
    return key


class Fields:
    """The members of a JSON object, read one by one; `finish` refuses members that were not read.

    Each method returns a member's value, or `default` if the member is missing. All of them raise
    InvalidRequest. `where` names the object in errors.
    """

    def __init__(self, value: Any, where: str = "body") -> None:
        if not isinstance(value, dict):
            raise InvalidRequest(where, f"must be a JSON object, not {_kind(value)}")
        self._left = dict(value)
        self._where = where

    def text(
        self, name: str, *, pattern: re.Pattern[str] | None = None, default: Any = _MISSING
    ) -> Any:
        """Returns a text. If there is a `pattern`, the whole text must match it."""
        value = self._take(name, default)
        if value is default:
            return value
        if not isinstance(value, str):
            raise InvalidRequest(name, f"must be a text, not {_kind(value)}")
        if pattern is not None and not pattern.fullmatch(value):
            problem = NAME_PROBLEM if pattern is NAME else f"must match {pattern.pattern}"
            raise InvalidRequest(name, problem)
        return value

    def integer(self, name: str, low: int, high: int, *, default: Any = _MISSING) -> Any:
        """Returns a whole number from `low` to `high`.

        `2.0` counts as one (JSON Schema 2020-12, core, 4.2.3), up to the size at which a float is
        exact.
        """
        value = self._take(name, default)
        if value is default:
            return value
        if isinstance(value, float) and value.is_integer() and abs(value) <= _EXACT:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise InvalidRequest(name, f"must be a whole number, not {_kind(value, exact=True)}")
        if not low <= value <= high:
            raise InvalidRequest(name, f"must be from {low} to {high}")
        return value

    def number(self, name: str, low: float, high: float, *, default: Any = _MISSING) -> Any:
        """Returns a number from `low` to `high`."""
        value = self._take(name, default)
        if value is default:
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidRequest(name, f"must be a number, not {_kind(value)}")
        if not low <= value <= high:
            raise InvalidRequest(name, f"must be from {low} to {high}")
        return value

    def boolean(self, name: str, *, default: Any = _MISSING) -> Any:
        """Returns `true` or `false`."""
        value = self._take(name, default)
        if value is not default and not isinstance(value, bool):
            raise InvalidRequest(name, f"must be true or false, not {_kind(value)}")
        return value

    def anything(self, name: str, *, default: Any = _MISSING) -> Any:
        """Returns any JSON value."""
        return self._take(name, default)

    def finish(self) -> None:
        """Raises InvalidRequest if a member has not been read."""
        for name in self._left:
            raise InvalidRequest(name[:128], "unknown field")

    def _take(self, name: str, default: Any) -> Any:
        value = self._left.pop(name, default)
        if value is _MISSING:
            raise InvalidRequest(name, "is missing")
        return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, value in pairs:
        if name in members:
            raise InvalidRequest(name[:128], "appears twice")
        members[name] = value
    return members


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InvalidRequest("body", f"{text[:40]} is outside the range of a number")
    return value


def _levels(value: Any) -> Iterator[list[Any]]:
    """Yields the arrays and objects of each level of a value, each container once a level.

    A value that contains itself has levels without end.
    """
    level = [value] if isinstance(value, _CONTAINERS) else []
    while level:
        yield level
        inner = {
            id(member): member
            for container in level
            for member in _members(container)
            if isinstance(member, _CONTAINERS)
        }
        level = list(inner.values())


def _members(container: Any) -> Iterable[Any]:
    return container.values() if isinstance(container, dict) else container


def _refuse_constant(constant: str) -> Any:
    raise InvalidRequest("body", f"{constant} is not JSON")


def _kind(value: Any, *, exact: bool = False) -> str:
    if value is None:
        return "null"
    if exact and isinstance(value, float):
        is_whole = value.is_integer()
        return "a float beyond 2^53, which is not exact" if is_whole else "one with a fraction"
    return {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "an array",
    }.get(type(value), "an object")
