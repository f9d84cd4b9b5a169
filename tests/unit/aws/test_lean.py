"""The lean client against a real server: what it sends, and what each failure becomes."""

import base64
import json
import os
from collections.abc import Iterator
from decimal import Decimal
from email.utils import formatdate
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mayfly.aws.connections import READ_SECONDS, Connections
from mayfly.aws.errors import Refused, Unanswered, Unsent
from mayfly.aws.lean import LeanClient
from mayfly.aws.values import serialize
from mayfly.core.errors import ConfigError

from tests.support.fakes import FixedClock
from tests.support.wire import Server, after, answer, close, refusal, reset, serving

UPDATE = {"TableName": "t", "Key": {"pk": {"S": "a"}}}


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as found:
        yield found
    for client in Client.made:
        client.close()
    Client.made.clear()


class Client(LeanClient):
    """A client of a server, with the pauses that it made."""

    made: ClassVar[list[LeanClient]] = []

    def __init__(self, server: Server, service: str = "dynamodb", **options: Any) -> None:
        self.env = {
            "AWS_ENDPOINT_URL": server.url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
        }
        self.pauses: list[float] = []
        self.time = FixedClock()
        super().__init__(
            service,
            self.env,
            pause=self.pauses.append,
            share=lambda: 0.5,
            **{"clock": self.time, **options},
        )
        self.made.append(self)


def test_answer_is_the_services_json(server: Server) -> None:
    server.usual = answer({"Attributes": {"n": {"N": "1"}}})
    assert Client(server).call("UpdateItem", UPDATE) == {"Attributes": {"n": {"N": "1"}}}
    (request,) = server.requests
    assert json.loads(request.body) == UPDATE
    assert (request.headers["x-amz-target"], request.headers["content-type"]) == (
        "DynamoDB_20120810.UpdateItem",
        "application/x-amz-json-1.0",
    )


def test_request_is_shorter_than_botocores(server: Server) -> None:
    Client(server).call("PutItem", {"Item": {"a": {"S": "Grüße, 世界 🌍"}}})
    assert server.requests[0].body == '{"Item":{"a":{"S":"Grüße, 世界 🌍"}}}'.encode()


def test_half_of_a_character_pair_is_sent_as_an_escape(server: Server) -> None:
    Client(server).call("PutItem", {"Item": {"a": {"S": "\ud83c"}}})
    assert server.requests[0].body == b'{"Item":{"a":{"S":"\\ud83c"}}}'


def test_bytes_are_sent_as_base64(server: Server) -> None:
    Client(server).call("PutItem", {"Item": {"a": {"B": b"\x00\xff"}}})
    assert (
        json.loads(server.requests[0].body)["Item"]["a"]["B"]
        == base64.b64encode(b"\x00\xff").decode()
    )


def test_request_that_is_not_json_is_not_sent(server: Server) -> None:
    with pytest.raises(Unsent, match="object cannot be written"):
        Client(server).call("PutItem", {"Item": object()})
    assert server.requests == []


def test_connection_is_used_again(server: Server) -> None:
    client = Client(server)
    for _ in range(3):
        client.call("GetItem", UPDATE)
    assert (len(server.requests), server.connections) == (3, 1)


def test_connection_that_the_server_has_closed_is_replaced(server: Server) -> None:
    client = Client(server, attempts=1)
    server.script(answer(headers={"Connection": "close"}))
    client.call("GetItem", UPDATE)
    client.call("GetItem", UPDATE)
    assert server.connections == 2


def test_idle_connection_that_the_server_closes_later_is_replaced(server: Server) -> None:
    client = Client(server, attempts=1)
    held: list[Any] = []

    def hold(request: Any, connection: Any) -> bool:
        held.append(connection)
        return answer()(request, connection)

    server.script(hold)
    client.call("GetItem", UPDATE)
    held[0].shutdown(2)
    assert client.call("GetItem", UPDATE) == {}
    assert (len(server.requests), server.connections) == (2, 2)


