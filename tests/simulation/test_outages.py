"""Outages of SQS, in virtual time: each accepted job is done once, soon after the outage.

The mapping, the relay, the store and the worker are the real ones; SQS is a model. `pytest -s`
prints the figures.
"""

import asyncio
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from mayfly.core.deadline import ANSWER_SECONDS
from mayfly.jobs.model import Status, Wake
from mayfly.jobs.routing.outbox import Outbox

from functions.relay_jobs.app import build as build_relay
from functions.relay_jobs.deps import Deps as RelayDeps
from mayfly_local.application.model import StreamSource
from mayfly_local.compute.invocation import Invocation, Reply
from mayfly_local.emulator.clients import Clients
from mayfly_local.logs import Logs
from mayfly_local.sources.streams import StreamPoller
from tests.conftest import make_tables
from tests.contract.test_template import FUNCTIONS, MAPPINGS
from tests.support.clients import make_client
from tests.support.fakes import Context
from tests.support.stage import Stage
from tests.support.virtual_time import run

#: The pause between two sweeps, in seconds: no job may wait longer, beyond the outage.
SWEEP_SECONDS = 60
RELAY = FUNCTIONS["RelayJobs"]
(MAPPING,) = [each for each in MAPPINGS.values() if "StartingPosition" in each]
#: Seconds of one invocation of the relay, and of one batch of the worker.
RELAY_SECONDS, WORKER_SECONDS = 0.05, 0.2
#: Seconds between two jobs.
EVERY = 0.5


class Sqs:
    """A queue that is refused or silent for some time."""

    def __init__(self, outage: str, begins: float, seconds: float) -> None:
        self.now: Callable[[], float] = lambda: 0.0
        self.messages: list[str] = []
        self.refused = 0
        #: Seconds that the caller of `send` has waited for answers.
        self.waited = 0.0
        self._outage = outage
        self._begins, self._ends = begins, begins + seconds

    @property
    def is_down(self) -> bool:
        return self._begins <= self.now() < self._ends

    def send(self, bodies: Mapping[str, Any], delays: Mapping[str, float]) -> set[str]:
        if not self.is_down:
            self.messages += [body["id"] for body in bodies.values()]
            return set()
        self.refused += len(bodies)
        if self._outage == "silent":  # The relay waits for as long as its deadline lets it.
            self.waited = RELAY["Timeout"] - ANSWER_SECONDS
        return set(bodies)


class Table:
    """The emulator's client for the mapping."""

    def __init__(self) -> None:
        self._streams = make_client("dynamodbstreams")

    def of(self, function: str) -> "Table":
        return self

    async def call(self, service: str, operation: str, **asked: Any) -> dict[str, Any]:
        # A poll of the stream takes a moment, so that virtual time passes.
        await asyncio.sleep(0.01)
        return dict(getattr(self._streams, operation)(**asked))


@dataclass
class Figures:
    """Seconds in which each job was accepted, and done, and the relay's invocations."""

    accepted: dict[str, float] = field(default_factory=dict)
    done: dict[str, float] = field(default_factory=dict)
    invocations: int = 0
    longest_invocation: float = 0.0

    def longest_wait(self) -> float:
        return max(self.done[job] - at for job, at in self.accepted.items() if job in self.done)


