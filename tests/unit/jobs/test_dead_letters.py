"""Messages that no worker could handle.

They are announced again, ended or stored, and never dropped while their job lives.
"""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from mayfly.aws.dynamodb import DynamoDB
from mayfly.aws.errors import StreamTrimmed
from mayfly.aws.streams import Streams
from mayfly.core.errors import StoreUnavailable
from mayfly.core.observability import observer
from mayfly.jobs.authoring.task import Declaration
from mayfly.jobs.errors import JobEnded, JobIsLive, JobNotFound
from mayfly.jobs.model import Job, Status
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.routing.dead_letters import DeadLetters
from mayfly.jobs.routing.outbox import Outbox
from mayfly.jobs.routing.stranded import StrandedSearch
from mayfly.jobs.rules import job_id_for
from mayfly.jobs.store import JobStore

from functions.bury_jobs.app import build
from functions.bury_jobs.deps import Deps as BuryDeps
from tests.support.completion import complete
from tests.support.events import sqs
from tests.support.fakes import Context, FixedClock, Names
from tests.support.faults import Faults

ARN = "arn:aws:dynamodb:us-east-1:000000000000:table/jobs/stream/1"
GAP = {
    "requestContext": {"condition": "RetryAttemptsExhausted"},
    "DDBStreamBatchInfo": {
        "shardId": "shard-1",
        "startSequenceNumber": "5",
        "endSequenceNumber": "9",
        "batchSize": 3,
        "streamArn": ARN,
    },
}


_NO_STREAM_INFO = {
    **GAP["DDBStreamBatchInfo"],  # type: ignore[dict-item]  # of two kinds
    "streamArn": "a queue's name",
}
NO_STREAM = json.dumps({**GAP, "DDBStreamBatchInfo": _NO_STREAM_INFO})


class Keeper:
    """Dead letters over a real store; the queue and the stream are the test's own."""

    def __init__(self, client: Any) -> None:
        db = DynamoDB(client, lambda attempt: None)
        self.client = client
        self.clock = FixedClock()
        self.store, self.operations = JobStore(db, "JobsTable"), JobOperations(db, "JobsTable")
        self.sent: list[tuple[Any, float]] = []
        self.queue_is_down = False
        self.stream: Any = []
        self.asked: list[tuple[str, ...]] = []
        outbox = Outbox(self._send, {})
        search = StrandedSearch(
            db=db,
            table="JobsTable",
            operations=self.operations,
            outbox=outbox,
            observe=observer("bury"),
            clock=self.clock,
            pause=self.clock.advance,
            new_nonce=Names("receive"),
        )
        letters = DeadLetters(
            store=self.store,
            operations=self.operations,
            outbox=outbox,
            images=self._images,
            search=search,
            tasks={"t": Declaration("t", max_attempts=7)},
            producer_tenant="acme",
            observe=observer("bury"),
            clock=self.clock,
        )
        self._handler = build(
            BuryDeps(
                dead_letters=letters,
                relay_failures_arn="arn:relay-failures",
                observe=observer("bury"),
            )
        )

    def _send(self, bodies: Any, delays: Any) -> set[str]:
        if self.queue_is_down:
            return set(bodies)
        self.sent += [(bodies[name], delays[name]) for name in bodies]
        return set()

    def _images(self, *asked: str) -> Any:
        self.asked.append(asked)
        if isinstance(self.stream, StreamTrimmed):
            raise self.stream
        return iter(self.stream)

    def settle(self, body: Any, *, source: str = "arn:dead-letters") -> list[str]:
        """Passes one dead letter to the function; returns the ids of the messages it returns."""
        event = sqs(body if isinstance(body, str) else json.dumps(body))
        event["Records"][0]["eventSourceARN"] = "arn:relay-failures" if body is GAP else source
        return [
            failure["itemIdentifier"]
            for failure in self._handler(event, Context())["batchItemFailures"]
        ]

    def submit(self, **changes: Any) -> Job:
        facts = {
            "id": "j1",
            "tenant": "acme",
            "task": "t",
            "payload": None,
            "status": Status.QUEUED,
            "max_attempts": 2,
        }
        job = Job(**{**facts, "created_at_ms": self.clock(), "fingerprint": "f", **changes})
        self.store.create(job)
        return job

    def claim(self, nonce: str = "w") -> Job:
        return self.store.claim("acme", "j1", nonce=nonce, now_ms=self.clock(), lease_ms=15_000)

    def job(self, job_id: str = "j1") -> Job:
        return self.store.read("acme", job_id, now_ms=self.clock())