FAILURES = {
    "reset before the answer": (reset, "ConnectionClosedError"),
    "no answer": (close, "ConnectionClosedError"),
    "half an answer": (answer({"a": 1}, cut=3), "ConnectionClosedError"),
    "half of its headers": (answer({"a": 1}, cut=20), "ConnectionClosedError"),
    "a status alone": (lambda request, connection: bool(connection.sendall(b"HTTP/1.1 200 X\r\n")),
                       "ConnectionClosedError"),
    "a wrong checksum": (answer({"a": 1}, checksum=1), "ChecksumError"),
    "no json": (answer(b"<html>", headers={"x-amz-crc32": "1"}), "ChecksumError"),
    "no json with its checksum": (answer(b"<html>"), "ResponseParserError"),
    "json of another kind": (answer(b"[]"), "ResponseParserError"),
    "not HTTP": (lambda request, connection: bool(connection.sendall(b"?\r\n")),
                 "ConnectionClosedError"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_answer_that_cannot_be_read_is_lost_and_never_refused(server: Server, name: str) -> None:
    behaviour, reason = FAILURES[name]
    server.usual = behaviour
    with pytest.raises(Unanswered) as lost:
        Client(server, attempts=1).call("UpdateItem", UPDATE)
    assert lost.value.reason == reason
    assert len(server.requests) == 1


@pytest.mark.parametrize("name", FAILURES)
def test_lost_answer_is_asked_for_again(server: Server, name: str) -> None:
    server.script(FAILURES[name][0])
    client = Client(server)
    assert client.call("UpdateItem", UPDATE) == {}
    assert len(server.requests) == 2
    assert client.pauses == [0.5]


def test_slow_answer_is_a_timeout(server: Server) -> None:
    server.usual = after(READ_SECONDS / 10, answer())
    connections = Connections(server.url, None, read_seconds=READ_SECONDS / 30)
    with pytest.raises(Unanswered, match="ReadTimeoutError"):
        connections.exchange({}, b"{}")
    connections.close()


def test_server_that_is_gone_is_an_endpoint_error(server: Server) -> None:
    with serving() as other:
        client = Client(other, attempts=1)
    with pytest.raises(Unanswered, match="EndpointConnectionError"):
        client.call("UpdateItem", UPDATE)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("ProvisionedThroughputExceededException", 400),
        ("ThrottlingException", 400),
        ("RequestLimitExceeded", 400),
        ("TransactionInProgressException", 400),
        ("InternalServerError", 500),
        ("ServiceUnavailable", 503),
    ],
)
def test_failure_that_passes_is_retried_with_growing_pauses(
    server: Server, code: str, status: int
) -> None:
    server.script(refusal(code, status), refusal(code, status))
    client = Client(server)
    assert client.call("UpdateItem", UPDATE) == {}
    assert client.pauses == [0.5, 1.0]
    server.usual = refusal(code, status)
    with pytest.raises(Refused) as refused:
        client.call("UpdateItem", UPDATE)
    assert (refused.value.code, refused.value.status, refused.value.tries) == (code, status, 3)


@pytest.mark.parametrize(
    "code", ["ConditionalCheckFailedException", "ValidationException", "AccessDeniedException"]
)
def test_refusal_is_final(server: Server, code: str) -> None:
    server.usual = refusal(code, Item={"a": {"S": "b"}})
    with pytest.raises(Refused) as refused:
        Client(server).call("UpdateItem", UPDATE)
    assert (refused.value.code, refused.value.message, refused.value.tries) == (code, "no", 1)
    assert refused.value.answer["Item"] == {"a": {"S": "b"}}
    assert len(server.requests) == 1


def test_refusal_says_that_an_earlier_request_may_have_taken_effect(server: Server) -> None:
    server.script(reset, refusal("ConditionalCheckFailedException"))
    with pytest.raises(Refused) as refused:
        Client(server).call("PutItem", UPDATE)
    assert refused.value.tries == 2


def test_client_with_one_attempt_never_repeats_a_request(server: Server) -> None:
    for name, (behaviour, _) in FAILURES.items():
        server.script(behaviour)
        before = len(server.requests)
        with pytest.raises(Unanswered):
            Client(server, attempts=1).call("UpdateItem", UPDATE)
        assert len(server.requests) == before + 1, name


