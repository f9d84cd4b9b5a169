"""Asynchronous invocations: retries, ages, destinations, dead letters, and a stop."""

import asyncio
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from mayfly_local.application.model import AsynchronousRules, Function
from mayfly_local.compute.invocation import Failure, Invocation, Reply
from mayfly_local.logs import Log, Logs
from mayfly_local.sources.asynchronous import Asynchronous
from mayfly_local.sources.destinations import Destinations, Outcome
from mayfly_local.sources.log_tails import LogTails, Tail
from mayfly_local.sources.requests import OwnRequests

ARN = "arn:aws:lambda:us-east-1:000000000000:function:F"
FAILURES = "arn:aws:sqs:us-east-1:000000000000:failures"
DEAD = "arn:aws:sqs:us-east-1:000000000000:dead"
SUCCESSES = "arn:aws:sns:us-east-1:000000000000:successes"
FAILED = Failure("ValueError", "no")
DONE = Reply(b'{"ok": true}')
ALL = AsynchronousRules(on_success_arn=SUCCESSES, on_failure_arn=FAILURES, dead_letter_arn=DEAD)


def function(rules: AsynchronousRules, *, limit: int | None = None) -> Function:
    return Function(
        name="F", arn=ARN, handler="app.f", runtime="python3.13", timeout_seconds=3,
        memory_mb=128, variables={}, code=None, inline="", brings_packages=False, libraries=(),
        layers=(), limit=limit, log_group="/aws/lambda/F", role=None, asynchronous=rules,
    )  # fmt: skip


async def until(is_over: Callable[[], bool]) -> None:
    """Returns when `is_over` does so. Raises TimeoutError."""
    async with asyncio.timeout(10):
        while True:
            if is_over():
                return
            await asyncio.sleep(0.001)


class Noted(Destinations):
    """Destinations that note what they get."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Outcome]] = []
        self.buried: list[tuple[str, Outcome]] = []

    async def send(self, function: str, arn: str, outcome: Outcome) -> None:
        """Notes a record."""
        self.sent.append((arn, outcome))

    async def bury(self, function: str, arn: str, outcome: Outcome) -> None:
        """Notes a dead letter."""
        self.buried.append((arn, outcome))


class Unsteady(OwnRequests):
    """Requests whose keeper does not answer a report twice, as while it restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals = 2

    async def done(self, invocation: str) -> None:
        """Fails twice, then forgets the invocation."""
        if self.refusals:
            self.refusals -= 1
            raise aiohttp.ClientConnectionError
        await super().done(invocation)


@dataclass
class Scene:
    """A function whose results a test gives, with everything around it."""

    log: Log
    rules: AsynchronousRules = ALL
    limit: int | None = None
    keeps: bool = False
    requests: OwnRequests = field(default_factory=OwnRequests)
    noted: Noted = field(default_factory=Noted)
    invoked: list[Invocation] = field(default_factory=list)

    def run(
        self, results: list[Reply | Failure], is_over: Callable[[], bool], events: int = 1
    ) -> None:
        """Submits events, and runs them until `is_over`."""

        async def invoke(name: str, invocation: Invocation) -> Reply | Failure:
            self.invoked.append(invocation)
            await asyncio.sleep(0)
            return results[min(len(self.invoked), len(results)) - 1]

        async def scene() -> None:
            asynchronous = Asynchronous(
                {"F": function(self.rules, limit=self.limit)}, self.requests, invoke,
                destinations=self.noted, log=self.log, tails=LogTails({"F": self.log}),
                retry_seconds=0.01, keeps=self.keeps,
            )  # fmt: skip
            for number in range(events):
                await asynchronous.submit("F", {"number": number})
            running = asyncio.ensure_future(asynchronous.run())
            await until(lambda: is_over() and not asynchronous.is_busy)
            running.cancel()
            assert await self.requests.due([], seconds=0) == []

        asyncio.run(scene())


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Log]:
    logs = Logs(tmp_path, form="json", out=io.StringIO())
    yield logs.of("mayfly")
    logs.close()


def conditions(noted: list[tuple[str, Outcome]]) -> list[tuple[str, str, int]]:
    return [(arn, outcome.condition, outcome.tries) for arn, outcome in noted]