@pytest.fixture
def keeper(dynamodb: Any) -> Keeper:
    return Keeper(dynamodb)


WAKE = {"tenant": "acme", "id": "j1"}


# ---------------------------------------------------------------- messages that wake a job


def test_waiting_job_is_announced_again(keeper: Keeper) -> None:
    keeper.submit()
    assert (keeper.settle(WAKE), keeper.sent) == ([], [(WAKE, 0.0)])
    assert keeper.job().status is Status.QUEUED


def test_running_job_is_announced_for_the_end_of_its_lease(keeper: Keeper) -> None:
    keeper.submit()
    claimed = keeper.claim()
    assert (keeper.settle(WAKE), keeper.sent) == ([], [(WAKE, 15.0)])
    assert keeper.job() == claimed


def test_abandoned_job_with_attempts_left_is_announced_and_not_ended(keeper: Keeper) -> None:
    keeper.submit()
    keeper.claim()
    keeper.clock.advance(16)
    assert (keeper.settle(WAKE), keeper.sent) == ([], [(WAKE, 0.0)])
    assert keeper.job().status is Status.INPROGRESS


def test_job_whose_last_attempt_was_interrupted_is_ended_with_that_reason(keeper: Keeper) -> None:
    keeper.submit(max_attempts=1)
    keeper.claim()
    keeper.clock.advance(16)
    assert (keeper.settle(WAKE), keeper.sent) == ([], [])
    assert (keeper.job().status, keeper.job().error) == (
        Status.DEAD,
        "attempt 1 of 1 was interrupted: its process died",
    )


def test_running_job_on_its_last_attempt_is_not_ended(keeper: Keeper) -> None:
    keeper.submit(max_attempts=1)
    claimed = keeper.claim()
    assert (keeper.settle(WAKE), keeper.sent, keeper.job()) == ([], [(WAKE, 15.0)], claimed)


def test_ended_job_needs_nothing(keeper: Keeper) -> None:
    keeper.submit()
    complete(keeper.store, keeper.claim(), result="1", effects=[], now_ms=keeper.clock())
    done = keeper.job()
    assert (keeper.settle(WAKE), keeper.sent, keeper.job()) == ([], [], done)


def test_absent_job_needs_nothing(keeper: Keeper) -> None:
    assert (keeper.settle(WAKE), keeper.sent) == ([], [])


def test_dead_letter_is_returned_if_its_announcement_cannot_be_sent(keeper: Keeper) -> None:
    keeper.submit()
    keeper.queue_is_down = True
    assert (keeper.settle(WAKE), keeper.sent) == (["m0"], [])


# ---------------------------------------------------------------- messages that request a job


def test_job_that_no_worker_could_create_is_created_under_the_id_of_its_message(
    keeper: Keeper,
) -> None:
    assert keeper.settle({"task": "t", "payload": 5}) == []
    job = keeper.job(job_id_for("acme", None, otherwise="message m0"))
    # The stream announces it.
    assert (job.status, job.payload, job.max_attempts, keeper.sent) == (
        Status.QUEUED,
        5,
        7,
        [],
    )


def test_job_that_a_worker_had_created_is_announced_and_not_created_twice(keeper: Keeper) -> None:
    keeper.settle({"task": "t", "payload": 5})
    keeper.clock.advance(1)
    assert keeper.settle({"task": "t", "payload": 5}) == []
    assert [body["id"] for body, _ in keeper.sent] == [
        job_id_for("acme", None, otherwise="message m0")
    ]


def test_message_whose_key_belongs_to_another_request_is_stored(keeper: Keeper) -> None:
    keeper.settle({"task": "t", "payload": 5, "idempotency_key": "k"})
    body = json.dumps({"task": "t", "payload": 6, "idempotency_key": "k"})
    assert (keeper.settle(body), keeper.sent) == ([], [])
    (kept,) = keeper.operations.unreadable(now_ms=keeper.clock())
    assert (kept.body, "with another body" in kept.problem) == (body, True)