async def play(stage: Stage, sqs: Sqs, *, seconds: float, folder: Path) -> Figures:
    """Submits jobs for some seconds, and returns when a minute has passed without a message."""
    loop, figures = asyncio.get_running_loop(), Figures()
    began_ms = stage.clock.now_ms

    def now() -> float:
        stage.clock.now_ms = began_ms + int(loop.time() * 1000)
        return loop.time()

    sqs.now = now
    relay = build_relay(
        RelayDeps(outbox=Outbox(sqs.send, {}), observe=stage.observe, clock=stage.clock)
    )

    async def invoke(function: str, invocation: Invocation) -> Reply:
        now()
        sqs.waited = 0.0
        reply = relay(cast("Any", json_of(invocation)), Context(RELAY["Timeout"] * 1000))
        figures.invocations += 1
        lasted = RELAY_SECONDS + sqs.waited
        figures.longest_invocation = max(figures.longest_invocation, lasted)
        await asyncio.sleep(lasted)
        return Reply(text_of(reply))

    async def submit() -> None:
        number = 0
        while now() < seconds:
            job = f"j{number}"
            stage.submit(id=job)
            figures.accepted[job] = now()
            number += 1
            await asyncio.sleep(EVERY)

    async def work() -> None:
        idle = 0
        while idle < SWEEP_SECONDS or len(figures.done) < len(figures.accepted):
            assert idle < 30 * SWEEP_SECONDS, "jobs are lost"
            batch = [] if sqs.is_down else sqs.messages[:10]
            del sqs.messages[: len(batch)]
            await asyncio.sleep(WORKER_SECONDS if batch else 1)
            idle = 0 if batch or now() < seconds else idle + 1
            if batch:
                stage.handle(*(Wake("acme", job) for job in batch))
                for job in batch:
                    if stage.job(job).status is Status.COMPLETED:
                        figures.done.setdefault(job, now())

    logs = Logs(folder, form="json", out=io.StringIO())
    poller = StreamPoller(source_of(stage), cast("Clients", Table()), invoke, logs.of("test"))
    polling = asyncio.ensure_future(poller.run())
    await asyncio.gather(submit(), work())
    poller.stop()
    await polling
    logs.close()
    return figures


def source_of(stage: Stage) -> StreamSource:
    """Returns the relay's mapping of the template, on the stage's table."""
    table = stage.client.describe_table(TableName=stage.tables["JobsTable"])["Table"]
    return StreamSource(
        name="M", function="RelayJobs", stream_arn=table["LatestStreamArn"],
        batch_size=MAPPING["BatchSize"], window_seconds=0, reports_failures=True,
        starts_at=MAPPING["StartingPosition"], bisects=MAPPING["BisectBatchOnFunctionError"],
        max_retries=None, max_age_seconds=None, on_failure_arn=None, patterns=(),
        role="RelayJobs", function_arn="arn:aws:lambda:us-east-1:000000000000:function:RelayJobs",
    )  # fmt: skip


def json_of(invocation: Invocation) -> Any:
    event = json.loads(invocation.event)
    event["Records"] = [
        record
        for record in event["Records"]
        if record["dynamodb"]["NewImage"]["status"]["S"] == "QUEUED"
    ]
    return event


def text_of(reply: Any) -> bytes:
    return json.dumps(reply).encode()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("outage", "minutes"),
    [("refused", 5), pytest.param("refused", 15, marks=pytest.mark.soak), ("silent", 5)],
)
def test_after_an_outage_of_sqs_each_accepted_job_is_done_once_and_soon(
    embedded: Any, tmp_path: Path, outage: str, minutes: int
) -> None:
    lasts = minutes * 60
    sqs = Sqs(outage, begins=30, seconds=lasts)
    stage = Stage(embedded, make_tables(embedded, f"{outage}-", streams=True))
    figures = run(play(stage, sqs, seconds=lasts + 60, folder=tmp_path))
    print(  # noqa: T201  # shown by pytest -s
        f"\nSQS {outage} for {minutes} min: accepted {len(figures.accepted)}, "
        f"done {len(figures.done)}, counted {stage.count()}; "
        f"longest wait {figures.longest_wait():.0f} s; {sqs.refused} sends refused in "
        f"{figures.invocations} invocations, the longest {figures.longest_invocation:.0f} s"
    )
    assert len(figures.accepted) == len(figures.done) == stage.count()
    assert sqs.refused > 0
    assert figures.longest_wait() <= lasts + SWEEP_SECONDS
    assert figures.longest_invocation < RELAY["Timeout"]