def test_run_that_fails_in_an_unforeseen_way_holds_up_no_stop(log: Log) -> None:
    invoked: list[str] = []

    async def invoke(name: str, invocation: Invocation) -> Reply | Failure:
        invoked.append(name)
        raise KeyError(name)

    async def scene() -> None:
        requests = OwnRequests()
        asynchronous = Asynchronous(
            {"F": function(ALL)}, requests, invoke,
            destinations=Noted(), log=log, tails=LogTails({"F": log}),
        )  # fmt: skip
        await asynchronous.submit("F", {})
        running = asyncio.ensure_future(asynchronous.run())
        await until(lambda: bool(invoked))
        asynchronous.drain()
        requests.close()
        await until(lambda: not asynchronous.is_busy)
        running.cancel()

    asyncio.run(scene())


def test_event_that_fails_is_tried_three_times_with_the_same_request_id(log: Log) -> None:
    scene = Scene(log)
    scene.run([FAILED], lambda: bool(scene.noted.buried))
    assert len(scene.invoked) == 3
    assert len({invocation.request_id for invocation in scene.invoked}) == 1
    assert conditions(scene.noted.sent) == [(FAILURES, "RetriesExhausted", 3)]
    assert conditions(scene.noted.buried) == [(DEAD, "RetriesExhausted", 3)]


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_retries_are_as_many_as_the_configuration_says(log: Log, retries: int) -> None:
    scene = Scene(log, replace(ALL, max_retries=retries))
    scene.run([FAILED], lambda: bool(scene.noted.sent))
    assert conditions(scene.noted.sent) == [(FAILURES, "RetriesExhausted", retries + 1)]


def test_success_after_a_retry_goes_to_the_success_destination_only(log: Log) -> None:
    scene = Scene(log)
    scene.run([FAILED, DONE], lambda: bool(scene.noted.sent))
    assert conditions(scene.noted.sent) == [(SUCCESSES, "Success", 2)]
    assert scene.noted.buried == []


def test_event_without_destinations_ends_in_the_log(log: Log, tmp_path: Path) -> None:
    scene = Scene(log, AsynchronousRules(max_retries=0))
    path = tmp_path / "mayfly.jsonl"
    scene.run([FAILED], lambda: "discarded" in path.read_text())
    (entry,) = [json.loads(line) for line in path.read_text().splitlines()]
    assert (entry["target"], entry["reason"], entry["next"]) == ("F", "no", "discarded")


def test_event_that_is_too_old_is_discarded_without_another_try(log: Log) -> None:
    scene = Scene(log, replace(ALL, max_age_seconds=-1))
    scene.run([DONE], lambda: bool(scene.noted.sent))
    assert scene.invoked == []
    assert conditions(scene.noted.sent) == [(FAILURES, "EventAgeExceeded", 0)]


def test_retry_after_the_end_of_an_events_time_is_not_made(log: Log) -> None:
    scene = Scene(log, replace(ALL, max_age_seconds=0.005))  # type: ignore[arg-type]
    scene.run([FAILED], lambda: bool(scene.noted.sent))
    assert scene.noted.sent[0][1].condition == "EventAgeExceeded"
    assert len(scene.invoked) < 3


def test_function_without_concurrency_is_not_tried(log: Log) -> None:
    scene = Scene(log, limit=0)
    scene.run([DONE], lambda: bool(scene.noted.sent))
    assert scene.invoked == []
    assert conditions(scene.noted.sent) == [(FAILURES, "ZeroReservedConcurrency", 0)]


def test_event_runs_once_though_its_report_fails_at_first(log: Log) -> None:
    requests = Unsteady()
    scene = Scene(log, requests=requests)
    scene.run([DONE], lambda: requests.refusals == 0)
    assert len(scene.invoked) == 1


def test_event_finds_its_function_by_the_name_that_clients_use(log: Log) -> None:
    async def invoke(name: str, invocation: Invocation) -> Reply | Failure:
        invoked.append(name)
        return DONE

    async def scene() -> None:
        requests = OwnRequests()
        named = replace(function(AsynchronousRules()), function_name="shop-f")
        asynchronous = Asynchronous(
            {"F": named}, requests, invoke,
            destinations=Noted(), log=log, tails=LogTails({"F": log}),
        )  # fmt: skip
        await asynchronous.submit("shop-f", {})
        running = asyncio.ensure_future(asynchronous.run())
        await until(lambda: bool(invoked) and not asynchronous.is_busy)
        running.cancel()

    invoked: list[str] = []
    asyncio.run(scene())
    assert invoked == ["F"]


def test_many_events_run_once_each(log: Log) -> None:
    scene = Scene(log, AsynchronousRules())
    scene.run([DONE], lambda: len(scene.invoked) == 50, events=50)
    assert {json.loads(invocation.event)["number"] for invocation in scene.invoked} == {*range(50)}
    assert len(scene.invoked) == 50


