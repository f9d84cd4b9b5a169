"""The same faults on the wire, for the lean client and for boto3's: the same error for each."""

import json
import random  # noqa: TID251  # a search that can be repeated
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from mayfly import resources
from mayfly.aws.client import Client, as_client
from mayfly.aws.connections import READ_SECONDS
from mayfly.aws.dynamodb import (
    AnswerLost,
    ConditionFailed,
    DynamoDB,
    NoAnswer,
    RequestRefused,
)
from mayfly.aws.errors import Refused, Unanswered
from mayfly.core.errors import StoreUnavailable
from mayfly.core.ids import new_id

from tests.support.clients import database
from tests.support.wire import (
    Behaviour,
    Request,
    Server,
    after,
    answer,
    close,
    refusal,
    reset,
    serving,
)

UPDATE: dict[str, Any] = {"TableName": "t", "Key": {"pk": {"S": "a"}}}
LOST: dict[str, tuple[Behaviour, str]] = {
    "reset before the answer": (reset, "ConnectionClosedError"),
    "no answer": (close, "ConnectionClosedError"),
    "half an answer": (answer({"Attributes": {}}, cut=3), "ConnectionClosedError"),
    "a wrong checksum": (answer({"Attributes": {}}, checksum=1), "ChecksumError"),
    "no json": (answer(b"<html>"), "ResponseParserError"),
    "half of its headers": (
        answer({"Attributes": {}}, cut=30),
        "ConnectionClosedError or ChecksumError",
    ),
    "no body": (answer(b""), "ResponseParserError"),
    "a late answer": (after(READ_SECONDS + 0.5, answer()), "ReadTimeoutError"),
}
REFUSED: dict[str, tuple[Behaviour, str, int]] = {
    "ProvisionedThroughputExceededException": (
        refusal("ProvisionedThroughputExceededException"),
        "ProvisionedThroughputExceededException",
        3,
    ),
    "ThrottlingException": (refusal("ThrottlingException"), "ThrottlingException", 3),
    **{
        name: (refusal(name), name, 3)
        for name in (
            "Throttling",
            "ThrottledException",
            "RequestThrottledException",
            "RequestThrottled",
            "TooManyRequestsException",
            "TransactionInProgressException",
            "SlowDown",
            "PriorRequestNotComplete",
            "EC2ThrottledException",
            "BandwidthLimitExceeded",
        )
    },
    "RequestLimitExceeded": (refusal("RequestLimitExceeded"), "RequestLimitExceeded", 3),
    "InternalServerError": (refusal("InternalServerError", 500), "InternalServerError", 3),
    "a 503 without a name": (answer(b"{}", 503), "503", 3),
    "ExpiredTokenException": (refusal("ExpiredTokenException"), "ExpiredTokenException", 1),
    "ConditionalCheckFailedException": (
        refusal("ConditionalCheckFailedException"),
        "ConditionalCheckFailedException",
        1,
    ),
}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found


@pytest.fixture(params=["lean", "boto3"])
def made(
    request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int], Client]]:
    """Returns a function that makes a client of the server, with a number of attempts."""
    monkeypatch.setenv("MAYFLY_CLIENT", request.param)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    clients: list[Any] = []

    def make(attempts: int) -> Client:
        clients.append(resources.client_of("dynamodb", attempts=attempts))
        return as_client(clients[-1])

    yield make
    for client in clients:
        client.close()


@pytest.mark.parametrize("name", LOST)
def test_answer_that_does_not_arrive_whole_is_lost(
    server: Server, made: Callable[[int], Client], name: str
) -> None:
    behaviour, reason = LOST[name]
    server.usual = behaviour
    with pytest.raises(Unanswered) as lost:
        made(1).call("UpdateItem", UPDATE)
    assert lost.value.reason in reason.split(" or ")
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("behaviour", "is_answered"),
    [
        pytest.param(reset, False, id="reset"),
        pytest.param(close, False, id="no answer"),
        pytest.param(answer({"Attributes": {}}, cut=3), False, id="half an answer"),
        pytest.param(after(READ_SECONDS + 0.5, answer()), False, id="a late answer"),
        pytest.param(answer({"Attributes": {}}, checksum=1), True, id="a wrong checksum"),
        pytest.param(answer(b"<html>"), True, id="no json"),
        pytest.param(answer(b"[]"), True, id="json of another kind"),
        pytest.param(answer(b'{"a": "\xff"}'), True, id="text that is not UTF-8"),
        pytest.param(answer(b""), True, id="no body"),
        pytest.param(refusal("InternalServerError", 500), True, id="an error 500"),
        pytest.param(answer(b"<html>", 502), True, id="a page with an error 502"),
    ],
)
def test_silent_store_is_told_from_one_that_answers_wrongly(
    server: Server, made: Callable[[int], Client], behaviour: Behaviour, is_answered: bool
) -> None:
    server.usual = behaviour
    with pytest.raises(AnswerLost) as raised:
        DynamoDB(made(1), lambda attempt: None).query("read", TableName="t")
    assert type(raised.value) is (AnswerLost if is_answered else NoAnswer)


