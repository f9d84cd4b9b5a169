"""Payloads of tasks that declare a dataclass: the schema, and the check of a payload.

The schema is JSON Schema (draft 2020-12) of a few keywords: `type`, `enum`, `anyOf`, `items`,
`properties`, `required`, `additionalProperties` and `default`. The worker makes it of the dataclass
(`payload_types`), and the API of its source, without an import (`payload_source`). Both use the
functions of this module for its parts.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from mayfly.jobs.errors import PayloadMismatch

__all__ = ["Schema", "array", "check", "choice", "mapping", "one_of", "record", "scalar"]

Schema = dict[str, Any]

#: The types of JSON by Python's. The order is that of error messages.
_SCALARS: Final = {
    "str": "string",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "None": "null",
}
_NOUNS: Final = {
    "string": "a text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "null",
    "array": "an array",
    "object": "a JSON object",
}
#: Whole numbers up to this one are exact as floats (RFC 8259, 6).
_EXACT: Final = 2**53
#: The characters of a member's name that an error shows.
_NAME_CHARACTERS: Final = 128


def scalar(name: str) -> Schema | None:
    """Returns the schema of `str`, `int`, `float`, `bool` or `None`, None for another name."""
    return {"type": _SCALARS[name]} if name in _SCALARS else None


def array(items: Schema | None) -> Schema:
    """Returns the schema of a list. `items` is None if they may be any JSON."""
    return {"type": "array", **({} if items is None else {"items": items})}


def mapping(values: Schema | None) -> Schema:
    """Returns the schema of a dict. `values` is None if they may be any JSON."""
    return {"type": "object", **({} if values is None else {"additionalProperties": values})}


def choice(values: Iterable[Any]) -> Schema:
    """Returns the schema of a Literal or an Enum."""
    distinct: list[Any] = []
    for value in values:
        if not any(_is_same(value, other) for other in distinct):
            distinct.append(value)
    return {"enum": distinct}


def one_of(options: Iterable[Schema]) -> Schema:
    """Returns the schema of a union, without repetitions."""
    distinct: list[Schema] = []
    for option in options:
        for part in option.get("anyOf", [option]):
            if part not in distinct:
                distinct.append(part)
    return distinct[0] if len(distinct) == 1 else {"anyOf": distinct}


def record(members: Mapping[str, Schema], required: Sequence[str]) -> Schema:
    """Returns the schema of a dataclass."""
    return {
        "type": "object",
        "properties": dict(members),
        **({"required": list(required)} if required else {}),
        "additionalProperties": False,
    }


def check(schema: Mapping[str, Any], value: Any, where: str = "payload") -> None:
    """Raises PayloadMismatch, with the path of the member, if a value does not fit a schema."""
    if "anyOf" in schema:
        _check_union(schema["anyOf"], value, where)
    elif "enum" in schema:
        if not any(_is_same(value, option) for option in schema["enum"]):
            options = ", ".join(map(repr, schema["enum"]))
            raise PayloadMismatch(where, f"must be one of {options:.200}")
    else:
        _check_type(schema["type"], value, where)
        if schema["type"] == "array" and "items" in schema:
            for index, item in enumerate(value):
                check(schema["items"], item, f"{where}[{index}]")
        if schema["type"] == "object":
            _check_members(schema, value, where)


def _check_union(options: Sequence[Mapping[str, Any]], value: Any, where: str) -> None:
    misfits: list[PayloadMismatch] = []
    for option in options:
        try:
            check(option, value, where)
        except PayloadMismatch as misfit:
            misfits.append(misfit)
        else:
            return
    # An option that fits except for a member is the one that was meant.
    deepest = max(misfits, key=lambda misfit: len(misfit.field))
    if deepest.field != where or len(options) == 1:
        raise deepest
    nouns = [_noun(option) for option in options]
    raise PayloadMismatch(where, f"must be {' or '.join(nouns)}, not {_noun_of(value)}")


def _check_members(schema: Mapping[str, Any], value: Mapping[str, Any], where: str) -> None:
    others = schema.get("additionalProperties")
    members = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            raise PayloadMismatch(f"{where}.{name}", "is missing")
    for name, member in value.items():
        path = f"{where}.{name[:_NAME_CHARACTERS]}"
        if name in members:
            check(members[name], member, path)
        elif others is False:
            raise PayloadMismatch(path, "unknown field")
        elif others is not None:
            check(others, member, path)


def _check_type(wanted: str, value: Any, where: str) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = {
        "string": isinstance(value, str),
        "integer": is_number and _is_whole(value),
        "number": is_number and abs(value) <= sys.float_info.max,
        "boolean": isinstance(value, bool),
        "null": value is None,
        "array": isinstance(value, list),
        "object": isinstance(value, dict),
    }[wanted]
    if not fits:
        raise PayloadMismatch(where, f"must be {_NOUNS[wanted]}, not {_noun_of(value)}")


def _is_whole(value: float) -> bool:
    """Returns True for `2.0`, too (JSON Schema 2020-12, core, 4.2.3)."""
    return isinstance(value, int) or (value.is_integer() and abs(value) <= _EXACT)


def _is_same(value: Any, option: Any) -> bool:
    """Compares JSON values: `true` is not `1`, and `1.0` is."""
    return isinstance(value, bool) == isinstance(option, bool) and bool(value == option)


def _noun(schema: Mapping[str, Any]) -> str:
    if "enum" in schema:
        return f"one of {', '.join(map(repr, schema['enum'])):.200}"
    return _NOUNS[schema["type"]]


def _noun_of(value: Any) -> str:
    if isinstance(value, float) and not value.is_integer():
        return "a number with a fraction"
    kinds = {bool: "a boolean", int: "a number", float: "a number", str: "a text"}
    kinds |= {list: "an array", type(None): "null"}
    return kinds.get(type(value), "an object")
