"""Failures and burials of a job, on moto: they end an attempt, and perhaps the job."""

import pytest
from mayfly.jobs.errors import StaleWrite
from mayfly.jobs.model import Job, Outcome, Status
from mayfly.jobs.store import ClaimRefused, JobStore

from tests.support.faults import Faults
from tests.support.jobs import LEASE, NOW, claim, read


def test_failure_records_the_attempt_and_frees_the_job(store: JobStore, job: Job) -> None:
    store.fail(claim(store), error="boom", retry_at_ms=NOW + 1, now_ms=NOW)
    released = read(store)
    assert (released.status, released.not_before_ms, released.expires_at_s) == (
        Status.RETRY,
        NOW + 1,
        None,
    )
    assert (released.history[0].outcome, released.history[0].error) == (Outcome.FAILED, "boom")


def test_failure_without_a_retry_time_ends_the_job(store: JobStore, job: Job) -> None:
    store.fail(claim(store), error="boom", retry_at_ms=None, now_ms=NOW)
    ended = read(store)
    assert (ended.status, ended.error) == (Status.DEAD, "boom")
    assert ended.expires_at_s is not None
    with pytest.raises(ClaimRefused):
        claim(store, "w2", NOW + 10 * LEASE)


def test_failure_of_a_lost_job_is_refused(store: JobStore, job: Job) -> None:
    late = claim(store)
    taken = claim(store, "w2", NOW + LEASE + 1)
    with pytest.raises(StaleWrite):
        store.fail(late, error="boom", retry_at_ms=NOW, now_ms=NOW)
    assert read(store) == taken


def test_failure_whose_answer_is_lost_succeeds_on_retry(
    store: JobStore, job: Job, faults: Faults
) -> None:
    mine = claim(store)
    faults.on("UpdateItem", "after")
    store.fail(mine, error="boom", retry_at_ms=NOW, now_ms=NOW)
    assert read(store).status is Status.RETRY


def test_job_is_buried_only_in_the_state_that_was_read(store: JobStore, job: Job) -> None:
    stale = claim(store)
    taken = claim(store, "w2", NOW + LEASE + 1)
    with pytest.raises(StaleWrite):
        store.bury(stale, now_ms=NOW)
    assert store.renew([taken], now_ms=NOW + LEASE + 2, lease_ms=LEASE) == [None]
    with pytest.raises(StaleWrite):
        store.bury(taken, now_ms=NOW)
    taken = read(store)
    store.bury(taken, now_ms=NOW)
    job_after = read(store)
    assert (job_after.status, job_after.history[-1].outcome) == (Status.DEAD, Outcome.INTERRUPTED)
    assert job_after.error == "attempt 2 of 3 was interrupted: its process died"
