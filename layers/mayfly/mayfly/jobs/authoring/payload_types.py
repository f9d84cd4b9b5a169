"""Tasks whose first parameter is a dataclass, as the worker imports them.

A payload is checked by its schema, and then made an instance of the dataclass.
"""

import dataclasses
import enum
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Final

from mayfly.jobs.authoring import payloads
from mayfly.jobs.authoring.effects import Effects
from mayfly.jobs.authoring.payloads import Schema
from mayfly.jobs.errors import BadTask, PayloadMismatch
from mayfly.jobs.model import Job

__all__ = ["build", "schema_of", "with_payload"]

_SCALARS: Final = {str: "str", int: "int", float: "float", bool: "bool", type(None): "None"}
#: The most parameters of such a task: payload, effects and job.
_PARAMETERS: Final = 3


class _Refused(Exception):
    """A type cannot be that of a payload; the text says why."""


def with_payload(
    function: Callable[..., Any], kind: Any
) -> tuple[Callable[[Job, Effects], Any], Schema]:
    """Returns a function of a job and its effects that calls `function` with a payload of `kind`.

    Returns the schema of the payload, too. The function has the parameters payload and effects, and
    may have a third one, the job. Raises BadTask, with file and line.
    """
    parameters = inspect.signature(function).parameters
    code = inspect.unwrap(function).__code__
    place = f"{code.co_filename}:{code.co_firstlineno}"
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind)):
        raise BadTask(
            [
                f"{place}: {_shown(kind)} is neither Job nor a dataclass, so it cannot be the "
                "first parameter of a task"
            ]
        )
    if len(parameters) not in (2, _PARAMETERS):
        raise BadTask(
            [f"{place}: a task with a payload takes (payload, effects) or (payload, effects, job)"]
        )
    try:
        schema = schema_of(kind)
    except _Refused as problem:
        raise BadTask([f"{place}: {problem}"]) from None
    takes_job = len(parameters) == _PARAMETERS

    @wraps(function)
    def run(job: Job, effects: Effects) -> Any:
        payloads.check(schema, job.payload)
        payload = build(kind, job.payload, "payload")
        return function(payload, effects, job) if takes_job else function(payload, effects)

    return run, schema


def schema_of(kind: Any, within: tuple[Any, ...] = ()) -> Schema:
    """Returns the schema of a type. `within` are the dataclasses that contain it."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind in _SCALARS:
        return payloads.scalar(_SCALARS[kind]) or {}
    if origin in (typing.Union, types.UnionType):
        return payloads.one_of(schema_of(option, within) for option in arguments)
    if origin is typing.Literal:
        return _choice(kind, arguments, (str, int, bool, type(None)))
    if kind is list or origin is list:
        return payloads.array(schema_of(arguments[0], within) if arguments else None)
    if kind is dict or origin is dict:
        if arguments and arguments[0] is not str:
            raise _Refused(f"the keys of {kind} must be str")
        return payloads.mapping(schema_of(arguments[1], within) if arguments else None)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return _choice(kind, [member.value for member in kind], (str, int))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _record(kind, within)
    raise _Refused(
        f"{_shown(kind)} cannot be a type of a payload; use str, int, float, "
        "bool, None, list, dict, Literal, an Enum or a dataclass"
    )


def build(kind: Any, value: Any, where: str) -> Any:
    """Returns a JSON value that fits the schema of `kind` as an instance of it.

    Raises PayloadMismatch if a dataclass refuses its values itself, by a TypeError or ValueError.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return build(next(option for option in arguments if _fits(option, value)), value, where)
    if kind in (int, float):
        return kind(value)
    if origin is list:
        return [build(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value)]
    if origin is dict:
        return {name: build(arguments[1], item, f"{where}.{name}") for name, item in value.items()}
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        members = {
            name: build(hints[name], item, f"{where}.{name}") for name, item in value.items()
        }
        try:
            return kind(**members)
        except (TypeError, ValueError) as problem:
            raise PayloadMismatch(where, str(problem)) from problem
    return value


def _shown(kind: Any) -> str:
    """Returns a type as its author writes it."""
    is_generic = typing.get_origin(kind) is not None
    return str(kind) if is_generic else getattr(kind, "__name__", str(kind))


def _fits(kind: Any, value: Any) -> bool:
    try:
        payloads.check(schema_of(kind), value)
    except PayloadMismatch:
        return False
    return True


def _choice(kind: Any, values: Any, allowed: tuple[type, ...]) -> Schema:
    if not values or any(type(value) not in allowed for value in values):
        raise _Refused(
            f"the values of {_shown(kind)} must be "
            f"{' or '.join(_SCALARS[each] for each in allowed)}"
        )
    return payloads.choice(values)


def _record(kind: type, within: tuple[Any, ...]) -> Schema:
    if kind in within:
        raise _Refused(f"{kind.__name__} contains itself")
    if kind.__bases__ != (object,):
        raise _Refused(f"{kind.__name__} inherits from another class; write its fields into it")
    try:
        hints = typing.get_type_hints(kind)
    except NameError as problem:
        raise _Refused(f"a type of {kind.__name__} cannot be found: {problem}") from None
    members: dict[str, Schema] = {}
    required: list[str] = []
    fields: Mapping[str, Any] = {field.name: field for field in dataclasses.fields(kind)}
    for name, hint in hints.items():
        if hint is dataclasses.KW_ONLY:
            continue
        if name not in fields or not fields[name].init:
            raise _Refused(f"{kind.__name__}.{name} is not an argument of {kind.__name__}(...)")
        try:
            schema = schema_of(hint, (*within, kind))
        except _Refused as problem:
            raise _Refused(f"{kind.__name__}.{name}: {problem}") from None
        default = fields[name].default
        if type(default) in _SCALARS:
            schema = {**schema, "default": default}
        members[name] = schema
        if default is dataclasses.MISSING and fields[name].default_factory is dataclasses.MISSING:
            required.append(name)
    return payloads.record(members, required)