@pytest.mark.parametrize("name", LOST)
def test_lost_answer_is_asked_for_again(
    server: Server, made: Callable[[int], Client], name: str
) -> None:
    server.script(LOST[name][0])
    server.usual = answer({"Attributes": {"n": {"N": "2"}}})
    found = made(3).call("UpdateItem", UPDATE)
    assert (found["Attributes"], len(server.requests)) == ({"n": {"N": "2"}}, 2)


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_has_its_name_and_the_number_of_its_requests(
    server: Server, made: Callable[[int], Client], name: str
) -> None:
    behaviour, code, tries = REFUSED[name]
    server.usual = behaviour
    with pytest.raises(Refused) as refused:
        made(3).call("UpdateItem", UPDATE)
    assert (refused.value.code, refused.value.tries, len(server.requests)) == (code, tries, tries)


def test_connection_that_was_closed_while_idle_is_replaced(
    server: Server, made: Callable[[int], Client]
) -> None:
    held: list[socket.socket] = []

    def hold(request: Request, connection: socket.socket) -> bool:
        held.append(connection)
        return answer()(request, connection)

    server.script(hold)
    client = made(1)
    client.call("UpdateItem", UPDATE)
    held[0].shutdown(socket.SHUT_RDWR)
    client.call("UpdateItem", UPDATE)
    assert (len(server.requests), server.connections) == (2, 2)


def test_server_that_is_gone_is_an_endpoint_error(
    server: Server, made: Callable[[int], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving() as other:
        monkeypatch.setenv("AWS_ENDPOINT_URL", other.url)
    with pytest.raises(Unanswered, match="EndpointConnectionError"):
        made(1).call("UpdateItem", UPDATE)


@pytest.mark.parametrize(
    ("answers", "error", "was_repeated"),
    [
        # A request that is refused at last may have taken effect before.
        ((reset, refusal("ThrottlingException"), refusal("ThrottlingException")), AnswerLost, None),
        ((reset, refusal("AccessDeniedException")), AnswerLost, None),
        ((refusal("AccessDeniedException"),), RequestRefused, None),
        ((reset, refusal("ConditionalCheckFailedException")), ConditionFailed, True),
        (
            (
                reset,
                refusal("TransactionConflictException"),
                refusal("ConditionalCheckFailedException"),
            ),
            ConditionFailed,
            True,
        ),
        (
            (refusal("TransactionConflictException"), refusal("ConditionalCheckFailedException")),
            ConditionFailed,
            False,
        ),
    ],
)
def test_error_says_whether_an_earlier_request_may_have_taken_effect(
    server: Server,
    made: Callable[[int], Client],
    answers: tuple[Behaviour, ...],
    error: type[Exception],
    was_repeated: bool | None,
) -> None:
    server.script(*answers)
    with pytest.raises(error) as raised:
        DynamoDB(made(3), lambda attempt: None).delete("revoke", TableName="t", Key=UPDATE["Key"])
    assert getattr(raised.value, "was_repeated", None) is was_repeated
    assert len(server.requests) == len(answers)


def test_threads_share_a_client_and_count_exactly_under_losses(
    server: Server, made: Callable[[int], Client], load_seconds: int
) -> None:
    """Sixteen threads increment, and a tenth of all answers is lost after the increment.

    It takes half of `--load-seconds`, if that is more than the default.
    """
    lock, source = threading.Lock(), random.Random(18)
    applied: set[str] = set()
    value = 0

    def commit(request: Request, connection: socket.socket) -> bool:
        nonlocal value
        token = json.loads(request.body)["ClientRequestToken"]
        with lock:
            value += token not in applied
            applied.add(token)
            is_lost = source.random() < 0.1
        return reset(request, connection) if is_lost else answer()(request, connection)

    server.usual = commit
    client = made(10)
    ends = time.monotonic() + (load_seconds / 2 if load_seconds > 10 else 0.5)
    done: list[int] = []

    def work() -> None:
        calls = 0
        while time.monotonic() < ends:
            client.call("TransactWriteItems", {"TransactItems": [], "ClientRequestToken": new_id()})
            calls += 1
        done.append(calls)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(done), sum(done)) == (16, value)
    assert len(server.requests) > value


def test_json_of_another_kind_is_lost(server: Server, made: Callable[[int], Client]) -> None:
    server.usual = answer(b"[]")
    with pytest.raises(Unanswered):
        made(1).call("UpdateItem", UPDATE)


@pytest.mark.usefixtures("made")
def test_request_that_is_refused_for_load_is_repeated_also_by_a_client_that_sends_once(
    server: Server,
) -> None:
    server.script(refusal("ThrottlingException"), refusal("ThrottlingException"))
    server.usual = answer({"Attributes": {"n": {"N": "1"}}})
    with database(attempts=1) as once:
        assert once.update("add", **UPDATE) == {"n": {"N": "1"}}
        assert len(server.requests) == 3
        server.usual = refusal("ThrottlingException")
        with pytest.raises(StoreUnavailable, match="ThrottlingException"):
            once.update("add", **UPDATE)
    assert len(server.requests) == 3 + 3


@pytest.mark.usefixtures("made")
def test_client_that_repeats_is_given_no_more_tries_for_load(server: Server) -> None:
    server.usual = refusal("ThrottlingException")
    with database(attempts=3) as repeating, pytest.raises(StoreUnavailable, match="Throttling"):
        repeating.update("add", **UPDATE)
    assert len(server.requests) == 3
