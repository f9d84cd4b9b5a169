"""State folders of the format before 0.2.0.

They have one JSON file for each service, written at a clean stop.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ministack.core import persistence
from ministack.core.responses import AccountRegionScopedDict
from ministack.services import dynamodb

from mayfly_local.emulator.contents import at_port
from mayfly_local.emulator.hooks import MODULES
from mayfly_local.emulator.journal import StateError

if TYPE_CHECKING:
    from mayfly_local.emulator.durable import Durable

__all__ = ["OldState"]

#: Fields by account and region, which the emulator needs.
_SCOPED: Final = {"dynamodb": ["tables"], "sqs": ["queues"]}


class OldState:
    """The files of one folder."""

    def __init__(self, folder: Path, states: dict[str, Any]) -> None:
        self._folder = folder
        self._states = states
        self.aside = folder / "before-0.2.0"

    @classmethod
    def find(cls, folder: Path) -> "OldState | None":
        """Returns the files of a folder, or None if it has none.

        Raises StateError if a file cannot be read.
        """
        states = {
            name: cls._read(folder / f"{name}.json")
            for name in MODULES
            if (folder / f"{name}.json").exists()
        }
        return cls(folder, states) if states else None

    @classmethod
    def settle(cls, folder: Path, taken_over: set[str]) -> None:
        """Finishes a move that a kill has interrupted.

        Raises StateError if an older version has written to the folder since.
        """
        old = cls(folder, {name: None for name in MODULES if (folder / f"{name}.json").exists()})
        if later := [
            name
            for name in old._states
            if name not in taken_over or (old.aside / f"{name}.json").exists()
        ]:
            raise StateError(
                f"{folder} holds state of this version and, written after it, of an older one "
                f"({', '.join(f'{name}.json' for name in later)}); "
                "move one of the two away: the journal-*.log files, or the .json files"
            )
        old.put_aside()

    @property
    def names(self) -> list[str]:
        """The names of its services."""
        return sorted(self._states)

    @staticmethod
    def _read(path: Path) -> Any:
        try:
            data = json.loads(path.read_text(), object_hook=persistence._json_object_hook)
        except (OSError, ValueError) as problem:
            raise StateError(
                f"{path} cannot be read ({problem}); the file is unchanged; move it away to start "
                "without it"
            ) from None
        if not isinstance(data, dict) or "__ministack_format__" not in data:
            return data
        supported = persistence._state_format_version(path.stem)
        if (
            not isinstance(data["__ministack_format__"], int)
            or data["__ministack_format__"] > supported
        ):
            raise StateError(
                f"{path} was written by a newer emulator (format {data['__ministack_format__']}, "
                f"this one reads {supported}); upgrade, or move the file away"
            )
        return data["payload"]

    def restore(self, durable: "Durable", port: int) -> None:
        """Restores the emulator's state from the files.

        Raises StateError if a file does not hold what the emulator writes.
        """
        for name, state in self._states.items():
            try:
                self._restore(name, state, port)
            except (LookupError, TypeError, ValueError, AttributeError) as problem:
                path = self._folder / f"{name}.json"
                raise StateError(
                    f"{path} does not hold a service's state ({type(problem).__name__}: "
                    f"{problem}); the file is unchanged; move it away to start without it"
                ) from None

    @staticmethod
    def _restore(name: str, state: Any, port: int) -> None:
        if not isinstance(state, dict):
            raise TypeError(f"a JSON object was expected, found {type(state).__name__}")
        for field in _SCOPED.get(name, ()):
            if not isinstance(state.get(field), AccountRegionScopedDict):
                raise TypeError(f"{field} is not as the emulator writes it")
        if name == "dynamodb":
            for table in state["tables"]._data.values():
                table["items"] = dict(table.get("items") or {})
        MODULES[name].load_persisted_state(_with_port(name, state, port))
        if name == "dynamodb":
            for _, table in dynamodb._tables.all_items():
                dynamodb._update_counts(table)

    def put_aside(self) -> None:
        """Moves the files into a folder of their own."""
        if self._states:
            self.aside.mkdir(exist_ok=True)
        for name in self._states:
            os.replace(self._folder / f"{name}.json", self.aside / f"{name}.json")


def _with_port(service: str, state: Any, port: int) -> Any:
    text = json.dumps(state, default=persistence._json_default).encode()
    return json.loads(at_port(service, text, port), object_hook=persistence._json_object_hook)