def test_token_of_a_transaction_is_kept_over_its_retries(server: Server) -> None:
    server.script(reset, refusal("InternalServerError", 500))
    client = Client(server)
    client.call("TransactWriteItems", {"TransactItems": []})
    client.call("TransactWriteItems", {"TransactItems": []})
    first, second, third, other = (
        json.loads(request.body)["ClientRequestToken"] for request in server.requests
    )
    assert first == second == third != other
    client.call("TransactWriteItems", {"TransactItems": [], "ClientRequestToken": "mine"})
    assert json.loads(server.requests[-1].body)["ClientRequestToken"] == "mine"


def test_budget_ends_retries_and_grows_again_by_successes(server: Server) -> None:
    client = Client(server)
    server.usual = refusal("ThrottlingException")
    for _ in range(50):
        with pytest.raises(Refused):
            client.call("UpdateItem", UPDATE)
    assert len(server.requests) == 150  # a hundred retries at 5 each
    with pytest.raises(Refused):
        client.call("UpdateItem", UPDATE)
    assert len(server.requests) == 151
    server.usual = answer()
    for _ in range(5):
        client.call("UpdateItem", UPDATE)
    server.script(refusal("ThrottlingException"))
    assert client.call("UpdateItem", UPDATE) == {}


def test_clock_that_is_wrong_is_corrected_by_the_servers_date(server: Server) -> None:
    client = Client(server)
    there = client.time.now_ms / 1000 + 3600
    date = formatdate(there, usegmt=True)
    server.script(
        answer({"__type": "InvalidSignatureException"}, 400, headers={"Date": date}), answer()
    )
    assert client.call("GetItem", UPDATE) == {}
    first, second = (request.headers["x-amz-date"] for request in server.requests)
    assert int(second[9:11]) - int(first[9:11]) in (1, -23)
    client.call("GetItem", UPDATE)
    assert server.requests[-1].headers["x-amz-date"] == second
    assert client.pauses == []


def test_signature_that_is_wrong_for_another_reason_is_not_retried(server: Server) -> None:
    client = Client(server)
    date = formatdate(client.time.now_ms / 1000 + 5, usegmt=True)
    server.usual = answer({"__type": "InvalidSignatureException"}, 400, headers={"Date": date})
    with pytest.raises(Refused, match="InvalidSignatureException"):
        client.call("GetItem", UPDATE)
    assert len(server.requests) == 1


def test_credentials_are_read_for_each_request(server: Server) -> None:
    client = Client(server)
    client.call("GetItem", UPDATE)
    client.env |= {"AWS_ACCESS_KEY_ID": "other", "AWS_SESSION_TOKEN": "token"}
    client.call("GetItem", UPDATE)
    first, second = (request.headers for request in server.requests)
    assert "Credential=key/" in first["authorization"]
    assert "x-amz-security-token" not in first
    assert "Credential=other/" in second["authorization"]
    assert second["x-amz-security-token"] == "token"


def test_expired_credentials_are_retried_only_if_there_are_new_ones(server: Server) -> None:
    client = Client(server)
    server.usual = refusal("ExpiredTokenException")
    with pytest.raises(Refused, match="ExpiredToken"):
        client.call("GetItem", UPDATE)
    assert len(server.requests) == 1


def test_missing_credentials_are_named(server: Server) -> None:
    client = Client(server)
    del client.env["AWS_ACCESS_KEY_ID"]
    with pytest.raises(ConfigError, match="AWS_ACCESS_KEY_ID"):
        client.call("GetItem", UPDATE)


def test_code_of_an_sqs_error_is_that_of_botocore(server: Server) -> None:
    server.usual = answer(
        {"__type": "com.amazonaws.sqs#QueueDoesNotExist", "message": "m"},
        400,
        headers={"x-amzn-query-error": "AWS.SimpleQueueService.NonExistentQueue;Sender"},
    )
    with pytest.raises(Refused) as refused:
        Client(server, "sqs").call("SendMessageBatch", {})
    assert refused.value.code == "AWS.SimpleQueueService.NonExistentQueue"


@pytest.mark.parametrize(
    ("trace", "sent"),
    [
        ("Root=1-5759e988;Parent=53;Sampled=1", "Root=1-5759e988;Parent=53;Sampled=1"),
        ("Root=1-世", "Root=1-%E4%B8%96"),
        ("Root=1\r\nX-Evil: 1", "Root=1%0D%0AX-Evil:%201"),
    ],
)
def test_trace_is_quoted_as_botocore_does(server: Server, trace: str, sent: str) -> None:
    client = Client(server)
    client.env["_X_AMZN_TRACE_ID"] = trace
    client.call("GetItem", UPDATE)
    assert server.requests[0].headers["x-amzn-trace-id"] == sent
    assert "x-evil" not in server.requests[0].headers


