"""Strict reading of JSON that came from outside: HTTP bodies, queue messages, task payloads.

Refuses what would be guessed at otherwise: unknown fields, duplicate keys, NaN, wrong types. Each
refusal names the field.
"""

import json
import math
import re
from typing import Any, Final

from mayfly.core.errors import InvalidRequest, PayloadTooLarge

__all__ = ["NAME", "Fields", "canonical_json", "parse_json", "read_idempotency_key"]

#: Names of counters, tasks, schedules and subjects (design: one alphabet, safe in URLs, keys and
#: logs).
NAME: Final = re.compile(r"[A-Za-z0-9._:@+-]{1,128}")
_IDEMPOTENCY_KEY: Final = re.compile(r"[\x21-\x7e]{1,255}")
_MISSING: Final = object()
#: The whole numbers up to here are exact as floats (RFC 8259, 6).
_EXACT: Final = 2**53
#: Levels of arrays and objects that a value may have: what can be read at one depth of the call
#: stack must not fail at another.
_MAX_DEPTH: Final = 100


def parse_json(raw: str | bytes, *, limit: int, where: str = "body") -> Any:
    """The value of a JSON text of at most `limit` bytes (RFC 8259, with I-JSON's ban on duplicate
    keys, RFC 7493, 2.3).

    Raises PayloadTooLarge, or InvalidRequest for anything that is not strict JSON.
    """
    size = len(raw) if isinstance(raw, bytes) else len(raw.encode("utf-8", "surrogatepass"))
    if size > limit:
        raise PayloadTooLarge(where, size, limit)
    try:
        # Decoded here: `json.loads` would take UTF-16 and UTF-32 as well. RFC 8259, 8.1: UTF-8
        # only.
        text = raw.decode() if isinstance(raw, bytes) else raw
        value = json.loads(
            text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite
        )
        # A lone surrogate parses, but cannot be stored or sent; find it here, where its sender can
        # be told.
        json.dumps(value, ensure_ascii=False).encode()
    except InvalidRequest:
        raise
    except RecursionError:
        raise InvalidRequest(where, "not valid JSON (nested too deeply)") from None
    except json.JSONDecodeError as problem:
        raise InvalidRequest(where, f"not valid JSON ({problem})") from None
    except ValueError:
        raise InvalidRequest(
            where, "not valid JSON (no UTF-8, or a number of too many digits)"
        ) from None
    if _is_deeper(value, _MAX_DEPTH):
        raise InvalidRequest(where, f"nested deeper than {_MAX_DEPTH} levels")
    return value


def canonical_json(value: Any) -> str:
    """The shortest JSON of a value, keys sorted: equal values give equal texts.

    Raises ValueError for NaN and infinities.
    """
    return json.dumps(
        value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    )


def read_idempotency_key(text: str | None) -> str | None:
    """An idempotency key as sent, bare or as the quoted string of Idempotency-Key draft-07.

    Raises InvalidRequest.
    """
    if text is None:
        return None
    bare = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
    if not _IDEMPOTENCY_KEY.fullmatch(bare):
        raise InvalidRequest(
            "Idempotency-Key", "must have 1 to 255 printable ASCII characters, none of them a space"
        )
    return bare


class Fields:
    """The members of a JSON object, read one by one; `finish` refuses what nobody asked for."""

    def __init__(self, value: Any, where: str = "body") -> None:
        if not isinstance(value, dict):
            raise InvalidRequest(where, f"must be a JSON object, not {_kind(value)}")
        self._left = dict(value)
        self._where = where

    def text(
        self, name: str, *, pattern: re.Pattern[str] | None = None, default: Any = _MISSING
    ) -> Any:
        """A text, matching `pattern` whole if there is one."""
        value = self._take(name, default)
        if value is default:
            return value
        if not isinstance(value, str):
            raise InvalidRequest(name, f"must be a text, not {_kind(value)}")
        if pattern is not None and not pattern.fullmatch(value):
            raise InvalidRequest(name, f"must match {pattern.pattern}")
        return value

    def integer(self, name: str, low: int, high: int, *, default: Any = _MISSING) -> Any:
        """A whole number from `low` to `high`; `2.0` is one, too (JSON Schema 2020-12, core,
        4.2.3), as far as a float is exact.
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
        """A number from `low` to `high`."""
        value = self._take(name, default)
        if value is default:
            return value
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise InvalidRequest(name, f"must be a number, not {_kind(value)}")
        if not low <= value <= high:
            raise InvalidRequest(name, f"must be from {low} to {high}")
        return value

    def boolean(self, name: str, *, default: Any = _MISSING) -> Any:
        """`true` or `false`."""
        value = self._take(name, default)
        if value is not default and not isinstance(value, bool):
            raise InvalidRequest(name, f"must be true or false, not {_kind(value)}")
        return value

    def anything(self, name: str, *, default: Any = _MISSING) -> Any:
        """Any JSON value."""
        return self._take(name, default)

    def finish(self) -> None:
        """Raises InvalidRequest when a field is left that was not asked for."""
        for name in self._left:
            raise InvalidRequest(name[:128], "unknown field")

    def _take(self, name: str, default: Any) -> Any:
        value = self._left.pop(name, default)
        if value is _MISSING:
            raise InvalidRequest(name, "is missing")
        return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    seen: dict[str, Any] = {}
    for name, value in pairs:
        if name in seen:
            raise InvalidRequest(name[:128], "appears twice")
        seen[name] = value
    return seen


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise InvalidRequest("body", f"{text[:40]} is beyond the range of a number")
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    containers = [value]
    for _ in range(levels):
        inner = [
            each
            for one in containers
            if isinstance(one, dict | list)
            for each in (one.values() if isinstance(one, dict) else one)
        ]
        containers = [each for each in inner if isinstance(each, dict | list)]
        if not containers:
            return False
    return True


def _refuse_constant(constant: str) -> Any:
    raise InvalidRequest("body", f"{constant} is not JSON")


def _kind(value: Any, *, exact: bool = False) -> str:
    if value is None:
        return "null"
    if exact and isinstance(value, float):
        return "one with a fraction"
    return {
        bool: "a boolean",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "an array",
    }.get(type(value), "an object")
