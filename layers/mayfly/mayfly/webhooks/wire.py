"""Sends one HTTP request to one checked address. The only module that connects to the outside.

It does not look names up while sending, follow a redirect, or read a body. The whole exchange has
one time limit, so a slow response is cut off.
"""

import http.client
import os
import re
import selectors
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from itertools import chain, zip_longest
from time import monotonic
from typing import BinaryIO, Final

from mayfly.webhooks.errors import Unreachable
from mayfly.webhooks.model import Endpoint

__all__ = ["Answer", "connection_order", "post", "resolve"]

#: The longest time until one of a host's addresses has accepted a connection, in seconds.
_CONNECT_SECONDS: Final = 10.0
#: The time after which the next address is tried, too, in seconds: RFC 8305, 5.
_NEXT_ADDRESS_SECONDS: Final = 0.25
#: The most addresses of a host that are tried. Its owner chooses how many there are.
_ADDRESSES: Final = 6
#: The most interim answers before the final one. RFC 9110, 15.2 sets no limit.
_INTERIM_ANSWERS: Final = 100
_LINE_BYTES: Final = 65_536
#: RFC 9112, 4. The line must be complete: one that was cut off is not an answer.
_STATUS_LINE: Final = re.compile(rb"HTTP/[0-9.]+[ \t]+([1-9][0-9]{2})(?:[ \t][^\n]*)?\r?\n")


@dataclass(frozen=True)
class Answer:
    """The part of a response that is read."""

    status: int
    retry_after: str | None


def resolve(host: str, port: int) -> list[str]:
    """Returns the addresses of a host, by the system's resolver, each once. Raises Unreachable."""
    try:
        results = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as problem:
        raise Unreachable(host, "its name has no address") from problem
    return list(dict.fromkeys(str(result[4][0]) for result in results))


def post(
    endpoint: Endpoint,
    addresses: Sequence[str],
    headers: Mapping[str, str],
    body: bytes,
    *,
    seconds: float,
) -> Answer:
    """POSTs to the first of `addresses` that accepts a connection, as the endpoint's host.

    The endpoint's name is in the Host header and, with TLS, in SNI and in the certificate. Raises
    Unreachable if no address accepts a connection within 10 s, or if there is no status within
    `seconds` after that. A final status counts once its line is complete, whatever comes after it.
    """
    with _connect(endpoint, addresses) as plain, _cut_off(plain, seconds) as is_over:
        try:
            plain.settimeout(seconds)
            if endpoint.scheme == "https":
                with _tls().wrap_socket(plain, server_hostname=endpoint.host) as secure:
                    return _exchange(endpoint, secure, headers, body)
            return _exchange(endpoint, plain, headers, body)
        except (OSError, http.client.HTTPException) as problem:
            reason = (
                f"no answer within {seconds:.0f} s"
                if is_over() or isinstance(problem, TimeoutError)
                else _reason(problem)
            )
            raise Unreachable(endpoint.origin, reason) from problem


def connection_order(addresses: Sequence[str]) -> list[str]:
    """Returns the addresses to try: both families by turns, in the resolver's order (RFC 8305, 4).

    So a host whose addresses of one family lead nowhere is still reached by the other.
    """
    families: dict[bool, list[str]] = {}
    for address in addresses:
        families.setdefault(":" in address, []).append(address)
    turns = chain.from_iterable(zip_longest(*families.values()))
    return [address for address in turns if address is not None][:_ADDRESSES]