# ---------------------------------------------------------------- messages that could not be parsed


@pytest.mark.parametrize(
    "body",
    [
        "not json",
        '{"task": "a b"}',
        '{"tenant": "acme"}',
        "[]",
        "ü" * 500_000,
        '"\\ud800"',
        json.dumps({"DDBStreamBatchInfo": {}}),
    ],
    ids=["no json", "bad name", "no id", "array", "a megabyte", "surrogate", "half a gap"],
)
def test_message_that_cannot_be_parsed_is_stored_whole_for_the_operator(
    keeper: Keeper, body: str
) -> None:
    for _ in range(2):  # a dead letter may be delivered twice
        assert keeper.settle(body) == []
    (kept,) = keeper.operations.unreadable(now_ms=keeper.clock())
    assert (kept.message_id, kept.body, kept.kept_at_ms, keeper.sent) == (
        "m0",
        body,
        keeper.clock(),
        [],
    )
    keeper.operations.forget_unreadable("m0")
    assert list(keeper.operations.unreadable(now_ms=keeper.clock())) == []
    assert keeper.client.scan(TableName="JobsTable")["Items"] == []


def test_report_that_names_no_stream_is_stored_and_reads_no_stream(keeper: Keeper) -> None:
    assert keeper.settle(NO_STREAM, source="arn:relay-failures") == []
    (kept,) = keeper.operations.unreadable(now_ms=keeper.clock())
    assert (kept.problem.split(":")[0], keeper.asked) == ("streamArn", [])


def test_stored_message_expires_like_a_job(keeper: Keeper) -> None:
    keeper.settle("not json")
    keeper.clock.advance(31 * 24 * 3600)
    assert list(keeper.operations.unreadable(now_ms=keeper.clock())) == []


def test_deletion_of_an_absent_message_raises_an_error(keeper: Keeper) -> None:
    with pytest.raises(JobNotFound):
        keeper.operations.forget_unreadable("nothing")


def test_dead_letter_that_cannot_be_stored_is_returned(keeper: Keeper) -> None:
    faults = Faults(keeper.client)
    faults.plan = lambda operation, number: "before"
    assert keeper.settle("not json") == ["m0"]


# ---------------------------------------------------------------- records that the relay gave up


def image(job_id: str, status: str = "QUEUED", **more: Any) -> dict[str, Any]:
    return {
        "sk": {"S": "job"},
        "status": {"S": status},
        "tenant": {"S": "acme"},
        "id": {"S": job_id},
        "task": {"S": "t"},
        **more,
    }


def test_jobs_in_records_that_the_relay_could_not_deliver_are_announced(keeper: Keeper) -> None:
    later = {"N": str(keeper.clock() + 60_000)}
    keeper.stream = [
        image("a"),
        image("done", "COMPLETED"),
        {"sk": {"S": "payload/x"}},
        {},
        image("b", "SCHEDULED", not_before=later),
        image("far", "SCHEDULED", not_before=later, due={"S": "due"}),
    ]
    assert keeper.settle(GAP) == []
    assert keeper.asked == [(ARN, "shard-1", "5", "9")]
    assert keeper.sent == [
        ({"tenant": "acme", "id": "a"}, 0.0),
        ({"tenant": "acme", "id": "b"}, 60.0),
    ]


def test_jobs_in_records_that_have_left_the_stream_are_searched_for_and_resent(
    keeper: Keeper, caplog: pytest.LogCaptureFixture
) -> None:
    keeper.submit()
    keeper.clock.advance(10)
    keeper.stream = StreamTrimmed(ARN, "5", "9")
    assert keeper.settle(GAP) == []
    assert (keeper.job().resent_at_ms, keeper.sent) == (keeper.clock() - 500, [])
    assert "the stream no longer has the records of a report" in caplog.text


def test_records_that_cannot_be_announced_are_returned(keeper: Keeper) -> None:
    keeper.stream = [image("a")]
    keeper.queue_is_down = True
    assert keeper.settle(GAP) == ["m0"]


