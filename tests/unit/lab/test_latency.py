"""The measurement of a quiet tenant's latency: only answers that are as expected count."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from mayfly_lab.chaos.api import Answer, Api
from mayfly_lab.chaos.flood import send_pair
from mayfly_lab.chaos.quiet import Flood, use
from mayfly_local.errors import LocalError

INCREMENT = ("POST", "/counters/quiet/increment")
READ = ("GET", "/sessions/current")
SUBMIT = ("POST", "/jobs")
POLL = ("GET", "/jobs/j?wait=20")
GOOD = {
    INCREMENT: Answer(200, {"value": 1}),
    READ: Answer(200, {"data": {}}),
    SUBMIT: Answer(202, {"id": "j"}),
    POLL: Answer(200, {"status": "succeeded"}),
}


class Scripted(Api):
    """An API that has one answer for each request."""

    def __init__(self, answers: dict[tuple[str, str], Answer]) -> None:
        super().__init__(1, "key")
        self._answers = answers

    def send(self, method: str, path: str, body: Any = None, **_: Any) -> Answer:
        return self._answers[method, path]


def used(**changes: Any) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"requests": [], "jobs": []}
    use(Scripted({**GOOD, **changes.pop("answers", {})}), "token", 0, times, **changes)
    return times


def test_requests_and_the_job_of_a_round_are_timed() -> None:
    assert {name: len(each) for name, each in used().items()} == {"requests": 3, "jobs": 1}


@pytest.mark.parametrize("status", [0, 401, 404, 429, 503])
@pytest.mark.parametrize(
    ("request_line", "what"),
    [
        (INCREMENT, "increment"),
        (READ, "read of a session"),
        (SUBMIT, "job"),
        (POLL, "read of a job"),
    ],
)
def test_failure_is_not_a_fast_answer(
    request_line: tuple[str, str], what: str, status: int
) -> None:
    said = f"{status} some-code" if status else "not at all"
    answer = Answer(status, {"code": "some-code"} if status else None)
    with pytest.raises(LocalError, match=f"quiet tenant's {what} was answered {said}"):
        used(answers={request_line: answer})


@pytest.mark.parametrize("status", ["dead", "cancelled"])
def test_job_that_ends_without_success_is_not_waited_for(status: str) -> None:
    with pytest.raises(LocalError, match=f"job j is {status}"):
        used(answers={POLL: Answer(200, {"status": status})})


def test_job_that_never_ends_is_not_waited_for_without_end() -> None:
    with pytest.raises(LocalError, match="job j is queued"):
        used(answers={POLL: Answer(200, {"status": "queued"})}, job_seconds=0)


@pytest.mark.parametrize(
    ("job", "increment", "accepted"),
    [(202, 200, 2), (503, 200, 1), (202, 429, 1), (0, 0, 0), (401, 401, 0)],
)
def test_flood_counts_accepted_requests_apart(job: int, increment: int, accepted: int) -> None:
    api = Scripted({SUBMIT: Answer(job), ("POST", "/counters/flood/increment"): Answer(increment)})
    assert send_pair(api) == accepted


def test_flood_has_its_requests_at_the_end() -> None:
    flood = Flood()
    flood.end("70 50\n", seconds=10)
    assert (flood.sent, flood.accepted) == (70, 50)


def test_flood_that_is_refused_is_too_weak() -> None:
    with pytest.raises(LocalError, match=r"49 of 9000 requests were accepted in 10 s, and 50 are"):
        Flood().end("9000 49\n", seconds=10)


@pytest.mark.parametrize("line", ["", "\n", "7\n", "Traceback\n"])
def test_flood_whose_process_has_ended_is_an_error(line: str) -> None:
    with pytest.raises(LocalError, match="the flooding process ended by itself"):
        Flood().end(line, seconds=1)


@pytest.fixture
def replies() -> Iterator[tuple[int, list[tuple[int, bytes]]]]:
    """Yields the port of a server, and the replies that it gives one after another."""
    left: list[tuple[int, bytes]] = []

    class Replies(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = left.pop(0)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Replies)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port, left
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (200, b'{"a": 1}', Answer(200, {"a": 1})),
        (200, b"", Answer(0)),
        (201, b"null", Answer(0)),
        (202, b"{", Answer(0)),
        (204, b"", Answer(204)),
        (503, b"<html>", Answer(503)),
        (500, b"", Answer(500)),
    ],
    ids=["object", "empty", "null", "cut", "no content", "error page", "error without a body"],
)
def test_success_without_a_body_is_an_unknown_outcome(
    replies: tuple[int, list[tuple[int, bytes]]], status: int, body: bytes, answer: Answer
) -> None:
    port, left = replies
    left.append((status, body))
    api = Api(port, "key")
    assert api.send("GET", "/") == answer
    api.close()