def _connect(endpoint: Endpoint, addresses: Sequence[str]) -> socket.socket:
    """Returns a connection to the first address that accepts one.

    Each address is tried when the one before it has failed, or has not answered for a quarter of a
    second. Attempts that have begun go on meanwhile (RFC 8305, 5).
    """
    waiting = connection_order(addresses)
    ends = monotonic() + _CONNECT_SECONDS
    reason = "timed out"
    with selectors.DefaultSelector() as attempts:
        try:
            while True:
                if waiting and (problem := _begin(attempts, waiting.pop(0), endpoint.port)):
                    reason = problem
                    continue
                if not attempts.get_map() and not waiting:
                    break
                left = ends - monotonic()
                if left <= 0:
                    reason = "timed out"
                    break
                for key, _ in attempts.select(
                    min(left, _NEXT_ADDRESS_SECONDS) if waiting else left
                ):
                    sock = key.fileobj
                    assert isinstance(sock, socket.socket)
                    attempts.unregister(sock)
                    if not (code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                        return sock
                    reason = os.strerror(code)
                    sock.close()
        finally:
            for key in list(attempts.get_map().values()):
                assert isinstance(key.fileobj, socket.socket)
                key.fileobj.close()
    raise Unreachable(endpoint.origin, f"no connection ({reason})")


def _begin(attempts: selectors.BaseSelector, address: str, port: int) -> str | None:
    """Begins a connection; returns the reason if it fails immediately."""
    try:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    except OSError as problem:  # this machine has no such family, or no more sockets
        return _reason(problem)
    sock.settimeout(0)
    try:
        sock.connect((address, port))
    except BlockingIOError:  # it is being made
        pass
    except OSError as problem:
        sock.close()
        return _reason(problem)
    attempts.register(sock, selectors.EVENT_WRITE)
    return None


def _exchange(
    endpoint: Endpoint, sock: socket.socket, headers: Mapping[str, str], body: bytes
) -> Answer:
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port)
    connection.sock = sock
    connection.putrequest("POST", endpoint.target, skip_host=True, skip_accept_encoding=True)
    own = {"Host": endpoint.authority, "Content-Length": str(len(body)), "Connection": "close"}
    for name, value in {**own, **headers}.items():
        connection.putheader(name, value)
    unsent: OSError | None = None
    try:
        connection.endheaders(body)
    except OSError as problem:  # the receiver may have answered without reading all of it
        unsent = problem
    try:
        with sock.makefile("rb") as received:
            return _read_answer(received)
    except (OSError, http.client.HTTPException) as problem:
        raise unsent or problem from problem


def _read_answer(received: BinaryIO) -> Answer:
    """Reads the final answer, and skips interim ones (RFC 9110, 15.2)."""
    for _ in range(_INTERIM_ANSWERS + 1):
        line = received.readline(_LINE_BYTES)
        if not line:
            raise http.client.RemoteDisconnected("the connection was closed without an answer")
        status_line = _STATUS_LINE.fullmatch(line)
        if status_line is None:
            raise http.client.BadStatusLine(repr(line[:80]))
        status = int(status_line[1])
        if not _is_interim(status):
            return Answer(status, _read_retry_after(received))
        http.client.parse_headers(received)
    raise http.client.HTTPException("too many interim answers")


def _is_interim(status: int) -> bool:
    """Returns True if another answer follows; after 101 there is no HTTP any more."""
    return 100 <= status < 200 and status != http.client.SWITCHING_PROTOCOLS


def _read_retry_after(received: BinaryIO) -> str | None:
    """Returns the header of a final answer, None also if the headers cannot be read."""
    with suppress(OSError, http.client.HTTPException):
        return http.client.parse_headers(received).get("Retry-After")
    return None


@contextmanager
def _cut_off(sock: socket.socket, seconds: float) -> Iterator[Callable[[], bool]]:
    """Shuts down both directions of a socket after `seconds`, whatever the owner waits for.

    Yields a function that returns True if it did. A timeout of the socket would start again with
    every byte.
    """
    over = threading.Event()
    other = sock.dup()  # TLS takes over the first one

    def end() -> None:
        over.set()
        with suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield over.is_set
    finally:
        timer.cancel()
        timer.join()
        other.close()


@cache
def _tls() -> ssl.SSLContext:
    """Returns a context that verifies certificate and name.

    It is made once, since reading the authorities takes a while.
    """
    return ssl.create_default_context()


def _reason(problem: Exception) -> str:
    if isinstance(problem, ssl.SSLCertVerificationError):
        return f"its certificate is not valid: {problem.verify_message}"
    if isinstance(problem, TimeoutError):
        return "timed out"
    if isinstance(problem, http.client.RemoteDisconnected):
        return "the connection was closed without an answer"
    if isinstance(problem, http.client.HTTPException):  # its bytes are not shown
        return "its answer is not valid HTTP"
    return (problem.strerror if isinstance(problem, OSError) else None) or type(problem).__name__