def test_report_of_a_gap_that_did_not_come_from_the_relay_is_not_accepted(keeper: Keeper) -> None:
    """A sender with access to the jobs queue must not make this function read streams."""
    assert keeper.settle(json.dumps(GAP)) == []
    assert (keeper.asked, len(list(keeper.operations.unreadable(now_ms=keeper.clock())))) == ([], 1)


def test_rest_of_a_gap_is_announced_and_the_lost_part_is_searched_for(keeper: Keeper) -> None:
    def trimmed() -> Any:
        yield image("b")
        raise StreamTrimmed(ARN, "5", "9")

    keeper.submit()
    keeper.stream = trimmed()
    assert keeper.settle(GAP) == []
    assert [body["id"] for body, _ in keeper.sent] == ["b"]
    assert keeper.job().resent_at_ms is not None


class PagedStream:
    """A stream that answers as DynamoDB's may: with empty pages in between."""

    def __init__(self, pages: list[list[int]], *, trimmed: bool = False) -> None:
        self.pages = pages
        self.trimmed = trimmed

    # AWS's name.
    def get_shard_iterator(self, ShardIteratorType: str, **_: Any) -> dict[str, str]:  # noqa: N803
        if self.trimmed and ShardIteratorType == "AT_SEQUENCE_NUMBER":
            raise ClientError({"Error": {"Code": "TrimmedDataAccessException"}}, "GetShardIterator")
        return {"ShardIterator": "0"}

    def get_records(self, ShardIterator: str) -> dict[str, Any]:  # noqa: N803  # AWS's name
        page = int(ShardIterator)
        records = [
            {"dynamodb": {"SequenceNumber": str(number), "NewImage": {"n": number}}}
            for number in self.pages[page]
        ]
        return {
            "Records": records,
            **({"NextShardIterator": str(page + 1)} if page + 1 < len(self.pages) else {}),
        }


def numbers(stream: PagedStream) -> list[int]:
    return [image["n"] for image in Streams(stream).images(ARN, "shard-1", "5", "9")]


@pytest.mark.parametrize("pages", [[[5, 7, 9]], [[], [5], [], [], [7, 9, 10]], [[5, 7], [11]]])
def test_range_of_a_stream_is_read_to_its_end_through_empty_pages(pages: list[list[int]]) -> None:
    assert numbers(PagedStream(pages)) == [
        number for page in pages for number in page if number <= 9
    ]


def test_range_whose_end_is_not_reached_is_not_treated_as_read() -> None:
    with pytest.raises(StoreUnavailable, match="record 9 was not reached"):
        numbers(PagedStream([[5], []]))


def test_range_whose_beginning_has_expired_is_read_from_its_first_record() -> None:
    with pytest.raises(StreamTrimmed):
        numbers(PagedStream([[8, 9]], trimmed=True))
    images = Streams(PagedStream([[8, 9]], trimmed=True)).images(ARN, "shard-1", "5", "9")
    assert [next(images)["n"], next(images)["n"]] == [8, 9]


# ---------------------------------------------------------------- resend


def resend(keeper: Keeper) -> Job:
    return keeper.operations.resend("acme", "j1", now_ms=keeper.clock())


def stream_images(keeper: Keeper) -> list[str]:
    """Returns the statuses that the table's stream has carried so far."""
    from tests.conftest import make_client

    streams = make_client("dynamodbstreams")
    arn = keeper.client.describe_table(TableName="JobsTable")["Table"]["LatestStreamArn"]
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    position = streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    return [
        record["dynamodb"]["NewImage"]["status"]["S"]
        for record in streams.get_records(ShardIterator=position)["Records"]
    ]


def test_queued_job_is_announced_again_by_the_stream(keeper: Keeper) -> None:
    keeper.submit()
    keeper.clock.advance(1)
    assert resend(keeper).status is Status.QUEUED
    assert stream_images(keeper) == ["QUEUED", "QUEUED"]


def test_abandoned_job_is_queued_again_and_keeps_its_attempt(keeper: Keeper) -> None:
    keeper.submit()
    late = keeper.claim()
    keeper.clock.advance(16)
    job = resend(keeper)
    assert (job.status, job.attempt, job.fence, len(job.history)) == (
        Status.QUEUED,
        1,
        1,
        1,
    )
    with pytest.raises(Exception, match="no longer owns it"):
        complete(keeper.store, late, result="1", effects=[], now_ms=keeper.clock())
    assert keeper.claim("w2").attempt == 2


