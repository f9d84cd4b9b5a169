"""Answers that are read until a time, however slowly they come.

The timeout of a socket is for each part of an answer. A service that sends a byte now and then
would keep its caller for ever.
"""

import socket
from collections.abc import Callable
from http.client import HTTPResponse
from io import BufferedReader, RawIOBase
from math import inf
from typing import TYPE_CHECKING, Any, Final

from mayfly.core.deadline import seconds_left

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

__all__ = ["LimitedAnswer"]


class LimitedAnswer(HTTPResponse):
    """An HTTP answer that is read while there is time. Raises TimeoutError after that.

    `left()` returns the seconds that are left: by default, those of the request
    (`mayfly.core.deadline`). No part may take longer than the timeout that the socket has.
    """

    def __init__(
        self, sock: socket.socket, *args: Any, left: Callable[[], float] = seconds_left, **more: Any
    ) -> None:
        # HTTPResponse calls nothing of a socket but makefile.
        super().__init__(_Socket(sock, left), *args, **more)  # type: ignore[arg-type]


class _Socket:
    """A socket, as far as HTTPResponse uses it."""

    def __init__(self, connection: socket.socket, left: Callable[[], float]) -> None:
        self._connection = connection
        self._left = left

    def makefile(self, mode: str) -> BufferedReader:
        """Returns the bytes that arrive."""
        return BufferedReader(_Bytes(self._connection, self._left))


class _Bytes(RawIOBase):
    """The bytes that arrive on a socket while there is time."""

    def __init__(self, connection: socket.socket, left: Callable[[], float]) -> None:
        self._connection = connection
        self._left = left
        timeout = connection.gettimeout()
        self._most: Final = inf if timeout is None else timeout
        # An open file keeps the socket open, as http.client expects.
        self._file = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        """Returns True."""
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int | None:
        """Reads the next part. Raises TimeoutError."""
        seconds = self._left()
        if seconds <= 0:
            raise TimeoutError("the request has no time left for its answer")
        if seconds < self._most:
            self._connection.settimeout(seconds)
        return self._file.readinto(buffer)

    def close(self) -> None:
        """Closes the file, and not the socket."""
        self._file.close()
        super().close()
