"""Idle connections that networks cut without a sign: no client sends a request on one.

Time is passed in, and the server is real.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mayfly import resources
from mayfly.aws.client import as_client
from mayfly.aws.connections import IDLE_SECONDS, ONCE_IDLE_SECONDS
from mayfly.aws.dynamodb import AnswerLost, DynamoDB
from mayfly.core.deadline import ANSWER_SECONDS, limited
from mayfly.counters import increment as add

from tests.support.fakes import FixedClock
from tests.support.wire import Behaviour, Request, Server, answer, forgetting, reset, serving

UPDATE: dict[str, Any] = {"TableName": "t", "Key": {"pk": {"S": "a"}}}
#: Idle times of a caller, in seconds: each request comes so much later than the one before.
GAPS = (0, 1, 4.9, 5, 5.1, 6, 30, 60, 61, 350, 351, 3600, 86_400, 0)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture(params=["lean", "boto3"])
def made(
    request: pytest.FixtureRequest,
    server: Server,
    clock: FixedClock,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Callable[[int], Any]]:
    """Returns a function that makes a client as production does, with a number of attempts."""
    monkeypatch.setenv("MAYFLY_CLIENT", request.param)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    clients: list[Any] = []

    def make(attempts: int) -> Any:
        clients.append(resources.client_of("dynamodb", attempts=attempts, clock=clock))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


def swallow(request: Request, connection: Any) -> bool:
    """Reads a request, and stays silent until the client gives up."""
    connection.recv(1)
    return False


def counted() -> tuple[Behaviour, list[int]]:
    """Returns the behaviour of a table with one counter, and the list of its values."""
    values: list[int] = []

    def serve(request: Request, connection: Any) -> bool:
        assert json.loads(request.body)["TableName"] == "c"
        if request.operation == "UpdateItem":
            values.append(len(values) + 1)
        item = {"value": {"N": str(len(values))}}
        return answer({"Attributes": item, "Item": item})(request, connection)

    return serve, values


@pytest.mark.parametrize("cut", [reset, swallow])
def test_plain_increment_never_meets_a_connection_that_was_cut_while_idle(
    server: Server, clock: FixedClock, made: Callable[[int], Any], cut: Behaviour
) -> None:
    table, values = counted()
    server.usual = forgetting(ONCE_IDLE_SECONDS, clock, table, cut=cut)
    once = DynamoDB(made(1), lambda attempt: None, sends_once=True)
    store = resources.counters_of("c", once, lambda: once)
    for gap in GAPS:
        clock.advance(gap)
        add(store, "orders", tenant="acme")
    assert values == list(range(1, len(GAPS) + 1))
    assert len(server.requests) == len(GAPS)


@pytest.mark.parametrize("cut", [reset, swallow])
def test_request_that_is_sent_once_and_meets_a_cut_connection_is_lost(
    server: Server, clock: FixedClock, made: Callable[[int], Any], cut: Behaviour
) -> None:
    """The network of the other tests does strike: here it cuts earlier than AWS's ever do."""
    server.usual = forgetting(1, clock, answer(), cut=cut)
    once = DynamoDB(made(1), lambda attempt: None, sends_once=True)
    once.update("add", **UPDATE)
    clock.advance(1.1)
    with limited(round(1000 * (ANSWER_SECONDS + 0.3))), pytest.raises(AnswerLost):
        once.update("add", **UPDATE)


@pytest.mark.parametrize(("attempts", "seconds"), [(1, ONCE_IDLE_SECONDS), (3, IDLE_SECONDS)])
def test_connection_is_used_again_until_it_was_idle_for_long(
    server: Server, clock: FixedClock, made: Callable[[int], Any], attempts: int, seconds: float
) -> None:
    client = as_client(made(attempts))
    # A clock that goes back tells nothing about the time in between.
    for idle, connections in ((0, 1), (seconds, 1), (seconds + 0.001, 2), (0.5, 2), (-0.001, 3)):
        clock.advance(idle)
        client.call("UpdateItem", UPDATE)
        assert server.connections == connections


def test_each_connection_is_idle_for_itself(
    server: Server, clock: FixedClock, made: Callable[[int], Any]
) -> None:
    """A client that is in use all the time has connections from its last burst of calls."""
    client = as_client(made(1))
    inner: list[dict[str, Any]] = []

    def call_meanwhile(request: Request, connection: Any) -> bool:
        server.script(answer())
        inner.append(client.call("UpdateItem", UPDATE))
        return answer()(request, connection)

    server.script(call_meanwhile)
    server.usual = forgetting(ONCE_IDLE_SECONDS, clock, answer(), cut=reset)
    client.call("UpdateItem", UPDATE)
    assert (len(inner), server.connections) == (1, 2)
    for _ in range(5):  # The connection on top stays in use, and the other one is idle.
        clock.advance(2)
        client.call("UpdateItem", UPDATE)
    assert server.connections == 2

    server.script(call_meanwhile)
    client.call("UpdateItem", UPDATE)
    assert (len(inner), server.connections) == (2, 3)


def test_client_that_repeats_survives_a_cut_that_comes_earlier_than_expected(
    server: Server, clock: FixedClock, made: Callable[[int], Any]
) -> None:
    server.usual = forgetting(IDLE_SECONDS / 2, clock, answer({"Attributes": {}}), cut=reset)
    client = as_client(made(3))
    client.call("UpdateItem", UPDATE)
    clock.advance(IDLE_SECONDS)
    assert client.call("UpdateItem", UPDATE)["Attributes"] == {}
    assert len(server.requests) == 3