def test_job_whose_owner_renews_while_it_is_resent_keeps_its_owner(keeper: Keeper) -> None:
    keeper.submit()
    claimed = keeper.claim()
    keeper.clock.advance(16)

    def renew(**_: Any) -> None:
        keeper.client.meta.events.unregister("before-call.dynamodb.UpdateItem", renew)
        keeper.store.renew([claimed], now_ms=keeper.clock(), lease_ms=15_000)

    keeper.client.meta.events.register("before-call.dynamodb.UpdateItem", renew)
    assert (resend(keeper).status, keeper.job().owner) == (Status.INPROGRESS, "w")


def test_job_that_waits_for_its_next_attempt_is_resent_once_its_time_has_come(
    keeper: Keeper,
) -> None:
    keeper.submit()
    keeper.store.fail(
        keeper.claim(), error="boom", retry_at_ms=keeper.clock() + 5000, now_ms=keeper.clock()
    )
    with pytest.raises(JobIsLive, match=r"5\.0 s"):
        resend(keeper)
    keeper.clock.advance(5)
    assert resend(keeper).status is Status.QUEUED
    assert stream_images(keeper)[-1] == "QUEUED"


def test_job_whose_last_attempt_was_interrupted_is_ended_by_a_resend(keeper: Keeper) -> None:
    keeper.submit(max_attempts=1)
    keeper.claim()
    keeper.clock.advance(16)
    assert resend(keeper).status is Status.DEAD


def test_running_or_ended_job_is_not_resent(keeper: Keeper) -> None:
    keeper.submit()
    claimed = keeper.claim()
    with pytest.raises(JobIsLive):
        resend(keeper)
    complete(keeper.store, claimed, result="1", effects=[], now_ms=keeper.clock())
    with pytest.raises(JobEnded):
        resend(keeper)
    assert stream_images(keeper) == ["QUEUED", "INPROGRESS", "COMPLETED"]


def test_stranded_jobs_are_those_that_did_not_change_for_long(keeper: Keeper) -> None:
    keeper.submit(id="old")
    keeper.submit(id="resent")
    keeper.submit()
    keeper.claim()
    keeper.submit(id="done")
    done = keeper.store.claim("acme", "done", nonce="w", now_ms=keeper.clock(), lease_ms=15_000)
    complete(keeper.store, done, result="1", effects=[], now_ms=keeper.clock())
    keeper.clock.advance(100)
    keeper.submit(id="new", payload="x" * 5000)
    keeper.operations.resend("acme", "resent", now_ms=keeper.clock())
    keeper.submit(
        id="late", status=Status.SCHEDULED, not_before_ms=keeper.clock() - 60_000, created_at_ms=0
    )
    keeper.submit(id="early", status=Status.SCHEDULED, not_before_ms=keeper.clock() + 60_000)
    job_ids = [
        job.id for job in keeper.operations.stranded(before_ms=keeper.clock() - 50_000) if job
    ]
    assert sorted(job_ids) == ["j1", "late", "old"]


def test_stranded_jobs_are_found_on_every_page_of_the_table(keeper: Keeper) -> None:
    for job_id in "abcdef":
        keeper.submit(id=job_id, created_at_ms=0)
        keeper.client.update_item(
            TableName="JobsTable",
            Key={"pk": {"S": f"acme/{job_id}"}, "sk": {"S": "job"}},
            UpdateExpression="SET progress = :progress",
            ExpressionAttributeValues={":progress": {"S": json.dumps("x" * 300_000)}},
        )
    jobs = list(keeper.operations.stranded(before_ms=keeper.clock()))
    assert ([job.id for job in jobs if job], jobs.count(None)) == (
        ["a", "b", "c", "d", "e", "f"],
        2,
    )


def test_store_that_does_not_answer_is_not_reported_as_no_stranded_jobs(keeper: Keeper) -> None:
    Faults(keeper.client).plan = lambda operation, number: "before"
    with pytest.raises(StoreUnavailable):
        list(keeper.operations.stranded(before_ms=0))
