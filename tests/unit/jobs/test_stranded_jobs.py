"""Jobs whose announcement was lost are found by their time and resent.

A crash leaves no job out.
"""

from typing import Any

import pytest
from mayfly.jobs.model import Status

from tests.support.completion import complete
from tests.support.faults import Faults
from tests.support.stage import Stage
from tests.support.stranded import DAY, EARLY, EVERYTHING, FROM, LATE, NOW, Bury, held, report

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