@pytest.mark.parametrize("token", ["token\n", "to\rken", "世"])
def test_token_that_http_cannot_carry_is_named_and_not_shown(server: Server, token: str) -> None:
    client = Client(server)
    client.env["AWS_SESSION_TOKEN"] = token
    with pytest.raises(ConfigError, match="a credential has a") as problem:
        client.call("GetItem", UPDATE)
    assert token.strip() not in str(problem.value)
    assert server.requests == []


@pytest.mark.parametrize("date", ["garbage", ""])
def test_refusal_with_an_unreadable_date_is_final(server: Server, date: str) -> None:
    server.usual = answer(
        {"__type": "x#InvalidSignatureException", "message": "no"}, 400, headers={"Date": date}
    )
    with pytest.raises(Refused, match="InvalidSignatureException"):
        Client(server).call("GetItem", UPDATE)
    assert len(server.requests) == 1


def test_credentials_that_change_during_a_request_are_tried(server: Server) -> None:
    client = Client(server, attempts=1)

    def rotate(request: Any, connection: Any) -> bool:
        client.env["AWS_ACCESS_KEY_ID"] = "another"
        return refusal("ExpiredTokenException")(request, connection)

    server.script(rotate)
    assert client.call("GetItem", UPDATE) == {}
    assert [
        f"Credential={key}/" in request.headers["authorization"]
        for key, request in zip(("key", "another"), server.requests, strict=True)
    ] == [True, True]


def test_fork_does_not_use_the_connections_of_its_parent(server: Server) -> None:
    client = Client(server)
    client.call("GetItem", UPDATE)
    child = os.fork()
    if child == 0:
        client.call("GetItem", UPDATE)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    client.call("GetItem", UPDATE)
    assert (len(server.requests), server.connections) == (3, 2)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://host",
        "localhost:8000",
        "http://host/path",
        "http://me@host",
        "http://host:x",
        "http://",
    ],
)
def test_endpoint_that_cannot_be_used_is_named(url: str) -> None:
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL must be like"):
        Connections(url, None)


def test_address_of_ipv6_has_brackets_in_the_host() -> None:
    assert Connections("http://[::1]:8000", None).host == "[::1]:8000"


def test_trace_of_lambda_is_passed_on_unsigned(server: Server) -> None:
    client = Client(server)
    client.env["_X_AMZN_TRACE_ID"] = "Root=1-5759e988-bd862e3fe1be46a994272793"
    client.call("GetItem", UPDATE)
    headers = server.requests[0].headers
    assert headers["x-amzn-trace-id"].startswith("Root=")
    assert "trace" not in headers["authorization"]


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**38) + 1, 10**38 - 1)
    | st.decimals(-(10**20), 10**20, places=3)
    | st.text()
    | st.binary()
    | st.frozensets(st.integers(0, 9), min_size=1)
    | st.frozensets(st.text(max_size=3), min_size=1)
    | st.frozensets(st.binary(max_size=3), min_size=1),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(VALUES)
def test_values_are_serialized_as_boto3_does(value: Any) -> None:
    from boto3.dynamodb.types import TypeSerializer

    ours, theirs = serialize(value), TypeSerializer().serialize(value)
    assert _plain(ours) == _plain(theirs)


def _plain(value: Any) -> Any:
    """Returns a value whose Binary objects are bytes, and whose sets are in order."""
    if isinstance(value, dict):
        return {
            name: sorted(map(_plain, entry)) if name in ("NS", "SS", "BS") else _plain(entry)
            for name, entry in value.items()
        }
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    return getattr(value, "value", value)


@pytest.mark.parametrize(
    "value", [1.5, float("nan"), object(), set(), {1, "a"}, Decimal("NaN"), Decimal("Infinity")]
)
def test_value_that_dynamodb_does_not_have_is_a_type_error(value: Any) -> None:
    with pytest.raises(TypeError):
        serialize(value)