def drained(log: Log, *, keeps: bool) -> tuple[int, int]:
    """Drains with ten events due and one that waits for a retry.

    Returns how many ran, and how many are left.
    """
    invoked: list[str] = []

    async def invoke(name: str, invocation: Invocation) -> Reply | Failure:
        invoked.append(name)
        return DONE

    async def scene() -> int:
        requests = OwnRequests()
        asynchronous = Asynchronous(
            {"F": function(ALL)}, requests, invoke,
            destinations=Noted(), log=log, tails=LogTails({"F": log}), keeps=keeps,
        )  # fmt: skip
        for _ in range(10):
            await asynchronous.submit("F", {})
        (waiting, *_) = await requests.due([], seconds=0)
        await requests.again(waiting["id"], tries=1, due=waiting["due"] + 3600)
        asynchronous.drain()
        requests.close()
        running = asyncio.ensure_future(asynchronous.run())
        await until(lambda: not asynchronous.is_busy)
        running.cancel()
        return len(await requests.due([], seconds=0))

    left = asyncio.run(scene())
    return len(invoked), left


def test_stop_runs_what_is_due_if_nothing_keeps_it(log: Log) -> None:
    assert drained(log, keeps=False) == (9, 0)


def test_stop_leaves_what_is_due_if_it_is_kept(log: Log) -> None:
    assert drained(log, keeps=True) == (0, 9)


def test_try_that_the_stop_ended_does_not_count(log: Log) -> None:
    async def invoke(name: str, invocation: Invocation) -> Reply | Failure:
        return Failure("Runtime.Stopped", "the local runtime is stopping")

    async def scene() -> list[dict[str, Any]]:
        requests, noted = OwnRequests(), Noted()
        asynchronous = Asynchronous(
            {"F": function(replace(ALL, max_retries=0))}, requests, invoke,
            destinations=noted, log=log, tails=LogTails({"F": log}), keeps=True,
        )  # fmt: skip
        await asynchronous.submit("F", {})
        running = asyncio.ensure_future(asynchronous.run())
        await asyncio.sleep(0.01)
        running.cancel()
        assert noted.sent == []
        return await requests.due([], seconds=0)

    assert [found["tries"] for found in asyncio.run(scene())] == [0]


# ---------------------------------------------------------------- what destinations get


def test_record_of_a_failure_has_the_documented_shape() -> None:
    record = Outcome(ARN, "r", '{"a": 1}', tries=2).after(FAILED).record()
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "version": "1.0",
        "requestContext": {
            "requestId": "r",
            "functionArn": f"{ARN}:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        },
        "requestPayload": {"a": 1},
        "responseContext": {
            "statusCode": 200,
            "executedVersion": "$LATEST",
            "functionError": "Unhandled",
        },
        "responsePayload": {"errorType": "ValueError", "errorMessage": "no"},
    }


def test_record_of_a_success_has_the_reply_and_no_error() -> None:
    record = Outcome(ARN, "r", "{}", tries=0).after(DONE).record()
    assert record["requestContext"]["condition"] == "Success"
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}
    assert record["responsePayload"] == {"ok": True}


def test_record_of_an_event_that_never_ran_has_no_response() -> None:
    record = Outcome(ARN, "r", "{}", tries=0).discarded("EventAgeExceeded").record()
    assert record["requestContext"]["condition"] == "EventAgeExceeded"
    assert "responseContext" not in record
    assert "responsePayload" not in record


# ---------------------------------------------------------------- the end of a log


def test_tail_has_the_lines_of_its_invocation_between_those_of_lambda(log: Log) -> None:
    with LogTails({"F": log}).collecting("F", "r") as tail:
        log.line("mine", request_id="r")
        log.line('{"level": "INFO"}', request_id="r")
        log.line("another's", request_id="other")
    log.line("too late", request_id="r")
    text = tail.text("r", 0.0015, memory_mb=128)
    assert text.splitlines() == [
        "START RequestId: r Version: $LATEST",
        "mine",
        '{"level": "INFO"}',
        "END RequestId: r",
        "REPORT RequestId: r\tDuration: 1.50 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\t",
    ]


def test_tail_is_the_last_four_kilobytes() -> None:
    tail = Tail()
    tail.lines += ["é" * 5000]
    assert len(tail.text("r", 0.1, memory_mb=128).encode()) in (4095, 4096)
    assert tail.text("r", 0.1, memory_mb=128).endswith("MB\t\n")
