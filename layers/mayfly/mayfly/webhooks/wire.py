"""Sends one HTTP request to one checked address. The only module that connects to the outside.

It does not look names up while sending, follow a redirect, or read a body. The whole exchange has
one time limit, so a slow response is cut off.
"""

import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache

from mayfly.webhooks.errors import Unreachable
from mayfly.webhooks.model import Endpoint

__all__ = ["Answer", "post", "resolve"]

_CONNECT_SECONDS = 5.0
#: The most addresses of a host that are tried.
_ADDRESSES = 2


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
    Unreachable if no address accepts a connection, each within 5 s, or if there is no response
    within `seconds` after that.
    """
    with _connect(endpoint, addresses[:_ADDRESSES]) as plain, _cut_off(plain, seconds) as is_over:
        try:
            plain.settimeout(seconds)
            if endpoint.scheme == "https":
                with _tls().wrap_socket(plain, server_hostname=endpoint.host) as secure:
                    answer = _exchange(endpoint, secure, headers, body)
            else:
                answer = _exchange(endpoint, plain, headers, body)
        except (OSError, http.client.HTTPException) as problem:
            reason = (
                f"no answer within {seconds:.0f} s"
                if is_over() or isinstance(problem, TimeoutError)
                else _reason(problem)
            )
            raise Unreachable(endpoint.origin, reason) from problem
        if is_over():  # a response that was cut off may look complete
            raise Unreachable(endpoint.origin, f"no answer within {seconds:.0f} s")
        return answer


def _connect(endpoint: Endpoint, addresses: Sequence[str]) -> socket.socket:
    reason = ""
    for address in addresses:
        try:
            return socket.create_connection((address, endpoint.port), timeout=_CONNECT_SECONDS)
        except OSError as problem:
            reason = _reason(problem)
    raise Unreachable(endpoint.origin, f"no connection ({reason})")


def _exchange(
    endpoint: Endpoint, sock: socket.socket, headers: Mapping[str, str], body: bytes
) -> Answer:
    connection = http.client.HTTPConnection(endpoint.host, endpoint.port)
    connection.sock = sock
    connection.putrequest("POST", endpoint.target, skip_host=True, skip_accept_encoding=True)
    own = {"Host": endpoint.authority, "Content-Length": str(len(body)), "Connection": "close"}
    for name, value in {**own, **headers}.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    with connection.getresponse() as response:
        return Answer(response.status, response.getheader("Retry-After"))


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
    return (
        type(problem).__name__
        if not isinstance(problem, OSError) or problem.strerror is None
        else problem.strerror
    )
