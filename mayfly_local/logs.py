"""Logs of the functions and of the runtime.

Each function has a file of JSON lines. The terminal shows the same entries as text or as JSON.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

__all__ = ["Log", "Logs"]

_COLOURS: Final = {"DEBUG": "2", "INFO": "0", "WARNING": "33", "ERROR": "31", "CRITICAL": "31"}


#: Fields of an entry that its readable line shows already, or that only a search needs.
_SHOWN_ELSEWHERE: Final = {
    "time", "function", "type", "level", "text", "quiet", "environment", "request_id", "method",
    "path", "status", "milliseconds", "refused",
}  # fmt: skip


class Log:
    """The log of one function, or of the runtime itself."""

    def __init__(self, name: str, file: TextIO, show: Callable[[dict[str, Any]], None]) -> None:
        self._name = name
        self._file = file
        self._show = show
        self._listeners: dict[str, Callable[[str], None]] = {}

    @contextmanager
    def listening(self, request_id: str, listener: Callable[[str], None]) -> Iterator[None]:
        """Calls `listener` with each line that the function prints during an invocation."""
        self._listeners[request_id] = listener
        try:
            yield
        finally:
            del self._listeners[request_id]

    def event(self, kind: str, level: str = "INFO", *, quiet: bool = False, **facts: Any) -> None:
        """Logs something that the runtime did or observed.

        `quiet` keeps the entry off a terminal that shows text.
        """
        self._write({"type": kind, "level": level, **facts}, quiet=quiet)

    def line(self, text: str, **facts: Any) -> None:
        """Logs a line that the function printed; a JSON object is stored as an object."""
        if (listener := self._listeners.get(facts.get("request_id", ""))) is not None:
            listener(text)
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            record = None
        if isinstance(record, dict):
            is_metric = "_aws" in record
            self._write({"type": "function", "record": record, **facts}, quiet=is_metric)
        elif text:
            self._write({"type": "function", "text": text, **facts}, quiet=False)

    def _write(self, entry: dict[str, Any], *, quiet: bool) -> None:
        entry = {"time": _now(), "function": self._name, **entry}
        if not self._file.closed:  # An entry after the end of the run goes only to the terminal.
            self._file.write(json.dumps(entry, default=str) + "\n")
            self._file.flush()
        self._show({**entry, "quiet": quiet})


class Logs:
    """All logs of one run, below a folder."""

    def __init__(self, folder: Path, *, form: str, out: TextIO = sys.stdout) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._form = form
        self._out = out
        self._files: list[TextIO] = []
        self._logs: dict[str, Log] = {}

    def of(self, name: str) -> Log:
        """Returns the log of a function; its file is `NAME.jsonl`, and starts empty.

        The next call with the same name returns the same log.
        """
        if name in self._logs:
            return self._logs[name]
        file = (self._folder / f"{name}.jsonl").open("w")
        self._files.append(file)
        show = self._show_json if self._form == "json" else self._show_text
        log = self._logs[name] = Log(name, file, show)
        return log

    def say(self, text: str) -> None:
        """Shows a line on the terminal; in JSON form it is an entry like the others."""
        if self._form == "json":
            notice = {"function": "mayfly", "type": "notice", "text": text, "quiet": False}
            self._show_json({"time": _now(), **notice})
        else:
            print(text, file=self._out, flush=True)

    def close(self) -> None:
        """Closes the files."""
        for file in self._files:
            file.close()

    def _show_json(self, entry: dict[str, Any]) -> None:
        entry = {name: value for name, value in entry.items() if name != "quiet"}
        print(json.dumps(entry, default=str), file=self._out, flush=True)

    def _show_text(self, entry: dict[str, Any]) -> None:
        if entry["quiet"]:
            return
        record = entry.get("record")
        level = (record or entry).get("level", "INFO")
        if record is not None:
            said = str(record.get("message", ""))
            known = (
                "level", "location", "message", "timestamp", "service", "function_request_id",
                "xray_trace_id", "exception_name",
            )  # fmt: skip
            facts = {name: value for name, value in record.items() if name not in known}
        else:
            said = (
                _request_line(entry)
                if entry["type"] == "request"
                else entry.get("text") or entry["type"]
            )
            facts = {name: value for name, value in entry.items() if name not in _SHOWN_ELSEWHERE}
        details = " ".join(f"{name}={value}" for name, value in facts.items())
        line = (
            f"{entry['time'][11:19]}  {entry['function']:<12}  "
            f"{said}{'  ' + details if details else ''}"
        )
        colour = _COLOURS.get(level, "0") if self._out.isatty() else "0"
        line = line.encode(errors="backslashreplace").decode()
        print(f"\x1b[{colour}m{line}\x1b[0m" if colour != "0" else line, file=self._out, flush=True)


def _request_line(entry: dict[str, Any]) -> str:
    # A path may hold line breaks, which must not start lines of their own.
    path = entry["path"].encode("unicode_escape").decode()
    return f"{entry['method']} {path} {entry['status']} in {entry['milliseconds']} ms"


def _now() -> str:
    return (
        datetime.fromtimestamp(time.time(), UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "Z")
    )
