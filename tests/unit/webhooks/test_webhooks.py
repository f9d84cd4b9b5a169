"""Webhook deliveries: jobs on moto, a receiver on a real socket, the test's own resolver."""

import base64
import datetime as dt
import http.server
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from mayfly.aws.dynamodb import DynamoDB
from mayfly.aws.parameters import Parameters
from mayfly.jobs.errors import LeaseHeld
from mayfly.jobs.model import Status, Wake
from mayfly.jobs.rules import job_id_for
from mayfly.jobs.worker.runner import Runner
from mayfly.webhooks import Deps as WebhookDeps
from mayfly.webhooks import Receivers, deliver, rest_seconds
from mayfly.webhooks.errors import Unreachable
from mayfly.webhooks.model import LOCAL, Endpoint, Policy
from mayfly.webhooks.store import Endpoints, ReceiverNotes, Secrets, parameter
from mayfly.webhooks.wire import Answer, _tls, connection_order, post, resolve
from standardwebhooks.webhooks import Webhook

from tests.support.clients import make_client
from tests.support.fakes import Context
from tests.support.stage import Stage

SECRET = f"whsec_{base64.b64encode(b'k' * 32).decode()}"
Reply = tuple[int, dict[str, str]]


class Receiver:
    """A receiver with prepared answers that keeps its requests."""

    def __init__(self) -> None:
        self.replies: list[Reply] = []
        self.requests: list[tuple[str, dict[str, str], str]] = []
        self.answered: Callable[[], None] = lambda: None
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                receiver.requests.append(
                    (self.path, {name.lower(): value for name, value in self.headers.items()}, body)
                )
                status, headers = receiver.replies.pop(0) if receiver.replies else (204, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                receiver.answered()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with closing(Receiver()) as found:
        yield found


class Deliveries(Stage):
    """A stage whose one task delivers."""

    def __init__(self, client: Any, receiver: Receiver) -> None:
        super().__init__(client, exclusive=True)
        self.receiver = receiver
        self.looked_up: list[str] = []
        self.addresses = ["127.0.0.1"]
        self.policy: Policy = LOCAL
        ssm = make_client("ssm")
        ssm.put_parameter(Name="/p/acme/default", Value=SECRET, Type="SecureString")
        self.endpoints = Endpoints(DynamoDB(client, lambda _: None), "EndpointsTable", self.clock)
        self.secrets = Secrets(Parameters(ssm, self.clock), "/p")
        self.notes = ReceiverNotes(DynamoDB(client, lambda _: None), "EndpointsTable", self.clock)
        self.receivers = Receivers(lambda: self.clock() / 1000, lambda: 0.5, self.notes)
        self.body = self._deliver

    @property
    def deps(self) -> WebhookDeps:
        return WebhookDeps(
            self.secrets,
            self.endpoints,
            self.policy,
            (5, 300, 1800),
            self._resolve,
            self.clock,
            self.receivers,
        )

    def _deliver(self, job: Any, effects: Any) -> Any:
        return deliver(job, effects, self.deps)

    def _resolve(self, host: str, port: int) -> list[str]:
        self.looked_up.append(host)
        return self.addresses

    def ask(self, job_id: str = "j1", **payload: Any) -> None:
        url = f"http://hooks.example.org:{self.receiver.port}/hook?x=1"
        self.submit(id=job_id, payload={"url": url, **payload}, fingerprint=job_id)

    def attempt(self, job_id: str = "j1", receives: int = 1) -> str | None:
        """Runs a job's message; returns the error of its last attempt."""
        with suppress(LeaseHeld):
            self.run(Wake("acme", job_id), receives=receives)
        return self.job(job_id).history[-1].error


@pytest.fixture
def deliveries(dynamodb: Any, receiver: Receiver) -> Deliveries:
    return Deliveries(dynamodb, receiver)


def test_webhook_arrives_signed_under_the_name_of_its_host(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    deliveries.ask(body={"b": 1, "a": "ü"}, headers={"Authorization": "Basic x"})
    # The verifier's clock.
    deliveries.clock.now_ms = int(dt.datetime.now(dt.UTC).timestamp() * 1000)  # noqa: TID251
    deliveries.attempt()
    ((path, headers, body),) = receiver.requests
    assert Webhook(SECRET).verify(body, headers) == {"a": "ü", "b": 1}
    assert (path, headers["host"], headers["authorization"]) == (
        "/hook?x=1",
        f"hooks.example.org:{receiver.port}",
        "Basic x",
    )
    assert (deliveries.job().status, deliveries.job().result) == (Status.COMPLETED, {"status": 204})


def test_every_attempt_has_the_id_of_its_job_and_is_on_its_record(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    receiver.replies = [(500, {}), (204, {})]
    deliveries.ask()
    deliveries.attempt()
    deliveries.clock.advance(6)
    deliveries.attempt(receives=2)
    assert {headers["webhook-id"] for _, headers, _ in receiver.requests} == {"msg_j1"}
    first, second = receiver.requests
    assert int(second[1]["webhook-timestamp"]) - int(first[1]["webhook-timestamp"]) == 6
    assert first[2] == second[2]
    assert [attempt.outcome for attempt in deliveries.job().history] == ["failed", "succeeded"]
    assert f"http://hooks.example.org:{receiver.port} answered 500" in str(
        deliveries.job().history[0].error
    )


def test_error_of_an_attempt_shows_neither_path_nor_query(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    receiver.replies = [(500, {})]
    deliveries.ask()
    assert "hook" not in str(deliveries.attempt()).replace("hooks.example.org", "")


@pytest.mark.parametrize(
    ("reply", "least", "most"),
    [
        ((500, {}), 5, 5.5),
        ((503, {"Retry-After": "120"}), 120, 120),
        ((429, {}), 300, 330),
        ((302, {"Location": "/elsewhere"}), 5, 5.5),
    ],
)
def test_failed_delivery_waits_as_the_schedule_and_the_receiver_require(
    deliveries: Deliveries, receiver: Receiver, reply: Reply, least: float, most: float
) -> None:
    receiver.replies = [reply]
    deliveries.ask()
    deliveries.attempt()
    pause = ((deliveries.job().not_before_ms or 0) - deliveries.clock()) / 1000
    assert least <= pause <= most
    assert len(receiver.requests) == 1, "a redirect was followed"


def test_retry_later_than_a_message_can_wait_waits_in_the_table(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    receiver.replies = [(503, {"Retry-After": "7200"})]
    deliveries.ask()
    deliveries.attempt()
    assert deliveries.job().status is Status.SCHEDULED


def test_endpoint_that_is_gone_is_called_only_by_an_explicit_redrive(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    receiver.replies = [(410, {})]
    deliveries.ask()
    assert "410" in str(deliveries.attempt())
    deliveries.ask("j2")
    assert "has answered 410 before" in str(deliveries.attempt("j2"))
    assert [deliveries.job(job_id).status for job_id in ("j1", "j2")] == [Status.DEAD, Status.DEAD]
    assert len(receiver.requests) == 1
    deliveries.operations.redrive("acme", "j2", now_ms=deliveries.clock())
    deliveries.attempt("j2")
    deliveries.ask("j3")
    deliveries.attempt("j3")
    assert [deliveries.job(job_id).status for job_id in ("j2", "j3")] == [
        Status.COMPLETED,
        Status.COMPLETED,
    ]


def test_note_that_an_endpoint_is_gone_expires_and_affects_no_other_endpoint(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    deliveries.endpoints.end("acme", "u")
    assert (
        deliveries.endpoints.is_gone("acme", "u"),
        deliveries.endpoints.is_gone("other", "u"),
    ) == (True, False)
    deliveries.clock.advance(91 * 24 * 3600)
    assert not deliveries.endpoints.is_gone("acme", "u")


@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ({"secret_name": "orders"}, "mayfly webhooks secret orders"),
        ({"url": "ftp://x/"}, "url: must begin with"),
        ({"headers": {"Host": "x"}}, "Host cannot be set"),
        ({"more": 1}, "more: unknown field"),
    ],
)
def test_undeliverable_webhook_is_dead_immediately_with_the_reason(
    deliveries: Deliveries, receiver: Receiver, payload: dict[str, Any], problem: str
) -> None:
    deliveries.ask(**payload)
    assert problem in str(deliveries.attempt())
    assert deliveries.job().status is Status.DEAD
    assert not receiver.requests


def test_host_with_one_bad_address_is_not_connected_to(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    deliveries.addresses = ["127.0.0.1", "10.0.0.1"]
    deliveries.ask()
    assert "has an address that is not public" in str(deliveries.attempt())
    assert (deliveries.job().status, receiver.requests) == (Status.DEAD, [])


def test_host_is_resolved_once_for_each_attempt(deliveries: Deliveries, receiver: Receiver) -> None:
    receiver.replies = [(500, {}), (204, {})]
    deliveries.ask()
    deliveries.attempt()
    assert deliveries.looked_up == ["hooks.example.org"]
    deliveries.clock.advance(6)
    deliveries.attempt(receives=2)
    assert deliveries.looked_up == ["hooks.example.org"] * 2


def test_secrets_of_two_tenants_or_names_never_share_a_parameter() -> None:
    names = ["a", "a.b", "a-b", "a_b", "a+b", "a@b", "a:b", "A", "a_2b", "_", "+", "a_5fb"]
    assert len({parameter(tenant, name) for tenant in names for name in names}) == len(names) ** 2


# ---------------------------------------------------------------- slow receivers


class Slow(Deliveries):
    """A stage whose receivers named slow are found after 15 s, and refuse the connection."""

    def __init__(self, client: Any, receiver: Receiver) -> None:
        super().__init__(client, receiver)
        self.worker = replace(
            self.worker,
            rest_seconds=lambda job, receives: rest_seconds(job, receives, self.deps),
            trusts_last_attempts=True,
        )
        self.runner = Runner(self.worker)

    def _resolve(self, host: str, port: int) -> list[str]:
        if host.startswith("slow"):
            self.clock.advance(15)
            return ["127.0.0.9"]
        return super()._resolve(host, port)

    def ask_at(self, job_id: str, host: str) -> Wake:
        self.ask(job_id, url=f"http://{host}.example.org:{self.receiver.port}/")
        return Wake("acme", job_id)


@pytest.fixture
def slow(dynamodb: Any, receiver: Receiver) -> Slow:
    return Slow(dynamodb, receiver)


def test_webhooks_to_a_receiver_that_must_rest_come_back_without_an_attempt(
    slow: Slow, receiver: Receiver
) -> None:
    first = slow.ask_at("j1", "slow")
    assert slow.handle(first)["batchItemFailures"] == [{"itemIdentifier": "m0"}]
    others = [slow.ask_at("j2", "slow"), slow.ask_at("j3", "good")]
    assert slow.handle(*others) == {"batchItemFailures": [{"itemIdentifier": "m0"}]}
    assert 10 <= slow.visible.asked[-1]["r-m0"] <= 40
    assert [slow.job(name).status for name in ("j1", "j2", "j3")] == [
        Status.RETRY,
        Status.QUEUED,
        Status.COMPLETED,
    ]
    assert (slow.job("j2").attempt, slow.job("j2").history) == (0, ())
    slow.clock.advance(60)
    slow.handle(others[0], receives=2)
    assert (slow.job("j2").attempt, len(receiver.requests)) == (1, 1)


def test_malformed_webhook_does_not_rest(slow: Slow) -> None:
    slow.handle(slow.ask_at("j1", "slow"))
    slow.ask("j2", url="http://slow.example.org:1/\\")
    assert slow.handle(Wake("acme", "j2")) == {"batchItemFailures": []}
    assert slow.job("j2").status is Status.DEAD


def test_processes_that_died_with_their_batches_do_not_bring_serial_timeouts(slow: Slow) -> None:
    """Ten jobs whose process died run alone; after the first, the others must rest."""
    names = [f"j{number}" for number in range(10)]
    wakes = [slow.ask_at(name, "slow") for name in names]
    for name in names:
        slow.store.claim("acme", name, nonce="died", now_ms=slow.clock(), lease_ms=15_000)
    slow.clock.advance(16)
    before = slow.clock()
    slow.handle(*wakes, receives=2, context=Context(120_000))
    assert slow.clock() - before <= 30_000
    assert sorted(len(slow.job(name).history) for name in names) == [1] * 9 + [2]


# ---------------------------------------------------------------- connections


@contextmanager
def server(behave: Callable[[socket.socket], object]) -> Iterator[int]:
    """Serves one connection."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()

        def serve() -> None:
            with suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    behave(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
    thread.join(5)


def read_request(connection: socket.socket) -> bytes:
    """Receives all bytes of `send`.

    Closing a connection with unread bytes resets it, and the answer may be lost.
    """
    received = b""
    while not received.endswith(b"\r\n\r\n{}") and (part := connection.recv(1000)):
        received += part
    return received


def send(
    port: int,
    *,
    scheme: str = "http",
    host: str = "hooks.example.org",
    seconds: float = 5,
    addresses: Sequence[str] = ("127.0.0.1",),
    body: bytes = b"{}",
) -> Answer:
    return post(Endpoint("", scheme, host, port, "/"), addresses, {"X": "y"}, body, seconds=seconds)


def replying(*parts: bytes) -> Callable[[socket.socket], None]:
    """Returns a receiver that reads a request, sends these bytes and closes the connection."""

    def reply(connection: socket.socket) -> None:
        read_request(connection)
        for part in parts:
            connection.sendall(part)

    return reply


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK", b"HTTP/1.1 103 Hints\r\nX: "])
def test_receiver_that_sends_too_slowly_is_disconnected(beginning: bytes) -> None:
    over = threading.Event()

    def trickle(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(beginning)
        while not over.wait(0.05):
            connection.sendall(b"x")

    with server(trickle) as port, pytest.raises(Unreachable, match="no answer within 0 s"):
        send(port, seconds=0.4)
    over.set()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(b"", "closed without an answer", id="nothing"),
        pytest.param(b"nonsense\r\n\r\n", "not valid HTTP", id="nonsense"),
        pytest.param(b"HTTP/1.1 abc\r\n\r\n", "not valid HTTP", id="no-number"),
        pytest.param(b"HTTP/1.1 20\r\n\r\n", "not valid HTTP", id="two-digits"),
        pytest.param(b"HTTP/1.1 2000 OK\r\n\r\n", "not valid HTTP", id="four-digits"),
        pytest.param(b"HTTP/1.1 000 No\r\n\r\n", "not valid HTTP", id="below-100"),
        pytest.param(b"HTTP/1.1 200 OK", "not valid HTTP", id="status-line-cut-off"),
        pytest.param(b"HTTP/1.1 200 " + b"x" * 70_000, "not valid HTTP", id="endless-status-line"),
        pytest.param(
            b"HTTP/1.1 103 Early Hints\r\n\r\n",
            "closed without an answer",
            id="interim-answer-alone",
        ),
        pytest.param(
            b"HTTP/1.1 103 Early Hints\r\nLink: </a>", "without an answer", id="interim-cut-off"
        ),
        pytest.param(b"HTTP/1.1 102 P\r\n\r\n" * 101, "not valid HTTP", id="endless-interim"),
    ],
)
def test_response_without_a_final_status_is_a_failed_attempt(answer: bytes, reason: str) -> None:
    with server(replying(answer)) as port, pytest.raises(Unreachable, match=reason):
        send(port)


@pytest.mark.parametrize(
    "interim",
    [
        pytest.param([b"HTTP/1.1 100 Continue\r\n\r\n"], id="100"),
        pytest.param([b"HTTP/1.1 102 Processing\r\n\r\n"], id="102"),
        pytest.param(
            [b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"], id="103"
        ),
        pytest.param([b"HTTP/1.1 104 Upload Resumption Supported\r\n\r\n"], id="104"),
        pytest.param([b"HTTP/1.1 199 Whatever\r\nRetry-After: 9\r\n\r\n"], id="199-with-header"),
        pytest.param(
            [b"HTTP/1.1 102 Processing\r\n\r\n"] * 2 + [b"HTTP/1.1 103 Early Hints\r\n\r\n"],
            id="102-twice-then-103",
        ),
        pytest.param([b"HTTP/1.1 102 P\r\n\r\n"] * 100, id="as-many-as-are-read"),
    ],
)
@pytest.mark.parametrize("status", [200, 503])
def test_interim_answers_are_skipped(interim: list[bytes], status: int) -> None:
    """RFC 9110, 15.2."""
    final = f"HTTP/1.1 {status} X\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n".encode()
    with server(replying(*interim, final)) as port:
        assert send(port) == Answer(status, "7")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", 200, id="complete"),
        pytest.param(b"HTTP/1.1 200\r\n\r\n", 200, id="without-reason"),
        pytest.param(b"HTTP/1.0 200 OK\n\n", 200, id="line-feeds-alone"),
        pytest.param(b"HTTP/2.0 204 \xfc\r\n\r\n", 204, id="odd-version-and-reason"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\n\r\n", 101, id="101-is-final"),
        pytest.param(b"HTTP/1.1 999 Denied\r\n\r\n", 999, id="beyond-599"),
        pytest.param(b"HTTP/1.1 200 OK\r\n", 200, id="cut-off-after-the-status"),
        pytest.param(b"HTTP/1.1 500 Error\r\nContent-Le", 500, id="cut-off-in-a-header"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"a" * 70_000, 200, id="endless-header"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 200, 200, id="too-many-headers"),
    ],
)
def test_status_counts_once_its_line_is_complete(answer: bytes, status: int) -> None:
    with server(replying(answer)) as port:
        assert send(port) == Answer(status, None)


def test_status_counts_although_its_headers_never_end() -> None:
    over = threading.Event()

    def trickle(connection: socket.socket) -> None:
        replying(b"HTTP/1.1 200 OK\r\nX: ")(connection)
        while not over.wait(0.05):
            connection.sendall(b"x")

    with server(trickle) as port:
        assert send(port, seconds=0.4) == Answer(200, None)
    over.set()


def test_status_counts_although_the_body_was_not_read() -> None:
    """The receiver refuses the request by its headers, and resets the connection."""

    def refuse(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"HTTP/1.1 413 Content Too Large\r\n\r\n")

    with server(refuse) as port:
        assert send(port, body=b"x" * 8_000_000) == Answer(413, None)


def test_body_of_a_response_is_not_read() -> None:
    over = threading.Event()

    def flood(connection: socket.socket) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n" + b"x" * 1000)
        over.wait(5)

    with server(flood) as port:
        assert send(port) == Answer(200, None)
        over.set()


def test_address_without_a_listener_is_a_failed_attempt() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Unreachable, match="no connection"):
            send(unused.getsockname()[1])


@pytest.mark.parametrize(
    "addresses",
    [
        pytest.param(["::1", "127.0.0.1"], id="dead-ipv6-good-ipv4"),
        pytest.param(["::1", "100::1", "127.0.0.1"], id="two-dead-ipv6-good-ipv4"),
        pytest.param(["127.0.0.2", "127.0.0.3", "127.0.0.1"], id="two-refuse-the-third-is-good"),
        pytest.param(["::1"] * 30 + ["127.0.0.1"], id="many-dead-ipv6"),
    ],
)
def test_addresses_are_tried_until_one_accepts(addresses: list[str]) -> None:
    with server(replying(b"HTTP/1.1 204 No Content\r\n\r\n")) as port:
        assert send(port, addresses=addresses) == Answer(204, None)


def test_address_that_does_not_answer_delays_the_next_by_a_quarter_second() -> None:
    """The first has a full queue of connections, and ignores more of them."""
    with socket.socket() as silent, server(replying(b"HTTP/1.1 204 X\r\n\r\n")) as port:
        silent.bind(("127.0.0.2", port))
        silent.listen(0)
        with socket.create_connection(("127.0.0.2", port)):
            started = monotonic()
            answer = send(port, addresses=["127.0.0.2", "127.0.0.1"])
            assert (answer, monotonic() - started < 3) == (Answer(204, None), True)


@pytest.mark.parametrize(
    ("addresses", "order"),
    [
        ([], []),
        (["1.0.0.1", "1.0.0.2"], ["1.0.0.1", "1.0.0.2"]),
        (["2::1", "2::2", "1.0.0.1"], ["2::1", "1.0.0.1", "2::2"]),
        (["1.0.0.1", "1.0.0.2", "2::1"], ["1.0.0.1", "2::1", "1.0.0.2"]),
        (
            [*(f"2::{n}" for n in range(9)), *(f"1.0.0.{n}" for n in range(9))],
            ["2::0", "1.0.0.0", "2::1", "1.0.0.1", "2::2", "1.0.0.2"],
        ),
    ],
)
def test_families_of_addresses_take_turns(addresses: list[str], order: list[str]) -> None:
    """RFC 8305, 4; at most six addresses."""
    assert connection_order(addresses) == order


def test_delivery_without_time_in_the_invocation_is_released_at_no_attempt(
    deliveries: Deliveries, receiver: Receiver
) -> None:
    context = Context(60_000)
    deliveries.ask("j0")
    deliveries.ask("j1")
    receiver.answered = lambda: setattr(context, "_remaining_ms", 20_000)
    # The process of one attempt of j1 died, so j1 runs alone, after j0.
    deliveries.store.claim("acme", "j1", nonce="died", now_ms=deliveries.clock(), lease_ms=15_000)
    deliveries.clock.advance(16)
    wakes = [Wake("acme", "j0"), Wake("acme", "j1")]
    assert deliveries.handle(*wakes, receives=2, context=context) == {
        "batchItemFailures": [{"itemIdentifier": "m1"}]
    }
    assert (
        deliveries.job("j1").attempt,
        len(deliveries.job("j1").history),
        deliveries.job("j1").status,
    ) == (1, 1, Status.RETRY)
    assert len(receiver.requests) == 1
    context._remaining_ms = 60_000
    deliveries.handle(wakes[1], receives=3, context=context)
    assert deliveries.job("j1").status is Status.COMPLETED


def test_message_that_announces_a_webhook_on_the_wrong_queue_has_no_effect(dynamodb: Any) -> None:
    from mayfly.jobs.authoring.built_in import BUILT_IN

    stage = Stage(dynamodb)
    object.__setattr__(stage.worker, "known", BUILT_IN)
    stage.submit(task="http.deliver")
    assert stage.handle(Wake("acme", "j1")) == {"batchItemFailures": []}
    assert (stage.job().status, stage.job().attempt) == (Status.QUEUED, 0)


def test_name_without_an_address_is_a_failed_attempt() -> None:
    with pytest.raises(Unreachable, match="its name has no address"):
        resolve("nowhere.invalid", 443)


def test_names_are_resolved_as_by_the_system() -> None:
    assert "127.0.0.1" in resolve("localhost", 443)


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ssl.SSLContext]:
    """Yields a server's context with a trusted certificate for hooks.example.org."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = dt.datetime.now(dt.UTC)  # noqa: TID251  # a certificate's dates
    signed = (
        x509.CertificateBuilder(
            name,
            name,
            key.public_key(),
            x509.random_serial_number(),
            now,
            now + dt.timedelta(days=1),
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("hooks.example.org")]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "pair.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    _tls.cache_clear()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    yield context
    _tls.cache_clear()


@pytest.mark.parametrize(
    ("host", "is_good"), [("hooks.example.org", True), ("other.example.org", False)]
)
def test_certificate_must_be_for_the_name_whatever_the_address(
    certificate: ssl.SSLContext, host: str, is_good: bool
) -> None:
    asked: list[str] = []
    certificate.sni_callback = lambda _sock, name, _context: asked.append(name)

    def answer(connection: socket.socket) -> None:
        with certificate.wrap_socket(connection, server_side=True) as secure:
            read_request(secure)
            secure.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with server(answer) as port:
        if is_good:
            assert send(port, scheme="https", host=host) == Answer(204, None)
        else:
            with pytest.raises(Unreachable, match="its certificate is not valid"):
                send(port, scheme="https", host=host)
    assert asked == [host]


def test_handshake_that_hangs_is_cut_off() -> None:
    over = threading.Event()
    with server(lambda _: over.wait(5)) as port, pytest.raises(Unreachable):
        send(port, scheme="https", seconds=0.3)
    over.set()


def test_message_that_requests_a_webhook_creates_its_job_and_does_not_deliver_it(
    dynamodb: Any,
) -> None:
    from mayfly.jobs.authoring.built_in import BUILT_IN
    from mayfly.jobs.model import Submission
    from mayfly.jobs.routing.outbox import Outbox, announcement

    stage = Stage(dynamodb)
    object.__setattr__(stage.worker, "known", BUILT_IN)
    submission = Submission("http.deliver", {"url": "https://example.org/"}, idempotency_key="k")
    for message_id in ("m1", "m2"):  # the producer sends it twice
        assert stage.handle(submission) == {"batchItemFailures": []}, message_id
    other = Submission("http.deliver", {"url": "https://example.org/other"}, idempotency_key="k")
    stage.handle(other)
    assert [message.problem for message in stage.operations.unreadable(now_ms=stage.clock())] == [
        f"its idempotency key belongs to job {job_id_for('acme', 'k', otherwise='')!r}, with "
        "another body"
    ]
    (item,) = [
        item for item in dynamodb.scan(TableName="JobsTable")["Items"] if item["sk"]["S"] == "job"
    ]
    assert (item["status"], item["max_attempts"], stage.ran) == ({"S": "QUEUED"}, {"N": "10"}, [])
    sent: dict[str, Any] = {}
    wake = announcement(item, stage.clock())
    assert wake is not None
    outbox = Outbox(
        lambda bodies, _: sent.update(jobs=bodies) or set(),
        {"http.deliver": lambda bodies, _: sent.update(webhooks=bodies) or set()},
    )
    assert outbox.send({"n": wake}) == set()
    assert list(sent) == ["webhooks"], json.dumps(sent)
