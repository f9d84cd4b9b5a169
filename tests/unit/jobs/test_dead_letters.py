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


class Burial:
    """Dead letters over a real store; the queue and the stream are the test's own."""

    def __init__(self, client: Any) -> None:
        db = DynamoDB(client, lambda attempt: None)
        self.client = client
        self.clock = FixedClock()
        self.store = JobStore(db, "JobsTable")
        self.operations = JobOperations(self.store)
        self.sent: list[tuple[Any, float]] = []
        self.queue_is_down = False
        self.stream: Any = []
        self.asked: list[tuple[str, ...]] = []
        outbox = Outbox(self._send, {})
        search = StrandedSearch(
            operations=self.operations,
            outbox=outbox,
            observe=observer("bury"),
            clock=self.clock,
            pause=self.clock.advance,
            new_nonce=Names("receive"),
        )
        letters = DeadLetters(
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
def burial(dynamodb: Any) -> Burial:
    return Burial(dynamodb)


WAKE = {"tenant": "acme", "id": "j1"}


# ---------------------------------------------------------------- messages that wake a job


def test_waiting_job_is_announced_again(burial: Burial) -> None:
    burial.submit()
    assert (burial.settle(WAKE), burial.sent) == ([], [(WAKE, 0.0)])
    assert burial.job().status is Status.QUEUED


def test_running_job_is_announced_for_the_end_of_its_lease(burial: Burial) -> None:
    burial.submit()
    claimed = burial.claim()
    assert (burial.settle(WAKE), burial.sent) == ([], [(WAKE, 15.0)])
    assert burial.job() == claimed


def test_abandoned_job_with_attempts_left_is_announced_and_not_ended(burial: Burial) -> None:
    burial.submit()
    burial.claim()
    burial.clock.advance(16)
    assert (burial.settle(WAKE), burial.sent) == ([], [(WAKE, 0.0)])
    assert burial.job().status is Status.INPROGRESS


def test_job_whose_last_attempt_was_interrupted_is_ended_with_that_reason(burial: Burial) -> None:
    burial.submit(max_attempts=1)
    burial.claim()
    burial.clock.advance(16)
    assert (burial.settle(WAKE), burial.sent) == ([], [])
    assert (burial.job().status, burial.job().error) == (
        Status.DEAD,
        "attempt 1 of 1 was interrupted: its process died",
    )


def test_running_job_on_its_last_attempt_is_not_ended(burial: Burial) -> None:
    burial.submit(max_attempts=1)
    claimed = burial.claim()
    assert (burial.settle(WAKE), burial.sent, burial.job()) == ([], [(WAKE, 15.0)], claimed)


def test_ended_job_needs_nothing(burial: Burial) -> None:
    burial.submit()
    complete(burial.store, burial.claim(), result="1", effects=[], now_ms=burial.clock())
    done = burial.job()
    assert (burial.settle(WAKE), burial.sent, burial.job()) == ([], [], done)


def test_absent_job_needs_nothing(burial: Burial) -> None:
    assert (burial.settle(WAKE), burial.sent) == ([], [])


def test_dead_letter_is_returned_if_its_announcement_cannot_be_sent(burial: Burial) -> None:
    burial.submit()
    burial.queue_is_down = True
    assert (burial.settle(WAKE), burial.sent) == (["m0"], [])


# ---------------------------------------------------------------- messages that request a job


def test_job_that_no_worker_could_create_is_created_under_the_id_of_its_message(
    burial: Burial,
) -> None:
    assert burial.settle({"task": "t", "payload": 5}) == []
    job = burial.job(job_id_for("acme", None, otherwise="message m0"))
    # The stream announces it.
    assert (job.status, job.payload, job.max_attempts, burial.sent) == (
        Status.QUEUED,
        5,
        7,
        [],
    )


def test_job_that_a_worker_had_created_is_announced_and_not_created_twice(burial: Burial) -> None:
    burial.settle({"task": "t", "payload": 5})
    burial.clock.advance(1)
    assert burial.settle({"task": "t", "payload": 5}) == []
    assert [body["id"] for body, _ in burial.sent] == [
        job_id_for("acme", None, otherwise="message m0")
    ]


@pytest.mark.parametrize(("first", "second"), [(5, 5.0), (5.0, 5)], ids=str)
def test_message_in_another_spelling_is_the_same_request(
    burial: Burial, first: float, second: float
) -> None:
    for payload in (first, second):
        burial.clock.advance(1)
        burial.settle({"task": "t", "payload": payload, "idempotency_key": "k"})
    assert list(burial.operations.unreadable(now_ms=burial.clock())) == []


def test_message_whose_key_belongs_to_another_request_is_stored(burial: Burial) -> None:
    burial.settle({"task": "t", "payload": 5, "idempotency_key": "k"})
    body = json.dumps({"task": "t", "payload": 6, "idempotency_key": "k"})
    assert (burial.settle(body), burial.sent) == ([], [])
    (kept,) = burial.operations.unreadable(now_ms=burial.clock())
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
    burial: Burial, body: str
) -> None:
    for _ in range(2):  # a dead letter may be delivered twice
        assert burial.settle(body) == []
    (kept,) = burial.operations.unreadable(now_ms=burial.clock())
    assert (kept.message_id, kept.body, kept.kept_at_ms, burial.sent) == (
        "m0",
        body,
        burial.clock(),
        [],
    )
    burial.operations.forget_unreadable("m0")
    assert list(burial.operations.unreadable(now_ms=burial.clock())) == []
    assert burial.client.scan(TableName="JobsTable")["Items"] == []


