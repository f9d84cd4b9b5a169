"""Many webhooks on a whole local stack, to a receiver that misbehaves.

The workers that deliver them are killed meanwhile.
"""

import http.server
import json
import os
import random
import signal
import socket
import subprocess
import threading
from collections import defaultdict
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from standardwebhooks.webhooks import Webhook

from mayfly_testing.stack import MAYFLY, Stack, running, wait_until

KINDS = ("take", "fail", "redirect", "busy", "hang")


class BadReceiver:
    """A receiver that fails, hangs, redirects, answers 429 or accepts: each once, then at random.

    It records every request.
    """

    def __init__(self) -> None:
        self.dice = random.Random(7)
        self.first = iter(KINDS)
        self.requests: list[tuple[dict[str, str], str]] = []
        self.answers: dict[str, int] = defaultdict(int)
        self.taken: set[int] = set()
        self.redirected = 0
        self.over = threading.Event()
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                receiver.answer(self)

            def do_GET(self) -> None:
                receiver.redirected += 1
                self.send_error(404)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        if request.path != "/hook":
            self.redirected += 1
            request.send_error(404)
            return
        body = request.rfile.read(int(request.headers["Content-Length"])).decode()
        self.requests.append(
            ({name.lower(): value for name, value in request.headers.items()}, body)
        )
        kind = next(self.first, None) or self.dice.choices(KINDS, [50, 20, 15, 13, 2])[0]
        self.answers[kind] += 1
        with suppress(OSError):
            if kind == "hang":
                self.over.wait(60)
                return
            status, headers = {
                "take": (204, {}), "fail": (self.dice.choice([400, 404, 500, 503]), {}),
                "redirect": (307, {"Location": "/elsewhere"}),
                "busy": (429, {"Retry-After": "1"}),
            }[kind]  # fmt: skip
            request.send_response(status)
            for name, value in headers.items():
                request.send_header(name, value)
            request.end_headers()
            if kind == "take":
                self.taken.add(json.loads(body)["n"])


def ended(stack: Stack, job_id: str) -> Any:
    """Returns the job, once it has succeeded."""
    job = stack.job(job_id)
    return job if job["status"] == "succeeded" else None


class SilentReceiver:
    """A receiver that takes connections and never answers."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self.listener.getsockname()[1]
        self.taken: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        with suppress(OSError):
            while True:
                self.taken.append(self.listener.accept()[0])

    def close(self) -> None:
        self.listener.close()
        for connection in self.taken:
            connection.close()


class PromptReceiver:
    """A receiver that answers 204, and notes when."""

    def __init__(self) -> None:
        self.times: list[float] = []
        receiver = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                receiver.times.append(monotonic())
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.mark.timeout(180)
def test_forty_webhooks_without_an_answer_cost_a_good_one_about_one_timeout(
    tmp_path: Path,
) -> None:
    with (
        closing(SilentReceiver()) as silent,
        closing(PromptReceiver()) as prompt,
        running(tmp_path, work=tmp_path / ".mayfly") as stack,
    ):
        subprocess.run(
            [str(MAYFLY), "webhooks", "secret"], cwd=tmp_path, capture_output=True, check=True
        )
        for _ in range(40):
            stack.submit("http.deliver", {"url": f"http://127.0.0.1:{silent.port}/"})
        wait_until(lambda: len(silent.taken) >= 2, 30)  # every slot waits, or will soon
        sent = monotonic()
        stack.submit("http.deliver", {"url": f"http://127.0.0.1:{prompt.port}/"})
        wait_until(lambda: prompt.times, 60)
    print({"seconds of a good webhook beside 40 hanging ones": round(prompt.times[0] - sent, 1)})
    assert prompt.times[0] - sent < 32  # 178 s before receivers rested


@pytest.mark.soak
@pytest.mark.timeout(420)
def test_every_webhook_arrives_under_one_id_despite_kills_and_a_faulty_receiver(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    count = int(request.config.getoption("--webhooks"))
    receiver, dice, kills = BadReceiver(), random.Random(8), 0
    pauses = ",".join(["1"] * 19)
    with running(
        tmp_path,
        "--parameter",
        f"WebhookPauses={pauses}",
        "--parameter",
        "LeaseSeconds=3",
        work=tmp_path / ".mayfly",
    ) as stack:
        made = subprocess.run(
            [str(MAYFLY), "webhooks", "secret"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        secret = made.stdout.strip()
        url = f"http://127.0.0.1:{receiver.server.server_port}/hook"
        ids = {
            n: stack.submit("http.deliver", {"url": url, "body": {"n": n}}, max_attempts=20)["id"]
            for n in range(count)
        }
        while len(receiver.taken) < count:
            with suppress(AssertionError):
                wait_until(lambda: len(receiver.taken) == count, dice.uniform(0.5, 3))
            for pid in stack.environments("DeliverWebhooks"):
                if kills < 40 and dice.random() < 0.5:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                        kills += 1
        jobs = [wait_until(partial(ended, stack, job_id), 60) for job_id in ids.values()]
        stored = json.dumps([stack.items(table) for table in ("JobsTable", "EndpointsTable")])
        logged = "".join(path.read_text() for path in (stack.work / "logs").iterdir())
        assert secret.removeprefix("whsec_")[:20] not in stored + logged
    receiver.over.set()
    receiver.server.shutdown()
    receiver.server.server_close()

    sent = defaultdict(set)
    for headers, body in receiver.requests:
        sent[Webhook(secret).verify(body, headers)["n"]].add(headers["webhook-id"])
    assert kills >= 5
    assert sent == {n: {f"msg_{job_id}"} for n, job_id in ids.items()}
    assert receiver.redirected == 0
    assert all(receiver.answers[kind] for kind in KINDS), receiver.answers
    outcomes = [attempt["outcome"] for job in jobs for attempt in job["attempts"]]
    assert outcomes.count("succeeded") == count
    facts = {
        "requests": len(receiver.requests),
        "answers": dict(receiver.answers),
        "kills": kills,
        "interrupted": outcomes.count("interrupted"),
    }
    print(facts)
