"""Every way in which a service can keep its caller waiting ends with the request's deadline."""

import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Event
from typing import Any

import pytest
from mayfly import resources
from mayfly.aws.client import as_client
from mayfly.aws.connections import Connections
from mayfly.aws.errors import Refused, Unanswered
from mayfly.core.deadline import ANSWER_SECONDS, limited

from tests.support import elapsed
from tests.support.wire import Behaviour, Request, serving

SMALL: dict[str, Any] = {"TableName": "t", "Item": {"pk": {"S": "a"}}}
#: Larger than what the buffers of a connection take.
LARGE: dict[str, Any] = {"TableName": "t", "Item": {"pk": {"S": "a" * 16_000_000}}}
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n"
SECONDS = 0.6
#: Seconds that a call may take beyond its deadline, on a machine with other work. Without a
#: deadline, the shortest of these calls takes 3 s.
MARGIN = 2.0


def sending(first: bytes, drop: bytes) -> Callable[[Event], Behaviour]:
    """Returns a behaviour that sends the beginning of an answer, then a drop now and then."""

    def behave(over: Event) -> Behaviour:
        def serve(request: Request, connection: socket.socket) -> bool:
            connection.sendall(first)
            while not over.wait(0.05):
                connection.sendall(drop)
            return False

        return serve

    return behave


ANSWERS: dict[str, Callable[[Event], Behaviour]] = {
    "no answer": sending(b"", b""),
    "half of a status": sending(b"HTTP/1.1", b""),
    "headers alone": sending(HEAD + b"\r\n", b""),
    "headers that never end": sending(HEAD, b"X: 1\r\n"),
    "a header that never ends": sending(HEAD + b"X: ", b"1"),
    "a body that never ends": sending(HEAD + b"\r\n{", b" "),
    "chunks that never end": sending(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"
    ),
}


@pytest.fixture
def over() -> Iterator[Event]:
    event = Event()
    yield event
    event.set()


@contextmanager
def deaf() -> Iterator[int]:
    """A port whose connections are made, and on which no process reads or writes."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        yield listener.getsockname()[1]


@contextmanager
def full() -> Iterator[int]:
    """A port that does not accept another connection, and does not refuse it."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            with suppress(BlockingIOError):
                waiting.connect(listener.getsockname())
        yield listener.getsockname()[1]


def seconds_of(kind: str, url: str, request: dict[str, Any], patch: pytest.MonkeyPatch) -> float:
    """Returns how long a call takes that has SECONDS, and gets no answer."""
    patch.setenv("MAYFLY_CLIENT", kind)
    patch.setenv("AWS_ENDPOINT_URL", url)
    made = resources.client_of("dynamodb")
    client = as_client(made)
    milliseconds = round(1000 * (ANSWER_SECONDS + SECONDS))

    def call() -> None:
        with limited(milliseconds), pytest.raises((Unanswered, Refused)):
            client.call("PutItem", request)

    seconds, _ = elapsed.seconds_of(call)
    made.close()
    return seconds


@pytest.mark.parametrize("kind", ["lean", "boto3"])
@pytest.mark.parametrize("name", ANSWERS)
def test_answer_that_never_ends_ends_with_the_deadline(
    kind: str, name: str, over: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as server:
        server.usual = ANSWERS[name](over)
        assert seconds_of(kind, server.url, SMALL, monkeypatch) < SECONDS + MARGIN
        over.set()


@pytest.mark.parametrize("kind", ["lean", "boto3"])
@pytest.mark.parametrize(
    ("place", "scheme", "request_"),
    [
        pytest.param(deaf, "http", LARGE, id="request that is not read"),
        pytest.param(deaf, "https", SMALL, id="handshake that is not answered"),
        pytest.param(
            full, "http", SMALL, id="connection that is not accepted",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="others refuse it"),
        ),
    ],
)  # fmt: skip
def test_request_that_does_not_arrive_ends_with_the_deadline(
    kind: str, place: Any, scheme: str, request_: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with place() as port:
        url = f"{scheme}://127.0.0.1:{port}"
        assert seconds_of(kind, url, request_, monkeypatch) < SECONDS + MARGIN


@pytest.mark.skipif(sys.platform != "linux", reason="others refuse a connection to a full port")
@pytest.mark.parametrize("silent", [0, 1])
def test_addresses_of_a_host_and_the_answer_share_one_deadline(over: Event, silent: int) -> None:
    """No address is connected to, or the second takes the request and does not answer."""
    seconds = 1.2
    with full() as port, serving() as server:
        server.usual = ANSWERS["no answer"](over)

        def resolve(host: str, _: int, **more: Any) -> list[Any]:
            ports = [port, server.port if silent else port, port]
            return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, each)) for each in ports]

        connections = Connections(server.url, None, connect_seconds=0.7, resolve=resolve)

        def exchange() -> None:
            with pytest.raises(Unanswered, match=["Connect", "Read"][silent]):
                connections.exchange({}, b"{}", seconds)

        # 2.1 s, and 1.9 s, one after another
        assert elapsed.seconds_of(exchange)[0] < seconds + 0.4
        over.set()
