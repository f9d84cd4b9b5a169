"""Outages of SQS, in virtual time: each accepted job is done once, soon after the outage.

The mapping, the relay, its client with all retries, the store and the worker are the real ones; the
wire to SQS is a model. The client's waits for answers, and its pauses, take virtual time, so the
length of an invocation is measured. `pytest -s` prints the figures.
"""

import asyncio
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest
from mayfly.aws.connections import READ_SECONDS, Answer
from mayfly.aws.errors import Unanswered
from mayfly.aws.lean import LeanClient
from mayfly.aws.queue import Queue
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
#: Seconds between two jobs, and for which jobs are submitted before and after the outage.
EVERY, BEFORE, AFTER = 0.5, 30, 30
ENV = {
    "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "us-east-1",
}  # fmt: skip


class Sqs:
    """The connections of a client to SQS, which is refused or silent for some time."""

    host = "sqs"

    def __init__(self, outage: str) -> None:
        #: The loop's time. It stands still while the relay's code runs.
        self.loop_time: Callable[[], float] = lambda: 0.0
        #: Seconds that the present invocation of the relay has waited.
        self.waited = 0.0
        #: Messages, each with the time from which it can be received.
        self.messages: list[tuple[float, str]] = []
        self.lost = 0
        self._outage = outage
        self._ends = 0.0

    def fail(self, seconds: float) -> None:
        """Begins the outage."""
        self._ends = self.now() + seconds

    def now(self) -> float:
        """Returns the time in the process of the relay."""
        return self.loop_time() + self.waited

    def wait(self, seconds: float) -> None:
        """Lets the process of the relay wait."""
        self.waited += seconds

    @property
    def is_down(self) -> bool:
        return self.now() < self._ends

    def exchange(self, headers: Mapping[str, str], body: bytes, seconds: float) -> Answer:
        """Answers a try of `SendMessageBatch`."""
        if not self.is_down:
            entries = json.loads(body)["Entries"]
            self.messages += [
                (self.now(), json.loads(entry["MessageBody"])["id"]) for entry in entries
            ]
            return Answer(200, {}, b"{}")
        self.lost += 1
        if self._outage == "refused":
            return Answer(503, {}, b'{"__type": "ServiceUnavailable"}')
        self.wait(min(READ_SECONDS, seconds))
        raise Unanswered("ReadTimeoutError")

    def receive(self) -> list[str]:
        """Takes up to ten messages."""
        if self.is_down:
            return []
        batch = [message for message in self.messages if message[0] <= self.now()][:10]
        for message in batch:
            self.messages.remove(message)
        return [job for _, job in batch]

    def close(self) -> None:
        """Does nothing."""


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
    """Seconds at which each job was accepted, and done, and the relay's invocations."""

    accepted: dict[str, float] = field(default_factory=dict)
    done: dict[str, float] = field(default_factory=dict)
    #: Seconds of each invocation of the relay, as its process waited.
    lasted: list[float] = field(default_factory=list)

    def waits(self) -> list[float]:
        """Returns the seconds that each accepted job waited. Raises KeyError if one is not done."""
        return [self.done[job] - at for job, at in self.accepted.items()]


class Play:
    """Jobs that are submitted before, during and after an outage, and the way that they go."""

    def __init__(self, stage: Stage, sqs: Sqs, folder: Path) -> None:
        self.figures = Figures()
        self._stage, self._sqs, self._folder = stage, sqs, folder
        self._began_ms = stage.clock.now_ms
        client = LeanClient("sqs", ENV, pause=sqs.wait, share=lambda: 0.5, clock=stage.clock)
        client._connections = sqs  # type: ignore[assignment]  # only the wire is played
        outbox = Outbox(Queue(client, "http://sqs/jobs").send, {})
        self._relay = build_relay(
            RelayDeps(outbox=outbox, observe=stage.observe, clock=stage.clock, monotonic=sqs.now)
        )

    async def run(self, outage: float) -> Figures:
        """Returns when a minute has passed without a message. `outage` is in seconds."""
        self._sqs.loop_time = asyncio.get_running_loop().time
        source, clients = source_of(self._stage), cast("Clients", Table())
        logs = Logs(self._folder, form="json", out=io.StringIO())
        poller = StreamPoller(source, clients, self._invoke, logs.of("test"))
        polling = asyncio.ensure_future(poller.run())
        await asyncio.gather(self._submit(outage), self._work())
        poller.stop()
        await polling
        logs.close()
        return self.figures

    def _now(self) -> float:
        now = self._sqs.loop_time()
        self._stage.clock.now_ms = self._began_ms + int(now * 1000)
        return now

    async def _submit(self, outage: float) -> None:
        await self._submit_for(BEFORE)
        # A whole batch of the mapping waits when the outage begins.
        self._accept(MAPPING["BatchSize"])
        self._sqs.fail(outage)
        await self._submit_for(outage + AFTER)

    async def _submit_for(self, seconds: float) -> None:
        ends = self._now() + seconds
        while self._now() < ends:
            self._accept(1)
            await asyncio.sleep(EVERY)

    def _accept(self, count: int) -> None:
        for _ in range(count):
            job = f"j{len(self.figures.accepted)}"
            self._stage.submit(id=job)
            self.figures.accepted[job] = self._now()

    async def _invoke(self, function: str, invocation: Invocation) -> Reply:
        self._now()
        reply = self._relay(json_of(invocation), Context(RELAY["Timeout"] * 1000))
        lasted, self._sqs.waited = RELAY_SECONDS + self._sqs.waited, 0.0
        self.figures.lasted.append(lasted)
        await asyncio.sleep(lasted)
        return Reply(text_of(reply))

    async def _work(self) -> None:
        figures, idle = self.figures, 0
        while idle < SWEEP_SECONDS or len(figures.done) < len(figures.accepted):
            assert idle < 30 * SWEEP_SECONDS, "jobs are lost"
            batch = self._sqs.receive()
            await asyncio.sleep(WORKER_SECONDS if batch else 1)
            idle = 0 if batch else idle + 1
            if batch:
                self._stage.handle(*(Wake("acme", job) for job in batch))
                for job in batch:
                    if self._stage.job(job).status is Status.COMPLETED:
                        figures.done.setdefault(job, self._now())


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
    ("outage", "minutes", "waits"),
    # While SQS is silent, the ten calls of a batch would take 105 s without the deadline.
    [
        ("refused", 3, 10),
        pytest.param("refused", 15, 10, marks=pytest.mark.soak),
        ("silent", 3, 25),
        pytest.param("silent", 5, 25, marks=pytest.mark.soak),
    ],
)
def test_after_an_outage_of_sqs_each_accepted_job_is_done_once_and_soon(
    embedded: Any, tmp_path: Path, outage: str, minutes: int, waits: float
) -> None:
    lasts = minutes * 60
    sqs = Sqs(outage)
    stage = Stage(embedded, make_tables(embedded, f"{outage}-{minutes}-", streams=True))
    figures = run(Play(stage, sqs, tmp_path).run(lasts))
    longest = max(figures.lasted)
    print(  # noqa: T201  # shown by pytest -s
        f"\nSQS {outage} for {minutes} min: accepted {len(figures.accepted)}, "
        f"done {len(figures.done)}, counted {stage.count()}; "
        f"longest wait {max(figures.waits()):.0f} s; {sqs.lost} tries without success in "
        f"{len(figures.lasted)} invocations, the longest {longest:.2f} s"
    )
    assert len(figures.accepted) == len(figures.done) == stage.count()
    assert max(figures.waits()) <= lasts + SWEEP_SECONDS
    assert waits < longest < RELAY["Timeout"] - 1
