"""Changes of a request to a session's data, key by key. All of it is pure."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from mayfly.core.json_input import canonical_json

__all__ = ["Changes", "check_data", "is_same"]


class Changes:
    """The keys that were set and removed between two states of a session's data.

    Concurrent requests overwrite each other only if both set the same key.
    """

    def __init__(self, initial: Mapping[str, Any], data: Mapping[str, Any]) -> None:
        self._changed: Final = {
            name: value
            for name, value in data.items()
            if name not in initial or not is_same(initial[name], value)
        }
        self._removed: Final = [name for name in initial if name not in data]

    def __bool__(self) -> bool:
        return bool(self._changed or self._removed)

    def apply(self, current: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the data of the store with the changes."""
        kept = {name: value for name, value in current.items() if name not in self._removed}
        return {**kept, **self._changed}


def _encode(value: dict[str, Any]) -> bytes:
    return canonical_json(value).encode()


def check_data(
    data: Mapping[str, Any], encode: Callable[[dict[str, Any]], object] = _encode
) -> None:
    """Raises TypeError or ValueError for a value that JSON cannot hold. The error names its key.

    The application has set the value, so the fault is not the visitor's. `encode` is the
    framework's own encoder, if it has one.
    """
    for name, value in data.items():
        if not isinstance(name, str):
            raise TypeError(f"session[{name!r}] cannot be stored: the key is not a text")
        try:
            encode({name: value})
        except TypeError as problem:
            raise TypeError(f"session[{name!r}] cannot be stored as JSON: {problem}") from problem
        except (ValueError, RecursionError) as problem:
            raise ValueError(f"session[{name!r}] cannot be stored as JSON: {problem}") from problem


def is_same(one: Any, other: Any) -> bool:
    """Returns True if two values are the same JSON. In Python, True equals 1 and 1.0."""
    try:
        return canonical_json(one) == canonical_json(other)
    except (TypeError, ValueError, RecursionError):  # not JSON; the write will raise it
        return False
