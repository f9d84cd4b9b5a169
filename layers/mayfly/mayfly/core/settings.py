"""Settings of a function: a frozen dataclass with a field for each environment variable.

A variable has the name of its field, in upper case. Settings are read once from a mapping, at
start; one `ConfigError` reports all problems.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from mayfly.core.errors import ConfigError

__all__ = ["read_settings"]

_Settings = TypeVar("_Settings")
_FLAGS = {"true": True, "false": False}


def read_settings(kind: type[_Settings], env: Mapping[str, str]) -> _Settings:
    """Returns an instance of the dataclass `kind`, from `env`.

    Fields are `str`, `int` or `bool` (`true`, `false`). Raises ConfigError, which names every
    variable that is missing or malformed.
    """
    values: dict[str, Any] = {}
    problems: list[str] = []
    # `kind` is a dataclass; the type variable cannot express that.
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        name = field.name.upper()
        if name not in env:
            if field.default is dataclasses.MISSING:
                problems.append(f"{name} is missing")
            continue
        try:
            values[field.name] = _convert(env[name], field.type)
        except (ValueError, KeyError):
            problems.append(f"{name}={env[name]!r} is not {_accepted(field.type)}")
    if problems:
        raise ConfigError(problems)
    return kind(**values)


def _convert(text: str, kind: Any) -> Any:
    if kind is bool:
        return _FLAGS[text]
    if kind is int:
        return int(text)
    if not text:
        raise ValueError
    return text


def _accepted(kind: Any) -> str:
    return {bool: "true or false", int: "a whole number"}.get(
        kind, "a text of at least one character"
    )
