"""Connections to one endpoint: HTTP/1.1 over TLS, kept alive between requests.

A call takes a connection and gives it back, so no two threads share one.
"""

import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from http.client import HTTPException, IncompleteRead
from math import inf
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from mayfly.aws.errors import Unanswered
from mayfly.aws.reading import LimitedAnswer
from mayfly.core.clock import Clock, system_clock
from mayfly.core.errors import ConfigError

__all__ = ["Answer", "Connections"]

#: Seconds in which a connection must be made, and in which each next part of an answer must come.
#: AWS advises 1 s or more for transactions.
CONNECT_SECONDS: Final = 1.0
READ_SECONDS: Final = 3.0
#: Seconds after which an idle connection is replaced. AWS's services and the network between close
#: idle connections after a minute or more.
IDLE_SECONDS: Final = 50.0
#: The same for a client that sends once: a lost request costs its caller an error. A new connection
#: costs some milliseconds.
ONCE_IDLE_SECONDS: Final = 5.0


@dataclass(frozen=True)
class Answer:
    """An answer of the service. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Connections:
    """The connections of one client. `tls` is used for endpoints with https.

    `wider_tls()` returns the context that decides about a server whose certificate `tls` does not
    trust. A connection that was idle for longer than `idle_seconds` is not used again; `clock` is
    the wall clock, since others may stand still while a process is frozen. `resolve` finds the
    addresses of a host; its time is the only one without a limit.
    """

    def __init__(
        self,
        url: str,
        tls: "ssl.SSLContext | None",
        *,
        wider_tls: "Callable[[], ssl.SSLContext] | None" = None,
        connect_seconds: float = CONNECT_SECONDS,
        read_seconds: float = READ_SECONDS,
        idle_seconds: float = IDLE_SECONDS,
        clock: Clock = system_clock,
        resolve: Callable[..., list[Any]] = socket.getaddrinfo,
    ) -> None:
        parts = _parts(url)
        assert parts.hostname is not None
        self._address = (parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        self._tls = tls if parts.scheme == "https" else None
        self._wider_tls = wider_tls
        self._connect_seconds = connect_seconds
        self._read_seconds = read_seconds
        #: The Host header. It has the port if that is not the usual one (RFC 9110, 7.2).
        name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        self.host = name if parts.port in (None, 80, 443) else f"{name}:{parts.port}"
        self._clock = clock
        self._resolve = resolve
        self._idle_ms = round(idle_seconds * 1000)
        #: Connections, when each became idle, and in which process: a fork may not use those of its
        #: parent. Appending and popping are atomic.
        self._idle: list[tuple[socket.socket, int, int]] = []

    def close(self) -> None:
        """Closes the connections that no call uses."""
        while self._idle:
            self._idle.pop()[0].close()

    def exchange(self, headers: Mapping[str, str], body: bytes, seconds: float = inf) -> Answer:
        """Sends one POST request, and returns the answer. Raises Unanswered.

        Takes no longer than `seconds`, apart from the resolution of the host's name.
        """
        ends = time.monotonic() + seconds

        def left() -> float:
            return ends - time.monotonic()

        request = self._head(headers, len(body)) + body
        connection = self._take(left)
        try:
            connection.settimeout(_positive(min(self._read_seconds, left())))
            connection.sendall(request)
            response = LimitedAnswer(connection, method="POST", left=left)
            with response:
                response.begin()
                if response.status < 200:
                    # An interim answer, which http.client takes for the last one.
                    raise HTTPException(f"an interim answer {response.status}")
                if response.length is None and not response.chunked:
                    # The headers may have been cut: the body would end with the connection, and an
                    # empty one would look like an answer.
                    raise IncompleteRead(b"")
                content = response.read()
            named = {name.lower(): value for name, value in response.getheaders()}
        except BaseException as problem:
            connection.close()
            if isinstance(problem, (OSError, HTTPException)):
                raise Unanswered(_name_of(problem)) from problem
            raise
        if response.will_close:
            connection.close()
        else:
            self._idle.append((connection, self._clock(), os.getpid()))
        return Answer(response.status, named, content)

    def _head(self, headers: Mapping[str, str], length: int) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        if lines.count("\n") != len(headers) or lines.count("\r") != len(headers):
            raise ConfigError(["a credential has a line end, and cannot be sent"])
        head = (
            f"POST / HTTP/1.1\r\nHost: {self.host}\r\nAccept-Encoding: identity\r\n"
            f"Content-Length: {length}\r\n{lines}\r\n"
        )
        try:
            return head.encode("latin-1")
        except UnicodeEncodeError:
            # The error itself would show the credentials.
            raise ConfigError(["a credential has a character that HTTP does not have"]) from None

    def _take(self, left: Callable[[], float]) -> socket.socket:
        """Returns an idle connection that the server has not closed, or a new one.

        A process on Lambda is frozen between two calls. A connection can end in that time without
        a sign of it: its next request would be lost.
        """
        while self._idle:
            try:
                connection, since, process = self._idle.pop()
            except IndexError:  # another thread was quicker
                break
            # A clock that went back says nothing about the time in between.
            is_fresh = 0 <= self._clock() - since <= self._idle_ms
            if is_fresh and process == os.getpid() and not _is_readable(connection):
                return connection
            # It is too old, or the server has closed it, or has sent something unasked.
            connection.close()
        return self._connect(left)

    def _connect(self, left: Callable[[], float]) -> socket.socket:
        try:
            try:
                return self._open(self._tls, left)
            except ssl.SSLCertVerificationError:
                if self._wider_tls is None:
                    raise
                self._tls = wider = self._wider_tls()
                return self._open(wider, left)
        except OSError as problem:
            raise Unanswered(_name_of_refusal(problem)) from problem

    def _open(self, tls: "ssl.SSLContext | None", left: Callable[[], float]) -> socket.socket:
        connection = self._dial(left)
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if tls is not None:
                connection.settimeout(_positive(min(self._connect_seconds, left())))
                connection = tls.wrap_socket(connection, server_hostname=self._address[0])
        except OSError:
            connection.close()
            raise
        return connection

    def _dial(self, left: Callable[[], float]) -> socket.socket:
        """Returns a connection to the first of the host's addresses that accepts one.

        `socket.create_connection` would have the whole time for each address.
        """
        problem = OSError("the host has no address")
        addresses = self._resolve(*self._address, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in addresses:
            connection = socket.socket(family, kind, protocol)
            try:
                connection.settimeout(_positive(min(self._connect_seconds, left())))
                connection.connect(address)
            except OSError as refusal:
                connection.close()
                problem = refusal
            else:
                return connection
        raise problem


def _parts(url: str) -> SplitResult:
    """Returns the parts of an endpoint's URL. Raises ConfigError."""
    with suppress(ValueError):  # an invalid port
        parts = urlsplit(url)
        is_plain = not parts.username and parts.path in ("", "/") and not parts.query
        if parts.scheme in ("http", "https") and parts.hostname and is_plain and parts.port != 0:
            return parts
    raise ConfigError(
        [f"AWS_ENDPOINT_URL must be like http://host:port, without a path; it is {url!r}"]
    )


def _positive(seconds: float) -> float:
    """Returns a timeout for a socket, for which 0 means not to wait. Raises TimeoutError."""
    if seconds <= 0:
        raise TimeoutError("the request has no time left")
    return seconds


def _is_readable(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _name_of(problem: Exception) -> str:
    return "ReadTimeoutError" if isinstance(problem, TimeoutError) else "ConnectionClosedError"


def _name_of_refusal(problem: OSError) -> str:
    if isinstance(problem, TimeoutError):
        return "ConnectTimeoutError"
    return "SSLError" if isinstance(problem, ssl.SSLError) else "EndpointConnectionError"