def test_report_that_names_no_stream_is_stored_and_reads_no_stream(burial: Burial) -> None:
    assert burial.settle(NO_STREAM, source="arn:relay-failures") == []
    (kept,) = burial.operations.unreadable(now_ms=burial.clock())
    assert (kept.problem.split(":")[0], burial.asked) == ("streamArn", [])


def test_stored_message_expires_like_a_job(burial: Burial) -> None:
    burial.settle("not json")
    burial.clock.advance(31 * 24 * 3600)
    assert list(burial.operations.unreadable(now_ms=burial.clock())) == []


def test_deletion_of_an_absent_message_raises_an_error(burial: Burial) -> None:
    with pytest.raises(JobNotFound):
        burial.operations.forget_unreadable("nothing")


def test_dead_letter_that_cannot_be_stored_is_returned(burial: Burial) -> None:
    faults = Faults(burial.client)
    faults.plan = lambda operation, number: "before"
    assert burial.settle("not json") == ["m0"]


# ---------------------------------------------------------------- records that were not sent


def image(job_id: str, status: str = "QUEUED", **more: Any) -> dict[str, Any]:
    return {
        "sk": {"S": "job"},
        "status": {"S": status},
        "tenant": {"S": "acme"},
        "id": {"S": job_id},
        "task": {"S": "t"},
        **more,
    }


def test_jobs_in_records_that_the_relay_could_not_deliver_are_announced(burial: Burial) -> None:
    later = {"N": str(burial.clock() + 60_000)}
    burial.stream = [
        image("a"),
        image("done", "COMPLETED"),
        {"sk": {"S": "payload/x"}},
        {},
        image("b", "SCHEDULED", not_before=later),
        image("far", "SCHEDULED", not_before=later, due={"S": "due"}),
    ]
    assert burial.settle(GAP) == []
    assert burial.asked == [(ARN, "shard-1", "5", "9")]
    assert burial.sent == [
        ({"tenant": "acme", "id": "a"}, 0.0),
        ({"tenant": "acme", "id": "b"}, 60.0),
    ]


def test_jobs_in_records_that_have_left_the_stream_are_searched_for_and_resent(
    burial: Burial, caplog: pytest.LogCaptureFixture
) -> None:
    burial.submit()
    burial.clock.advance(10)
    burial.stream = StreamTrimmed(ARN, "5", "9")
    assert burial.settle(GAP) == []
    assert (burial.job().resent_at_ms, burial.sent) == (burial.clock() - 500, [])
    assert "the stream no longer has the records of a report" in caplog.text


def test_records_that_cannot_be_announced_are_returned(burial: Burial) -> None:
    burial.stream = [image("a")]
    burial.queue_is_down = True
    assert burial.settle(GAP) == ["m0"]


def test_report_of_a_gap_that_did_not_come_from_the_relay_is_not_accepted(burial: Burial) -> None:
    """A sender with access to the jobs queue must not make this function read streams."""
    assert burial.settle(json.dumps(GAP)) == []
    assert (burial.asked, len(list(burial.operations.unreadable(now_ms=burial.clock())))) == ([], 1)


def test_rest_of_a_gap_is_announced_and_the_lost_part_is_searched_for(burial: Burial) -> None:
    def trimmed() -> Any:
        yield image("b")
        raise StreamTrimmed(ARN, "5", "9")

    burial.submit()
    burial.stream = trimmed()
    assert burial.settle(GAP) == []
    assert [body["id"] for body, _ in burial.sent] == ["b"]
    assert burial.job().resent_at_ms is not None


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


def resend(burial: Burial) -> Job:
    return burial.operations.resend("acme", "j1", now_ms=burial.clock())


def stream_images(burial: Burial) -> list[str]:
    """Returns the statuses that the table's stream has carried so far."""
    from tests.support.clients import make_client

    streams = make_client("dynamodbstreams")
    arn = burial.client.describe_table(TableName="JobsTable")["Table"]["LatestStreamArn"]
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    position = streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    return [
        record["dynamodb"]["NewImage"]["status"]["S"]
        for record in streams.get_records(ShardIterator=position)["Records"]
    ]


