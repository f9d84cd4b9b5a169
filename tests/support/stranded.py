"""Jobs whose announcement was lost, the reports of the loss, and the function that resends them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from mayfly.aws.dynamodb import DynamoDB
from mayfly.aws.errors import StreamTrimmed
from mayfly.jobs.model import Job, Status, Window
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.routing.dead_letters import DeadLetters
from mayfly.jobs.routing.outbox import Outbox
from mayfly.jobs.routing.stranded import PAGES_A_SECOND, StrandedSearch
from mayfly.jobs.routing.windows import WINDOW_SLACK_MS
from mayfly.jobs.store import JobStore

from functions.bury_jobs.app import build
from functions.bury_jobs.deps import Deps as BuryDeps
from tests.support.clients import make_client
from tests.support.events import sqs
from tests.support.fakes import Context, FixedClock, Names
from tests.support.stage import Counting

ARN = "arn:aws:dynamodb:us-east-1:000000000000:table/jobs/stream/1"
NOW = FixedClock().now_ms
DAY = 24 * 3600 * 1000
#: The time of the losses that these tests report: ten minutes of yesterday.
FROM, TO = NOW - DAY, NOW - DAY + 600_000
WINDOW = Window(FROM, TO)
#: The first and the last time at which a job of that window may have been announced.
EARLY, LATE = FROM - WINDOW_SLACK_MS, TO + WINDOW_SLACK_MS
#: The time of a page, in seconds: the pause that the rate limit makes.
PAGE_SECONDS = 1 / PAGES_A_SECOND


def at(ms: int) -> str:
    """Returns a time as AWS's reports write it, truncated to the second."""
    return datetime.fromtimestamp(ms // 1000, UTC).isoformat().replace("+00:00", "Z")


def report(
    from_ms: int | None = FROM,
    to_ms: int | None = TO,
    *,
    reported_ms: int | None = NOW,
    **changes: Any,
) -> str:
    """Returns a report of the relay's mapping on records whose delivery it ended."""
    batch = {
        "shardId": "s",
        "startSequenceNumber": "5",
        "endSequenceNumber": "9",
        "batchSize": 3,
        "streamArn": ARN,
    }
    if from_ms is not None:
        batch["approximateArrivalOfFirstRecord"] = at(from_ms)
    if to_ms is not None:
        batch["approximateArrivalOfLastRecord"] = at(to_ms)
    whole: dict[str, Any] = {"version": "1.0", "DDBStreamBatchInfo": {**batch, **changes}}
    if reported_ms is not None:
        whole["timestamp"] = at(reported_ms)
    return json.dumps(whole)


#: A report that names no records: every unfinished job may be stranded.
EVERYTHING = report(batchSize=0)


def job_in_window(**changes: Any) -> Job:
    """Returns a job that was made in the window of the loss."""
    job = Job(
        "j1",
        "acme",
        "t",
        None,
        Status.QUEUED,
        max_attempts=2,
        created_at_ms=FROM + 1000,
        fingerprint="f",
    )
    return replace(job, **changes)


class Deadline(Context):
    """Lambda's context, whose deadline comes nearer with a test's clock."""

    def __init__(self, clock: FixedClock, seconds: float) -> None:
        super().__init__()
        self._clock, self._ends_ms = clock, clock() + int(seconds * 1000)

    # A static method in Lambda's context.
    def get_remaining_time_in_millis(self) -> int:  # type: ignore[override]
        """Returns the time that is left of the invocation."""
        return self._ends_ms - self._clock()


class Bury:
    """BuryJobs over a real store, an empty stream and a queue of the test's own."""

    def __init__(self, client: Any, *, page_items: int = 2, receives: str = "receive") -> None:
        self.client = client
        db = DynamoDB(client, lambda attempt: None)
        self.clock = FixedClock()
        self.store = JobStore(db, "JobsTable")
        self.operations = JobOperations(self.store)
        self.counted: list[str] = []
        self.pauses: list[float] = []
        self.sent: list[tuple[Any, float]] = []
        self.queue_is_down = False
        self.images: list[dict[str, Any]] | None = None
        self.during_pause: Callable[[], object] = lambda: None
        self.read_again = 0
        outbox, observe = Outbox(self._send, {}), Counting(self.counted)
        search = StrandedSearch(
            operations=self.operations,
            outbox=outbox,
            observe=observe,
            clock=self.clock,
            pause=self._pause,
            new_nonce=Names(receives),
            page_items=page_items,
        )
        letters = DeadLetters(
            operations=self.operations,
            outbox=outbox,
            images=self._images,
            search=search,
            tasks={},
            producer_tenant="acme",
            observe=observe,
            clock=self.clock,
        )
        self._handler = build(
            BuryDeps(dead_letters=letters, relay_failures_arn="arn:relay-failures", observe=observe)
        )

    def receive(
        self, body: str | None = None, *, pages: float = 100, sent_ms: int | None = None
    ) -> bool:
        """Gives the function a report and time for some pages; returns whether it was settled."""
        event = sqs(report() if body is None else body)
        event["Records"][0]["eventSourceARN"] = "arn:relay-failures"
        if sent_ms is not None:
            event["Records"][0]["attributes"]["SentTimestamp"] = str(sent_ms)
        context = Deadline(self.clock, 15 + pages * PAGE_SECONDS)
        return not self._handler(event, context)["batchItemFailures"]

    def receive_until_settled(self, body: str | None = None, *, pages: float = 1) -> int:
        """Passes a report to the function until it is settled, as SQS does.

        Returns the number of receives.
        """
        for count in range(1, 50):
            if self.receive(body, pages=pages):
                return count
            self.clock.advance(60)
        raise AssertionError("the report was never settled")

    def submit(self, *ids: str, **changes: Any) -> None:
        for job_id in ids or ("j1",):
            self.store.create(job_in_window(**{"id": job_id, **changes}))

    def job(self, job_id: str = "j1") -> Job:
        return self.store.read("acme", job_id, now_ms=self.clock())

    def search_item(self) -> dict[str, Any]:
        item: dict[str, Any] = self.client.get_item(
            TableName="JobsTable", Key={"pk": {"S": "stranded"}, "sk": {"S": "search"}}
        )["Item"]
        return item

    def search_state(self) -> dict[str, Any]:
        return dict(json.loads(self.search_item()["state"]["S"]))

    def resent(self) -> list[str]:
        """Returns the jobs that the table's stream announced again, once for each time."""
        return [image["id"]["S"] for image in stream(self.client) if "resent_at" in image]

    def _send(self, bodies: Any, delays: Any) -> set[str]:
        if self.queue_is_down:
            return set(bodies)
        self.sent += [(bodies[name]["id"], delays[name]) for name in bodies]
        return set()

    def _images(self, *asked: str) -> Iterator[dict[str, Any]]:
        self.read_again += 1
        yield from self.images or []
        if self.images is None:
            raise StreamTrimmed(ARN, "5", "9")

    def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.during_pause()
        self.clock.advance(seconds)


def stream(client: Any) -> list[dict[str, Any]]:
    """Returns the new images of jobs that the table's stream has carried so far."""
    streams = make_client("dynamodbstreams")
    arn = client.describe_table(TableName="JobsTable")["Table"]["LatestStreamArn"]
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    position = streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    images = [
        record["dynamodb"].get("NewImage", {})
        for record in streams.get_records(ShardIterator=position)["Records"]
    ]
    return [image for image in images if image.get("sk") == {"S": "job"}]


def held(bury: Bury, lease_ms: int = 15_000, **changes: Any) -> Job:
    """Makes a job within the window of the loss, and claims it."""
    bury.submit(**changes)
    return bury.store.claim("acme", "j1", nonce="w", now_ms=bury.clock(), lease_ms=lease_ms)
