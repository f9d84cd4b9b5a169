"""A store that stands still for 20 s while a whole stack is under load."""

import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests
from mayfly.core.ids import new_secret
from mayfly.tenants.rules import mint

from mayfly_testing.stack import Stack, running, wait_until

#: Seconds of the stop, and of load after it.
STOPPED, AFTER = 20, 5
CALLERS = 6
#: Callers that only increment a counter without a key.
PLAIN_CALLERS = 3
#: Answers of the API without success.
PROBLEMS = {(503, "store-unavailable"), (503, "outcome-unknown")}
#: The gateway's own answer if the authorizer fails, which is before the function (docs/http.md).
GATEWAY = (500, "Internal Server Error")
#: The answer after which an increment without a key may have counted. After any other answer than
#: success, nothing was written.
UNKNOWN = (503, "outcome-unknown")
#: Functions that work on messages. An invocation may fail: its messages come again.
IN_BACKGROUND = {"RunJobs", "RelayJobs", "SweepJobs", "BuryJobs", "DeliverWebhooks"}


@dataclass
class Ledger:
    """Answers that callers got, by what they asked for."""

    #: Answers by status and by what they say.
    answers: Counter[tuple[int, str]] = field(default_factory=Counter)
    #: Increments: with a key, without one, and those without one that may or may not have counted.
    increments: Counter[str] = field(default_factory=Counter)
    jobs: list[str] = field(default_factory=list)
    #: Session tokens, each with the subject of its session.
    sessions: dict[str, str] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


def told(reply: requests.Response) -> tuple[int, str]:
    """Returns the status of an answer, and the code of its problem or the gateway's message."""
    if reply.status_code < 300:
        return reply.status_code, "success"
    body = reply.json()
    if reply.headers["Content-Type"] == "application/problem+json":
        return reply.status_code, body["code"]
    return reply.status_code, body["message"]


class Caller:
    """A client that repeats requests with a key until they succeed."""

    def __init__(self, stack: Stack, ledger: Ledger, number: int, over: threading.Event) -> None:
        self._stack, self._ledger, self._number, self._over = stack, ledger, number, over
        self._http = requests.Session()
        self._http.headers.update(stack.headers)

    def run(self) -> int:
        """Sends requests until `over`; returns their number."""
        rounds = 0
        while not self._over.is_set():
            rounds += 1
            name = f"{self._number}-{rounds}"
            self._increment_by_key(name)
            self._increment()
            self._submit(name)
            self._create_session(name)
        self._http.close()
        return rounds

    def increment_only(self) -> None:
        """Sends increments without a key until `over`."""
        while not self._over.is_set():
            self._increment()
        self._http.close()

    def _send(self, path: str, body: Any, key: str = "") -> requests.Response:
        headers = {"Idempotency-Key": key} if key else {}
        reply = self._http.post(self._stack.url + path, json=body, headers=headers, timeout=60)
        with self._ledger.lock:
            self._ledger.answers[told(reply)] += 1
        return reply

    def _await(self, job_id: str) -> None:
        reply = self._http.get(f"{self._stack.url}/jobs/{job_id}?wait=1", timeout=60)
        with self._ledger.lock:
            self._ledger.answers[told(reply)] += 1

    def _repeat(self, path: str, body: Any, key: str) -> Any:
        return wait_until(
            lambda: reply.json() if (reply := self._send(path, body, key)).ok else None, 90
        )

    def _increment_by_key(self, name: str) -> None:
        self._repeat("/counters/keyed/increment", {}, f"k{name}")
        with self._ledger.lock:
            self._ledger.increments["keyed"] += 1

    def _increment(self) -> None:
        reply = self._send("/counters/plain/increment", {})
        with self._ledger.lock:
            if reply.ok:
                self._ledger.increments["plain"] += 1
            elif told(reply) == UNKNOWN:
                self._ledger.increments["unknown"] += 1

    def _submit(self, name: str) -> None:
        body = {"task": "counter.add", "payload": {"name": "jobs"}, "max_attempts": 20}
        job = self._repeat("/jobs", body, f"j{name}")
        with self._ledger.lock:
            self._ledger.jobs.append(job["id"])
        self._await(job["id"])

    def _create_session(self, name: str) -> None:
        reply = self._send("/sessions", {"subject": name})
        if reply.ok:
            with self._ledger.lock:
                self._ledger.sessions[reply.json()["token"]] = name


