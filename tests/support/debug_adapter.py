"""A client of the Debug Adapter Protocol, as an editor is one.

https://microsoft.github.io/debug-adapter-protocol/specification
"""

import json
import socket
from pathlib import Path
from typing import Any, Self

__all__ = ["Debugger"]


class Debugger:
    """One connection to a debugger. Every wait has the timeout of the socket."""

    def __init__(self, port: int, *, seconds: float = 60) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=seconds)
        self._stream = self._socket.makefile("rb")
        self._number = 0
        self._events: list[dict[str, Any]] = []
        self._answers: dict[int, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self._socket.close()

    def attach(self, breakpoints: dict[Path, list[int]]) -> None:
        """Attaches, with breakpoints at lines of files, and lets the process run."""
        self.call("initialize", adapterID="debugpy", pathFormat="path")
        attaching = self._send("attach", {"justMyCode": True})
        self.event("initialized")
        for path, lines in breakpoints.items():
            self.set_breakpoints(path, lines)
        self.call("configurationDone")
        self._answer(attaching)

    def set_breakpoints(self, path: Path, lines: list[int]) -> None:
        """Sets the breakpoints of a file."""
        self.call(
            "setBreakpoints",
            source={"path": str(path)},
            breakpoints=[{"line": line} for line in lines],
        )

    def local(self, thread: int, name: str) -> str:
        """Returns the value of an expression in the frame in which a thread has stopped."""
        frames = self.call("stackTrace", threadId=thread)["stackFrames"]
        value = self.call("evaluate", expression=name, frameId=frames[0]["id"])
        return str(value["result"])

    def line(self, thread: int) -> tuple[str, int]:
        """Returns the name of the file and the line at which a thread has stopped."""
        frame = self.call("stackTrace", threadId=thread)["stackFrames"][0]
        return Path(frame["source"]["path"]).name, int(frame["line"])

    def call(self, command: str, **arguments: Any) -> dict[str, Any]:
        """Sends a request, and returns the body of its answer. Raises AssertionError."""
        return self._answer(self._send(command, arguments))

    def event(self, name: str) -> dict[str, Any]:
        """Waits for an event, and returns its body."""
        while True:
            for event in self._events:
                if event["event"] == name:
                    self._events.remove(event)
                    return dict(event.get("body") or {})
            self._read()

    def _send(self, command: str, arguments: dict[str, Any]) -> int:
        self._number += 1
        message = {
            "seq": self._number,
            "type": "request",
            "command": command,
            "arguments": arguments,
        }
        body = json.dumps(message).encode()
        self._socket.sendall(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        return self._number

    def _answer(self, number: int) -> dict[str, Any]:
        while number not in self._answers:
            self._read()
        answer = self._answers.pop(number)
        assert answer["success"], answer
        return dict(answer.get("body") or {})

    def _read(self) -> None:
        length = 0
        while line := self._stream.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        assert length, "the debugger has closed the connection"
        message = json.loads(self._stream.read(length))
        if message["type"] == "event":
            self._events.append(message)
        elif message["type"] == "response":
            self._answers[message["request_seq"]] = message