def test_queued_job_is_announced_again_by_the_stream(streamed: None, burial: Burial) -> None:
    burial.submit()
    burial.clock.advance(1)
    assert resend(burial).status is Status.QUEUED
    assert stream_images(burial) == ["QUEUED", "QUEUED"]


def test_abandoned_job_is_queued_again_and_keeps_its_attempt(burial: Burial) -> None:
    burial.submit()
    late = burial.claim()
    burial.clock.advance(16)
    job = resend(burial)
    assert (job.status, job.attempt, job.fence, len(job.history)) == (
        Status.QUEUED,
        1,
        1,
        1,
    )
    with pytest.raises(Exception, match="no longer owns job"):
        complete(burial.store, late, result="1", effects=[], now_ms=burial.clock())
    assert burial.claim("w2").attempt == 2


def test_job_whose_owner_renews_while_it_is_resent_keeps_its_owner(burial: Burial) -> None:
    burial.submit()
    claimed = burial.claim()
    burial.clock.advance(16)

    def renew(**_: Any) -> None:
        burial.client.meta.events.unregister("before-call.dynamodb.UpdateItem", renew)
        burial.store.renew([claimed], now_ms=burial.clock(), lease_ms=15_000)

    burial.client.meta.events.register("before-call.dynamodb.UpdateItem", renew)
    assert (resend(burial).status, burial.job().owner) == (Status.INPROGRESS, "w")


def test_job_that_waits_for_its_next_attempt_is_resent_once_its_time_has_come(
    streamed: None,
    burial: Burial,
) -> None:
    burial.submit()
    burial.store.fail(
        burial.claim(), error="boom", retry_at_ms=burial.clock() + 5000, now_ms=burial.clock()
    )
    with pytest.raises(JobIsLive, match=r"5\.0 s"):
        resend(burial)
    burial.clock.advance(5)
    assert resend(burial).status is Status.QUEUED
    assert stream_images(burial)[-1] == "QUEUED"


def test_job_whose_last_attempt_was_interrupted_is_ended_by_a_resend(burial: Burial) -> None:
    burial.submit(max_attempts=1)
    burial.claim()
    burial.clock.advance(16)
    assert resend(burial).status is Status.DEAD


def test_running_or_ended_job_is_not_resent(streamed: None, burial: Burial) -> None:
    burial.submit()
    claimed = burial.claim()
    with pytest.raises(JobIsLive):
        resend(burial)
    complete(burial.store, claimed, result="1", effects=[], now_ms=burial.clock())
    with pytest.raises(JobEnded):
        resend(burial)
    assert stream_images(burial) == ["QUEUED", "INPROGRESS", "COMPLETED"]


def test_stranded_jobs_are_those_that_did_not_change_for_long(burial: Burial) -> None:
    burial.submit(id="old")
    burial.submit(id="resent")
    burial.submit()
    burial.claim()
    burial.submit(id="done")
    done = burial.store.claim("acme", "done", nonce="w", now_ms=burial.clock(), lease_ms=15_000)
    complete(burial.store, done, result="1", effects=[], now_ms=burial.clock())
    burial.clock.advance(100)
    burial.submit(id="new", payload="x" * 5000)
    burial.operations.resend("acme", "resent", now_ms=burial.clock())
    burial.submit(
        id="late", status=Status.SCHEDULED, not_before_ms=burial.clock() - 60_000, created_at_ms=0
    )
    burial.submit(id="early", status=Status.SCHEDULED, not_before_ms=burial.clock() + 60_000)
    job_ids = [
        job.id for job in burial.operations.stranded(before_ms=burial.clock() - 50_000) if job
    ]
    assert sorted(job_ids) == ["j1", "late", "old"]


def test_stranded_jobs_are_found_on_every_page_of_the_table(burial: Burial) -> None:
    for job_id in "abcdef":
        burial.submit(id=job_id, created_at_ms=0)
        burial.client.update_item(
            TableName="JobsTable",
            Key={"pk": {"S": f"acme/{job_id}"}, "sk": {"S": "job"}},
            UpdateExpression="SET progress = :progress",
            ExpressionAttributeValues={":progress": {"S": json.dumps("x" * 300_000)}},
        )
    jobs = list(burial.operations.stranded(before_ms=burial.clock()))
    assert ([job.id for job in jobs if job], jobs.count(None)) == (
        ["a", "b", "c", "d", "e", "f"],
        2,
    )


def test_store_that_does_not_answer_is_not_reported_as_no_stranded_jobs(burial: Burial) -> None:
    Faults(burial.client).plan = lambda operation, number: "before"
    with pytest.raises(StoreUnavailable):
        list(burial.operations.stranded(before_ms=0))
