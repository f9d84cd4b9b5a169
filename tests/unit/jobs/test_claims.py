"""Claims of a job, on moto: which worker gets it, and which gets a conflict."""

import pytest
from mayfly.core.errors import StoreUnavailable
from mayfly.jobs.model import Job, Status
from mayfly.jobs.store import ClaimRefused, JobStore

from tests.support.faults import Faults
from tests.support.jobs import LEASE, NOW, a_job, claim, read


def test_claim_takes_the_job_for_the_length_of_the_lease(store: JobStore, job: Job) -> None:
    mine = claim(store)
    assert (mine.status, mine.owner, mine.attempt, mine.fence) == (Status.INPROGRESS, "w1", 1, 1)
    assert mine.lease_until_ms == NOW + LEASE
    assert mine == read(store)


def test_live_lease_excludes_other_workers_and_an_expired_one_does_not(
    store: JobStore, job: Job
) -> None:
    claim(store)
    with pytest.raises(ClaimRefused) as caught:
        claim(store, "w2", NOW + LEASE)
    assert caught.value.job == read(store)
    taken = claim(store, "w2", NOW + LEASE + 1)
    assert (taken.owner, taken.attempt, taken.fence) == ("w2", 2, 2)
    assert [attempt.outcome for attempt in taken.history] == [None, None]


def test_claim_whose_answer_is_lost_is_recognised_by_its_nonce(
    store: JobStore, job: Job, faults: Faults
) -> None:
    faults.on("UpdateItem", "after")
    assert (claim(store).attempt, faults.requests.count("UpdateItem")) == (1, 2)


def test_job_has_no_more_than_its_attempts(store: JobStore, job: Job) -> None:
    for number in range(3):
        claim(store, f"w{number}", NOW + number * (LEASE + 1))
    with pytest.raises(ClaimRefused):
        claim(store, "w4", NOW + 10 * LEASE)


def test_retry_waits_for_its_time(store: JobStore, job: Job) -> None:
    store.fail(claim(store), error="boom", retry_at_ms=NOW + 5000, now_ms=NOW)
    with pytest.raises(ClaimRefused):
        claim(store, "w2", NOW + 4999)
    again = claim(store, "w2", NOW + 5000)
    assert (again.attempt, again.not_before_ms) == (2, None)


@pytest.mark.parametrize("payload", ["small", "x" * 5000])
def test_claim_can_create_the_job_that_a_message_requests(store: JobStore, payload: str) -> None:
    mine = claim(store, new=a_job(payload=payload))
    assert (mine.status, mine.attempt, mine.payload) == (Status.INPROGRESS, 1, payload)
    assert read(store) == mine
    with pytest.raises(ClaimRefused):
        claim(store, "w2", new=a_job(payload=payload))


def test_payload_written_before_a_failed_claim_is_never_used_for_another_request(
    store: JobStore, faults: Faults
) -> None:
    faults.on("UpdateItem", "before", times=9)
    with pytest.raises(StoreUnavailable):
        claim(store, new=a_job(payload="A" * 5000, fingerprint="a"))
    faults.plan = lambda operation, number: None
    assert claim(store, new=a_job(payload="B" * 5000, fingerprint="b")).payload == "B" * 5000


@pytest.mark.parametrize("other", ["small", "x" * 5000])
@pytest.mark.parametrize("payload", ["mine", "y" * 5000])
def test_claim_never_rewrites_an_existing_job(store: JobStore, payload: str, other: str) -> None:
    store.create(a_job(payload=payload))
    with pytest.raises(ClaimRefused):
        claim(store, new=a_job(payload=other, fingerprint="other"))
    assert read(store) == a_job(payload=payload)
    mine = claim(store, new=a_job(payload=payload, task="other", max_attempts=9))
    assert (mine.payload, mine.task, mine.max_attempts) == (payload, "counter.add", 3)


def test_payload_that_cannot_be_read_after_a_claim_costs_no_attempt(
    store: JobStore, faults: Faults
) -> None:
    store.create(a_job(payload="x" * 5000))
    faults.plan = lambda operation, number: "before" if operation == "GetItem" else None
    with pytest.raises(StoreUnavailable, match="read payload"):
        claim(store)
    faults.plan = lambda operation, number: None
    job_after = read(store)
    assert (job_after.status, job_after.attempt, job_after.history) == (Status.RETRY, 0, ())
    assert claim(store, "w2").attempt == 1


def test_payload_that_was_read_before_is_not_read_again_by_a_claim(
    store: JobStore, faults: Faults
) -> None:
    store.create(a_job(payload="x" * 5000))
    job_before = read(store)
    faults.requests.clear()
    mine = store.claim("acme", "j1", nonce="w1", now_ms=NOW, lease_ms=LEASE, seen=job_before)
    assert (mine.payload, faults.requests) == ("x" * 5000, ["UpdateItem"])
