"""Jobs whose announcement was lost are found by their time and resent.

A crash leaves no job out.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from mayfly.aws.dynamodb import DynamoDB
from mayfly.aws.errors import StreamTrimmed
from mayfly.core.errors import InvalidRequest
from mayfly.jobs.model import Attempt, Job, Status, StreamGap, Window
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.routing.dead_letters import DeadLetters
from mayfly.jobs.routing.outbox import Outbox, announcement
from mayfly.jobs.routing.search import HELD_MS
from mayfly.jobs.routing.stranded import PAGE_ITEMS, PAGES_A_SECOND, StrandedSearch
from mayfly.jobs.routing.windows import WINDOW_SLACK_MS, covers, gap_window, hull, may_be_stranded
from mayfly.jobs.store import JobStore
from mayfly.jobs.wire import read_stream_gap

from functions.bury_jobs.app import build
from functions.bury_jobs.deps import Deps as BuryDeps
from tests.conftest import make_client
from tests.support.completion import complete
from tests.support.events import sqs
from tests.support.fakes import Context, FixedClock, Names
from tests.support.faults import Faults, Killed
from tests.support.stage import Counting, Stage

ARN = "arn:aws:dynamodb:us-east-1:000000000000:table/jobs/stream/1"
NOW = FixedClock().now_ms
DAY = 24 * 3600 * 1000
#: The time of the losses that these tests report: ten minutes of yesterday.
FROM, TO = NOW - DAY, NOW - DAY + 600_000
WINDOW = Window(FROM, TO)
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


def a_job(**changes: Any) -> Job:
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
            self.store.create(a_job(**{"id": job_id, **changes}))

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


@pytest.fixture
def bury(dynamodb: Any) -> Bury:
    return Bury(dynamodb)


# ---------------------------------------------------------------- the time of a loss


@pytest.mark.parametrize(
    ("body", "window"),
    [
        (report(), Window(FROM, TO + 999)),
        (report(to_ms=None), Window(FROM, NOW)),
        (report(from_ms=None), Window(0, TO + 999)),
        (report(from_ms=None, to_ms=None), Window(0, NOW)),
        (report(approximateArrivalOfFirstRecord="yesterday"), Window(0, TO + 999)),
        (report(approximateArrivalOfFirstRecord=7), Window(0, TO + 999)),
        (report(approximateArrivalOfLastRecord="2027-01-15T08:00"), Window(FROM, NOW)),
        (report(from_ms=TO, to_ms=FROM), Window(0, FROM + 999)),
        (report(batchSize=0), Window(0, NOW)),
        (report(startSequenceNumber="0", endSequenceNumber="00"), Window(0, NOW)),
        (report(reported_ms=None, batchSize=0), Window(0, NOW + 5_000)),
        (report(from_ms=None, to_ms=None, reported_ms=None), Window(0, NOW + 5_000)),
        (report(to_ms=NOW + DAY), Window(FROM, NOW + 5_000)),
    ],
    ids=[
        "cut down to the second", "no end: the report's own time",
        "no beginning: everything before", "no times", "malformed beginning",
        "beginning of another kind", "end without an offset", "end before the beginning",
        "no records", "no sequence numbers",
        "no records, no time: when it was sent", "no time at all: when it was sent",
        "never later than it was sent",
    ],
)  # fmt: skip
def test_report_states_when_announcements_were_lost(body: str, window: Window) -> None:
    assert gap_window(read_stream_gap(body), NOW + 5_000) == window


@pytest.mark.parametrize(
    "change", [{"batchSize": -1}, {"startSequenceNumber": ""}, {"streamArn": "x"}, {"shardId": 0}]
)
def test_report_without_records_is_parsed_as_strictly_as_any(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        read_stream_gap(report(**{"batchSize": 0, "endSequenceNumber": "0", **change}))


@pytest.mark.parametrize(
    ("first", "last", "size", "names_records"),
    [("5", "9", 3, True), ("0", "9", 3, True), ("5", "9", 0, False), ("0", "0", 3, False)],
)
def test_report_names_records_unless_it_has_none_or_no_numbers(
    first: str, last: str, size: int, names_records: bool
) -> None:
    assert StreamGap(ARN, "s", first, last, size).names_records is names_records


def test_window_is_covered_by_one_that_contains_both_its_ends() -> None:
    assert covers([Window(0, 1), Window(FROM, TO)], WINDOW)
    assert not covers([], WINDOW)
    assert not covers([Window(FROM + 1, TO), Window(FROM, TO - 1)], WINDOW)


def test_hull_of_two_windows_covers_exactly_both() -> None:
    assert hull(Window(3, 5), Window(7, 9)) == hull(Window(7, 9), Window(3, 5)) == Window(3, 9)
    assert hull(None, WINDOW) == WINDOW


EARLY, LATE = FROM - WINDOW_SLACK_MS, TO + WINDOW_SLACK_MS


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        (True, {"created_at_ms": EARLY}),
        (False, {"created_at_ms": EARLY - 1}),
        (True, {"created_at_ms": LATE}),
        (False, {"created_at_ms": LATE + 1}),
        (True, {"created_at_ms": 1, "resent_at_ms": FROM}),
        (False, {"resent_at_ms": LATE + 1}),
        (True, {"created_at_ms": 1, "history": (Attempt(1), Attempt(FROM))}),
        (True, {"created_at_ms": 1, "history": (Attempt(1, ended_at_ms=FROM),)}),
        (False, {"history": (Attempt(LATE + 1),)}),
        (False, {"history": (Attempt(FROM, ended_at_ms=LATE + 1),)}),
        (True, {"created_at_ms": 1, "run": 2}),
        (False, {"created_at_ms": LATE + 1, "run": 2}),
        (False, {"created_at_ms": 1, "run": 2, "status": Status.RETRY}),
        (True, {"created_at_ms": 1, "status": Status.SCHEDULED}),
        (False, {"created_at_ms": LATE + 1, "status": Status.SCHEDULED}),
        (True, {"status": Status.RETRY, "not_before_ms": LATE + 1}),
        (True, {"status": Status.INPROGRESS, "lease_until_ms": LATE + 1}),
    ],
    ids=[
        "made in the slack before", "made before", "made in the slack after", "made after",
        "resent within", "resent after",
        "started within", "ended within", "started after", "ended after",
        "redriven at an unknown time", "made after, redriven",
        "run again, and started since", "taken by the sweep at an unknown time",
        "made after, for later", "its pause ends after",
        "its lease ends after",
    ],
)  # fmt: skip
def test_job_may_be_stranded_if_its_last_announcement_may_lie_in_the_window(
    expected: bool, changes: dict[str, Any]
) -> None:
    assert may_be_stranded(a_job(**changes), WINDOW) is expected


# ---------------------------------------------------------------- jobs that are resent


def test_jobs_of_the_window_are_resent_by_the_stream_and_all_others_are_unchanged(
    bury: Bury,
) -> None:
    bury.submit("a", "b")
    bury.submit("before", created_at_ms=EARLY - 1)
    bury.submit("after", created_at_ms=LATE + 1_000)
    others = [bury.job("before"), bury.job("after")]
    assert bury.receive()
    assert (bury.resent(), bury.sent) == (["a", "b"], [])
    assert [bury.job("before"), bury.job("after")] == others
    assert (bury.job("a").status, bury.job("a").fence, bury.job("a").history) == (
        Status.QUEUED,
        0,
        (),
    )


def test_report_without_times_has_every_earlier_job_resent(bury: Bury) -> None:
    bury.submit("old", created_at_ms=1)
    bury.submit("new", created_at_ms=bury.clock() - 1)
    assert bury.receive(report(from_ms=None, to_ms=None))
    assert bury.resent() == ["new", "old"]


@pytest.mark.parametrize(
    "change", [{"batchSize": 0}, {"startSequenceNumber": "0", "endSequenceNumber": "0"}]
)
def test_report_without_records_has_every_job_resent_and_the_stream_is_not_read(
    bury: Bury, change: dict[str, Any]
) -> None:
    bury.submit("old", created_at_ms=1)
    assert bury.receive(report(**change))
    assert (bury.resent(), bury.read_again) == (["old"], 0)


def test_job_that_has_ended_is_not_resent(bury: Bury) -> None:
    bury.submit()
    claimed = bury.store.claim("acme", "j1", nonce="w", now_ms=FROM, lease_ms=15_000)
    complete(bury.store, claimed, result="1", effects=[], now_ms=FROM)
    assert bury.receive()
    assert (bury.resent(), bury.sent) == ([], [])


def test_job_in_the_due_index_is_left_to_the_sweep(bury: Bury) -> None:
    bury.submit(status=Status.SCHEDULED, not_before_ms=bury.clock() + DAY)
    job = bury.job()
    assert bury.receive()
    assert (bury.job(), bury.sent) == (job, [])


def test_job_that_the_sweep_has_taken_is_resent_before_its_time(bury: Bury) -> None:
    bury.submit(status=Status.SCHEDULED, not_before_ms=bury.clock() + 60_000)
    bury.operations.release_due(before_ms=bury.clock() + 90_000, limit=10)
    assert bury.receive()
    assert (bury.resent(), bury.job().status, bury.job().not_before_ms) == (
        ["j1"],
        Status.SCHEDULED,
        bury.clock() + 59_500,
    )


def held(bury: Bury, lease_ms: int = 15_000, **changes: Any) -> Job:
    """Makes a job within the window of the loss, and claims it."""
    bury.submit(**changes)
    return bury.store.claim("acme", "j1", nonce="w", now_ms=bury.clock(), lease_ms=lease_ms)


EVERYTHING = report(batchSize=0)


def test_job_that_a_worker_holds_gets_a_message_for_the_end_of_its_lease(
    bury: Bury,
) -> None:
    claimed = held(bury)
    assert bury.receive(EVERYTHING)
    assert (bury.job(), bury.sent, bury.resent()) == (claimed, [("j1", 15.0)], [])


def test_job_that_waits_for_its_next_attempt_gets_a_message_for_its_time(
    bury: Bury,
) -> None:
    bury.store.fail(
        held(bury), error="boom", retry_at_ms=bury.clock() + 40_000, now_ms=bury.clock()
    )
    job = bury.job()
    assert bury.receive(EVERYTHING)
    assert (bury.job(), bury.sent, bury.resent()) == (job, [("j1", 40.0)], [])


def test_job_whose_lease_expired_is_queued_again(bury: Bury) -> None:
    held(bury, lease_ms=-1)
    assert bury.receive(EVERYTHING)
    assert (bury.job().status, bury.job().attempt, bury.sent) == (Status.QUEUED, 1, [])


def test_job_whose_pause_is_over_is_queued_again(bury: Bury) -> None:
    bury.store.fail(held(bury), error="boom", retry_at_ms=bury.clock(), now_ms=bury.clock())
    assert bury.receive(EVERYTHING)
    assert (bury.job().status, bury.resent()) == (Status.QUEUED, ["j1"])


def test_job_whose_last_attempt_was_interrupted_is_ended_and_not_counted_as_resent(
    bury: Bury,
) -> None:
    held(bury, lease_ms=-1, max_attempts=1)
    assert bury.receive(EVERYTHING)
    assert (bury.job().status, bury.counted) == (Status.DEAD, ["JobDead"])


@pytest.mark.parametrize("max_attempts", [1, 2])
def test_job_whose_worker_renews_its_lease_meanwhile_keeps_its_worker(
    bury: Bury, max_attempts: int, caplog: pytest.LogCaptureFixture
) -> None:
    claimed = held(bury, lease_ms=-1, max_attempts=max_attempts)

    def renew(**_: Any) -> None:
        bury.client.meta.events.unregister("before-call.dynamodb.UpdateItem", renew)
        bury.store.renew([claimed], now_ms=bury.clock(), lease_ms=15_000)

    bury.client.meta.events.register("before-call.dynamodb.UpdateItem", renew)
    assert bury.receive(EVERYTHING)
    (done,) = [line for line in caplog.records if "complete" in line.message]
    assert (bury.job().status, bury.job().owner) == (Status.INPROGRESS, "w")
    # A field of the log line.
    assert (bury.counted, done.resent) == ([], 0)  # type: ignore[attr-defined]


def test_work_is_counted_and_logged(bury: Bury, caplog: pytest.LogCaptureFixture) -> None:
    bury.submit("a", "b", "c")
    bury.submit("before", created_at_ms=EARLY - 1)
    assert bury.receive()
    (done,) = [line for line in caplog.records if "complete" in line.message]
    # The search reads its own item, too. Fields of the log line:
    assert (done.read, done.resent, done.delayed) == (5, 3, 0)  # type: ignore[attr-defined]
    assert bury.counted == ["StreamRecordsLost"] * 3 + ["StrandedJobsResent"] * 3


def test_each_pass_counts_its_own_work(bury: Bury, caplog: pytest.LogCaptureFixture) -> None:
    bury.submit("a", "b")
    assert bury.receive()
    assert bury.receive(report(1_000, 2_000))
    lines = [line for line in caplog.records if "complete" in line.message]
    # Fields of the log line.
    done = [(line.read, line.resent) for line in lines]  # type: ignore[attr-defined]
    assert done == [(3, 2), (3, 0)]


# ---------------------------------------------------------------- several receives for one report


def test_receive_works_until_its_deadline_and_the_next_one_continues(bury: Bury) -> None:
    bury.submit(*"abcdefg")
    assert [bury.receive(pages=1), bury.resent()] == [False, ["a", "b"]]
    assert [bury.receive(pages=2), bury.resent()] == [False, ["a", "b", "c", "d", "e", "f"]]
    assert [bury.receive(pages=2), bury.resent()] == [True, list("abcdefg")]


def test_search_that_continues_is_not_logged_as_a_failure(
    bury: Bury, caplog: pytest.LogCaptureFixture
) -> None:
    bury.submit(*"abc")
    assert not bury.receive(pages=1)
    assert [line.message for line in caplog.records if line.levelname == "ERROR"] == []
    (waiting,) = [line for line in caplog.records if "continues with its message" in line.message]
    # Fields of the log line.
    assert (waiting.read, waiting.resent) == (2, 2)  # type: ignore[attr-defined]


def test_report_reads_the_stream_and_counts_its_records_on_its_first_receive_only(
    bury: Bury,
) -> None:
    bury.submit(*"abcdefg")
    assert bury.receive_until_settled() == 4
    assert (bury.read_again, bury.counted.count("StreamRecordsLost")) == (1, 3)


def test_page_cut_short_by_the_deadline_is_finished_by_the_next_receive(bury: Bury) -> None:
    bury.submit(*"abcd")

    def take_time(**_: Any) -> None:
        bury.clock.advance(PAGE_SECONDS)

    bury.client.meta.events.register("before-call.dynamodb.UpdateItem", take_time)
    assert [bury.receive(pages=1), bury.resent()] == [False, ["a"]]
    assert [bury.receive(pages=1), bury.resent()] == [False, ["a", "b"]]
    assert [bury.receive(pages=1), bury.resent()] == [False, ["a", "b", "c"]]
    assert bury.search_state()["cursor"]["pk"] == {"S": "acme/b"}
    assert [bury.receive(pages=100), bury.resent()] == [True, ["a", "b", "c", "d"]]


def test_job_that_must_wait_gets_no_message_from_a_page_that_was_cut_short(bury: Bury) -> None:
    held(bury)
    assert (bury.receive(EVERYTHING, pages=0), bury.sent) == (False, [])
    assert (bury.receive(EVERYTHING), bury.sent) == (True, [("j1", 15.0)])


def test_cursor_whose_item_is_deleted_leaves_no_job_out(bury: Bury) -> None:
    bury.submit(*"abcd")
    assert not bury.receive(pages=1)
    bury.client.delete_item(TableName="JobsTable", Key=bury.search_state()["cursor"])
    assert bury.receive()
    assert bury.resent() == ["a", "b", "c", "d"]


def test_item_of_the_search_expires_and_passes_no_stream_filter(
    bury: Bury,
) -> None:
    bury.submit(*"abc")
    bury.receive(pages=1)
    item = bury.search_item()
    assert (item["sk"] == {"S": "job"}, announcement(item, bury.clock())) == (False, None)
    assert int(item["expires_at"]["N"]) - bury.clock() // 1000 == pytest.approx(
        14 * 24 * 3600, abs=60
    )


@pytest.mark.parametrize("number", range(1, 15))
@pytest.mark.parametrize("kind", ["kill", "kill after"])
def test_no_job_is_left_out_whatever_the_store_call_at_which_a_receive_is_killed(
    dynamodb: Any, kind: str, number: int
) -> None:
    bury = Bury(dynamodb)
    bury.submit(*"abcde")
    faults = Faults(dynamodb)
    faults.plan = lambda operation, now: kind if now == number else None
    with pytest.raises(Killed):
        bury.receive(pages=2)
        bury.receive(pages=2)
    faults.plan = lambda operation, now: None
    bury.clock.advance(60)
    bury.receive_until_settled(pages=2)
    assert set(bury.resent()) == set("abcde")


def test_kill_between_resend_and_cursor_repeats_the_page_and_resends_no_job_twice(
    bury: Bury,
) -> None:
    bury.submit(*"abcd")
    faults = Faults(bury.client)
    # The first put takes the search, the second one stores the cursor.
    faults.on("PutItem", "kill", skip=1)
    with pytest.raises(Killed):
        bury.receive(EVERYTHING)
    faults.plan = lambda operation, number: None
    assert (bury.search_state()["cursor"], bury.resent()) == (None, ["a", "b"])
    bury.clock.advance(60)
    assert bury.receive(EVERYTHING)
    assert (faults.requests.count("Scan"), bury.resent()) == (4, ["a", "b", "c", "d"])


def test_job_that_was_resent_before_the_search_began_is_resent_again(bury: Bury) -> None:
    """The announcement of that resend may be the one that was lost."""
    bury.submit()
    bury.operations.resend("acme", "j1", now_ms=TO)
    assert bury.receive()
    assert bury.resent() == ["j1", "j1"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_write_of_the_search_whose_answer_is_lost_is_made_once(
    bury: Bury, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    bury.submit(*"abc")
    Faults(bury.client).on("PutItem", "after", skip=number)
    assert bury.receive()
    (done,) = [line for line in caplog.records if "complete" in line.message]
    # A field of the log line.
    assert (bury.resent(), done.read) == (["a", "b", "c"], 4)  # type: ignore[attr-defined]


@pytest.mark.parametrize("operation", ["GetItem", "Scan", "PutItem", "UpdateItem"])
def test_report_returns_if_the_store_does_not_answer(bury: Bury, operation: str) -> None:
    bury.submit(*"abc")
    faults = Faults(bury.client)
    faults.plan = lambda name, number: "error" if name == operation else None
    assert not bury.receive()
    faults.plan = lambda name, number: None
    bury.clock.advance(60)
    assert bury.receive()
    assert bury.resent() == ["a", "b", "c"]


def test_page_is_searched_again_if_the_queue_does_not_accept_a_message(bury: Bury) -> None:
    held(bury)
    bury.queue_is_down = True
    assert not bury.receive(EVERYTHING)
    assert bury.search_state()["cursor"] is None
    bury.queue_is_down = False
    bury.clock.advance(60)
    assert bury.receive(EVERYTHING)
    assert [job_id for job_id, _ in bury.sent] == []  # its lease has expired by now
    assert bury.resent() == ["j1"]


# ---------------------------------------------------------------- several receives, several reports


def test_receive_that_finds_the_search_held_reads_nothing_and_is_retried(
    bury: Bury, dynamodb: Any
) -> None:
    bury.submit(*"abc")
    other = Bury(dynamodb, receives="other")
    faults = Faults(dynamodb)
    asked: list[bool] = []

    def meanwhile(**_: Any) -> None:
        dynamodb.meta.events.unregister("before-call.dynamodb.Scan", meanwhile)
        before = faults.requests.count("Scan")
        asked.extend([other.receive(), faults.requests.count("Scan") > before])

    dynamodb.meta.events.register("before-call.dynamodb.Scan", meanwhile)
    assert bury.receive()
    assert (asked, bury.resent()) == ([False, False], ["a", "b", "c"])


def test_receive_that_was_paused_too_long_is_replaced_and_moves_no_cursor(
    bury: Bury, dynamodb: Any
) -> None:
    bury.submit(*"abcdefg")
    other = Bury(dynamodb, receives="other")
    settled: list[bool] = []

    def take_over() -> None:  # between the resends of the first page and its cursor
        bury.during_pause = lambda: None
        other.clock.now_ms = bury.clock() + HELD_MS
        settled.append(other.receive(pages=2))

    bury.during_pause = take_over
    assert not bury.receive()
    assert (settled, other.search_state()["cursor"]["pk"]["S"]) == ([False], "acme/d")
    assert other.receive()
    assert other.resent() == list("abcdefg")


def test_receive_that_was_replaced_on_the_last_page_does_not_end_the_search(
    bury: Bury, dynamodb: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bury.submit("a")
    other = Bury(dynamodb, receives="other")

    def take_over() -> None:
        other.clock.now_ms = bury.clock() + HELD_MS
        assert other.receive()

    bury.during_pause = take_over
    assert not bury.receive()
    assert len([line for line in caplog.records if "complete" in line.message]) == 1
    assert bury.receive()


def test_receive_that_was_paused_too_long_does_not_take_the_search_back(
    bury: Bury, dynamodb: Any
) -> None:
    bury.submit(*"abc")
    other = Bury(dynamodb, receives="other")
    other.clock.now_ms = bury.clock() + HELD_MS
    faults = Faults(dynamodb)

    def take_over() -> None:  # and fail, while it holds the search
        faults.on("Scan", "error", times=9)
        assert not other.receive()

    bury.during_pause = take_over
    assert not bury.receive(pages=1)
    assert bury.search_state()["owner"] == "other1"


def test_search_held_by_a_crashed_receive_can_be_taken_after_its_lease(
    bury: Bury,
) -> None:
    bury.submit(*"abc")
    faults = Faults(bury.client)
    faults.on("Scan", "kill")
    with pytest.raises(Killed):
        bury.receive()
    bury.clock.advance(HELD_MS / 1000 - 0.001)
    assert not bury.receive()
    bury.clock.advance(0.001)
    assert bury.receive()


def test_reports_that_arrive_during_a_pass_share_the_next_pass(bury: Bury, dynamodb: Any) -> None:
    bury.submit("a")
    days = [FROM - day * DAY for day in range(1, 6)]
    bury.submit(*(f"b{number}" for number in range(5)), created_at_ms=days[2])
    faults, others = (
        Faults(dynamodb),
        [Bury(dynamodb, receives=f"other{number}-") for number in range(5)],
    )
    reports = [report(day, day + 1000) for day in days]

    def meanwhile() -> None:
        bury.during_pause = lambda: None
        assert [other.receive(body) for other, body in zip(others, reports, strict=True)] == [
            False
        ] * 5

    bury.during_pause = meanwhile
    assert bury.receive(pages=4)
    assert bury.search_state()["window"] == [days[-1], days[0] + 1999]
    bury.clock.advance(60)
    assert bury.receive(reports[0])
    scans = faults.requests.count("Scan")
    assert all(other.receive(body) for other, body in zip(others, reports, strict=True))
    assert (faults.requests.count("Scan"), bury.resent()) == (
        scans,
        ["a", "b0", "b1", "b2", "b3", "b4"],
    )


def test_report_covered_by_the_current_or_next_pass_changes_nothing(
    bury: Bury, dynamodb: Any
) -> None:
    bury.submit(*"abc")
    other = Bury(dynamodb, receives="other")
    writes: list[int] = []
    faults = Faults(dynamodb)

    def meanwhile() -> None:
        bury.during_pause = lambda: None
        for body in (
            report(),
            report(FROM + 1000, TO - 1000),
            report(1_000, 2_000),
            report(1_000, 2_000),
        ):
            before = faults.requests.count("PutItem")
            other.receive(body)
            writes.append(faults.requests.count("PutItem") - before)

    bury.during_pause = meanwhile
    assert bury.receive()
    assert writes == [0, 0, 1, 0]


def test_report_that_waits_for_the_next_pass_does_not_read_the_stream_again(
    bury: Bury, dynamodb: Any
) -> None:
    bury.submit(*"abc")
    other = Bury(dynamodb, receives="other")

    def meanwhile() -> None:
        bury.during_pause = lambda: None
        assert [other.receive(report(1_000, 2_000)), other.receive(report(1_000, 2_000))] == [
            False,
            False,
        ]

    bury.during_pause = meanwhile
    assert bury.receive()
    assert (other.read_again, other.counted) == (1, ["StreamRecordsLost"] * 3)


def test_next_pass_resends_jobs_that_were_resent_before_it_began(bury: Bury, dynamodb: Any) -> None:
    """The announcement of that resend may be the one that was lost."""
    bury.submit(*"abc")
    other = Bury(dynamodb, receives="other")

    def meanwhile() -> None:
        bury.during_pause = lambda: None
        bury.operations.resend("acme", "c", now_ms=bury.clock() + 1)
        assert not other.receive(report(bury.clock(), bury.clock()))

    bury.during_pause = meanwhile
    assert bury.receive()
    assert bury.resent().count("c") == 2


def test_lost_answer_and_a_report_in_between_do_not_skip_the_next_pass(
    dynamodb: Any,
) -> None:
    bury = Bury(dynamodb, page_items=10)
    bury.submit("a")
    bury.submit("b", created_at_ms=1_500)
    other, steps = Bury(dynamodb, receives="other"), list[str]()

    def meanwhile() -> None:
        bury.during_pause = lambda: None
        assert not other.receive(report(1_000, 2_000))
        steps.extend(
            [
                "a conflict with what was noted",
                "the end of pass 1, its answer lost",
                "the SDK's repeat of it",
            ]
        )

    def plan(operation: str, number: int) -> str | None:
        if operation != "PutItem" or not steps:
            return None
        step = steps.pop(0)
        if step.endswith("repeat of it"):
            assert not other.receive(report(5_000, 6_000))
        return "after" if step.endswith("answer lost") else None

    Faults(dynamodb).plan = plan
    bury.during_pause = meanwhile
    assert not bury.receive()
    bury.clock.advance(60)
    assert bury.receive(report(1_000, 2_000))
    assert sorted(bury.resent()) == ["a", "b"]


def test_receive_holds_the_search_through_the_next_pass(bury: Bury, dynamodb: Any) -> None:
    bury.submit("a")
    other = Bury(dynamodb, receives="other")
    expected: list[tuple[str, list[Any]]] = []

    def meanwhile() -> None:
        settled = other.receive(report(1_000, 2_000))
        state = other.search_state()
        expected.append((state["owner"], [settled, state["window"]]))

    bury.during_pause = meanwhile
    assert bury.receive()
    assert expected == [
        ("receive1", [False, [FROM, TO + 999]]),
        ("receive1", [False, [1_000, 2_999]]),
    ]


def test_receive_holds_the_search_for_as_long_as_it_finishes_pages(
    bury: Bury, dynamodb: Any
) -> None:
    bury.submit(*"abcdefg")
    other, settled = Bury(dynamodb, receives="other"), []

    def take_time() -> None:
        bury.clock.advance(HELD_MS / 1000 - 1)
        other.clock.now_ms = bury.clock()
        settled.append(other.receive())

    bury.during_pause = take_time
    assert bury.receive()
    assert settled == [False] * 4


def test_search_of_one_page_writes_its_own_item_twice(bury: Bury) -> None:
    bury.submit()
    faults = Faults(bury.client)
    assert bury.receive()
    assert faults.requests == ["GetItem", "PutItem", "Scan", "UpdateItem", "PutItem"]


def test_report_whose_window_has_been_searched_is_settled_by_one_read(bury: Bury) -> None:
    bury.submit()
    assert bury.receive()
    faults = Faults(bury.client)
    assert [bury.receive(), bury.receive(report(FROM + 1000, TO - 1000))] == [True, True]
    assert faults.requests == ["GetItem"] * 2
    assert bury.resent() == ["j1"]


def test_report_of_a_partly_searched_window_has_a_pass_of_its_own(bury: Bury) -> None:
    bury.submit("a")
    assert bury.receive()
    bury.submit("b", created_at_ms=LATE + 2_000)
    assert bury.receive(report(FROM, TO + 2_000))
    assert "b" in bury.resent()


def test_searched_windows_are_merged_and_the_last_ones_are_kept(
    bury: Bury,
) -> None:
    for minute in range(25):
        assert bury.receive(report(FROM + minute * 60_000, FROM + minute * 60_000))
    assert [len(bury.search_state()["done"]), bury.search_state()["done"][0][0]] == [
        20,
        FROM + 24 * 60_000,
    ]
    assert bury.receive(report(FROM, TO * 2, reported_ms=bury.clock()))
    assert len(bury.search_state()["done"]) == 1


def test_pass_that_lost_its_messages_is_finished_by_another_report(bury: Bury) -> None:
    bury.submit(*"abcd")
    assert not bury.receive(pages=1)
    assert bury.receive_until_settled(report(1_000, 2_000)) == 5
    assert bury.resent() == ["a", "b", "c", "d"]


# ---------------------------------------------------------------- unreadable items


def test_item_that_cannot_be_read_is_skipped_and_logged(
    bury: Bury, caplog: pytest.LogCaptureFixture
) -> None:
    bury.submit(*"abcd")
    for job_id, change in (("b", "REMOVE task"), ("c", "SET history = :text")):
        bury.client.update_item(
            TableName="JobsTable",
            Key={"pk": {"S": f"acme/{job_id}"}, "sk": {"S": "job"}},
            UpdateExpression=change,
            **(
                {"ExpressionAttributeValues": {":text": {"L": [{"S": "{"}]}}}
                if "SET" in change
                else {}
            ),
        )
    assert bury.receive()
    # Fields of the log line.
    skipped = [
        (line.pk, line.error.split(":")[0])  # type: ignore[attr-defined]
        for line in caplog.records
        if "cannot be resent" in line.message
    ]
    assert (bury.resent(), skipped) == (
        ["a", "d"],
        [("acme/b", "KeyError"), ("acme/c", "JSONDecodeError")],
    )


def test_job_whose_resend_is_malformed_is_skipped_and_logged(
    bury: Bury, caplog: pytest.LogCaptureFixture
) -> None:
    bury.submit(*"abc")
    Faults(bury.client).on("UpdateItem", "ValidationException")
    assert bury.receive()
    lines = [line for line in caplog.records if "cannot be resent" in line.message]
    skipped = [line.pk for line in lines]  # type: ignore[attr-defined]  # a field of the log line
    assert (bury.resent(), skipped) == (["b", "c"], ["acme/a"])


def test_resend_that_the_role_does_not_allow_is_not_skipped(bury: Bury) -> None:
    bury.submit()
    faults = Faults(bury.client)
    faults.refuse("UpdateItem", "AccessDeniedException")
    assert not bury.receive()
    faults.plan = lambda operation, number: None
    bury.clock.advance(60)
    assert [bury.receive(), bury.resent()] == [True, ["j1"]]


# ---------------------------------------------------------------- the rate


def test_each_page_waits_for_its_share_of_a_second_including_the_last(bury: Bury) -> None:
    bury.submit(*"abc")
    assert bury.receive()
    assert bury.pauses == [PAGE_SECONDS] * 2


def test_time_that_a_page_took_is_not_waited_for_again(bury: Bury) -> None:
    bury.submit(*"abcde")
    took = iter([PAGE_SECONDS * 0.75, PAGE_SECONDS * 2, -3600])
    bury.client.meta.events.register(
        "before-call.dynamodb.Scan", lambda **_: bury.clock.advance(next(took, 0))
    )
    assert bury.receive()
    assert bury.pauses == [PAGE_SECONDS * 0.25, PAGE_SECONDS]


def scans(client: Any) -> list[dict[str, Any]]:
    """Returns a list that collects the parameters of the following scans."""
    requests: list[dict[str, Any]] = []
    client.meta.events.register(
        "provide-client-params.dynamodb.Scan", lambda params, **_: requests.append(dict(params))
    )
    return requests


def test_page_has_a_bounded_number_of_items(dynamodb: Any) -> None:
    requests = scans(dynamodb)
    assert Bury(dynamodb, page_items=PAGE_ITEMS).receive()
    assert [scan["Limit"] for scan in requests] == [PAGE_ITEMS]


@pytest.mark.parametrize(("ended_ago_ms", "is_consistent"), [(59_000, True), (61_000, False)])
def test_pages_are_read_consistently_only_if_the_loss_has_just_ended(
    dynamodb: Any, ended_ago_ms: int, is_consistent: bool
) -> None:
    requests = scans(dynamodb)
    assert Bury(dynamodb).receive(report(batchSize=0, reported_ms=NOW - ended_ago_ms))
    assert {scan.get("ConsistentRead", False) for scan in requests} == {is_consistent}


# ---------------------------------------------------------------- cost if no announcement is lost


def test_running_a_job_makes_the_same_store_calls_with_and_without_the_search(
    dynamodb: Any, tables: dict[str, str]
) -> None:
    stage, faults = Stage(dynamodb, tables), Faults(dynamodb)
    stage.submit()
    stage.run()
    assert (faults.requests, stage.succeeded) == (
        ["PutItem", "BatchGetItem", "TransactWriteItems"],
        1,
    )
    keys = [item["sk"]["S"] for item in dynamodb.scan(TableName="JobsTable")["Items"]]
    assert keys == ["job"]


def test_report_whose_records_are_still_in_the_stream_costs_one_read_and_no_write(
    bury: Bury,
) -> None:
    bury.images = [
        {
            "sk": {"S": "job"},
            "status": {"S": "QUEUED"},
            "tenant": {"S": "acme"},
            "id": {"S": "a"},
            "task": {"S": "t"},
        }
    ]
    faults = Faults(bury.client)
    assert bury.receive()
    assert (faults.requests, bury.sent) == (["GetItem"], [("a", 0.0)])


def test_report_without_any_time_covers_jobs_that_existed_when_it_was_sent(bury: Bury) -> None:
    bury.submit("a", created_at_ms=NOW - DAY)
    bury.submit("b", created_at_ms=NOW - 1)
    assert bury.receive(report(from_ms=None, to_ms=None, reported_ms=None), sent_ms=NOW - DAY)
    assert bury.resent() == ["a"]