def failures(stack: Stack) -> Counter[tuple[str, str]]:
    """Returns how many invocations failed, by function and kind of the error."""
    return Counter(
        (function, entry["error"])
        for function, entries in stack.logs.items()
        for entry in entries
        if entry["type"] == "invocation failed"
    )


def answer_to_another_key(stack: Stack) -> tuple[int, str]:
    """Returns the answer to a key that the gateway has no answer of the authorizer to."""
    key, _ = mint("dev", "acme", frozenset(), now_ms=0, new_secret=new_secret)
    return told(stack.http("GET", "/counters/plain", headers={"Authorization": f"Bearer {key}"}))


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("stopped")) as found:
        yield found


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_counts_are_exact_after_the_store_stood_still_for_20_seconds_under_load(
    stack: Stack,
) -> None:
    ledger, over, clock = Ledger(), threading.Event(), threading.Event()
    with ThreadPoolExecutor(CALLERS + PLAIN_CALLERS + 1) as threads:
        runs = [
            threads.submit(Caller(stack, ledger, number, over).run) for number in range(CALLERS)
        ]
        plain = [
            threads.submit(Caller(stack, ledger, number, over).increment_only)
            for number in range(PLAIN_CALLERS)
        ]
        try:
            wait_until(lambda: {201, 202} <= {status for status, _ in ledger.answers.copy()}, 60)
            before = ledger.answers.copy()
            store = stack.store()
            store.suspend()
            try:
                uncached = threads.submit(answer_to_another_key, stack)
                clock.wait(STOPPED)
            finally:
                store.resume()
            clock.wait(AFTER)
        finally:
            over.set()
        rounds = sum(run.result() for run in runs)
        for run in plain:
            run.result()
    ledger.answers[uncached.result()] += 1
    failed = failures(stack)
    sys.stdout.write(
        f"{rounds} rounds; answers {dict(ledger.answers)}; failed invocations {dict(failed)}\n"
    )

    assert {said for _, said in before} == {"success"}
    unsuccessful = {answer for answer in ledger.answers if answer[1] != "success"}
    assert unsuccessful <= PROBLEMS | {GATEWAY}
    assert unsuccessful >= PROBLEMS  # the stop was felt
    assert {function for function, error in failed if error == "Sandbox.Timedout"} == set()
    assert {function for function, _ in failed} <= IN_BACKGROUND | {"IdentifyCallers"}
    assert uncached.result() == GATEWAY
    of_authorizer = sum(failed[failure] for failure in failed if failure[0] == "IdentifyCallers")
    assert ledger.answers[GATEWAY] == of_authorizer

    wait_until(lambda: stack.counter("jobs") >= len(ledger.jobs), 120, what="the jobs' end")
    assert len(set(ledger.jobs)) == len(ledger.jobs) == rounds
    assert {stack.job(job, wait=20)["status"] for job in ledger.jobs} == {"succeeded"}
    assert stack.counter("jobs") == len(ledger.jobs)
    increments = ledger.increments
    assert stack.counter("keyed") == increments["keyed"] == rounds
    late = stack.counter("plain") - increments["plain"]
    sys.stdout.write(f"increments without a key: {dict(increments)}; {late} of unknown counted\n")
    assert 0 <= late <= increments["unknown"]
    for token, subject in ledger.sessions.items():
        read = stack.get(
            "/sessions/current", headers={**stack.headers, "Session-Token": token}
        ).json()
        assert read["subject"] == subject
