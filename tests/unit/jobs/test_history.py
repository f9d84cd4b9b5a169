"""The history of a job is bounded, and so is its item."""

import json
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mayfly.aws.dynamodb import ConditionFailed, RequestRefused
from mayfly.core.errors import MayflyError
from mayfly.jobs import history, writes
from mayfly.jobs.authoring.outcomes import Continue, Permanent
from mayfly.jobs.history import FIRST, LAST
from mayfly.jobs.items import history_values, new_items, read_job
from mayfly.jobs.model import Attempt, Job, Outcome, Status, Wake
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.store import JobStore
from mayfly.jobs.wire import public

from tests.conftest import make_tables
from tests.support.faults import Faults
from tests.support.jobs import LEASE, NOW, a_job, claim, read
from tests.support.stage import Stage

#: An item holds 400 KB: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/
ITEM_LIMIT = 400 * 1024
#: Each character is four bytes of UTF-8.
FAT = "\U0001f600" * 600
BOUND = FIRST + LAST


def size_of(item: Mapping[str, Any]) -> int:
    """Returns about the size of an item, as DynamoDB counts it."""
    return len(json.dumps(item, ensure_ascii=False).encode())


def stored(stage: Stage) -> Mapping[str, Any]:
    """Returns the job's item."""
    key = {"pk": {"S": "acme/j1"}, "sk": {"S": "job"}}
    item: Mapping[str, Any] = stage.client.get_item(
        TableName=stage.tables["JobsTable"], Key=key, ConsistentRead=True
    )["Item"]
    return item


def run_until_it_ends(stage: Stage, *, most: int = 50) -> None:
    """Delivers the job's message until the job has ended, as queue and dead letters would."""
    for number in range(most):
        try:
            stage.run(receives=2 if number else 1)
        except MayflyError as failure:
            stage.clock.advance(getattr(failure, "seconds", 60) or 0.001)
        if stage.job().status in (Status.COMPLETED, Status.DEAD):
            return
    raise AssertionError(f"the job is {stage.job().status} after {most} deliveries")


# ---------------------------------------------------------------- the rules


@given(
    st.lists(st.sampled_from([*Outcome, None]), max_size=3 * BOUND),
    st.integers(min_value=1, max_value=7),
)
def test_attempts_are_kept_or_counted_and_have_the_numbers_that_they_had(
    outcomes: list[Outcome | None], each: int
) -> None:
    job = a_job()
    for place, outcome in enumerate(outcomes):
        job = replace(job, history=(*job.history, Attempt(place, outcome=outcome)))
        if place % each == 0:  # claims append without a bound, ends shorten
            job = history.shortened(job)
    job = history.shortened(job)
    assert len(job.history) == min(len(outcomes), BOUND)
    assert len(job.history) + sum(job.omitted.values()) == len(outcomes)
    assert [attempt.started_at_ms + 1 for attempt in job.history] == [
        history.attempt_number(job, index) for index in range(len(job.history))
    ]
    wanted = [outcome or Outcome.INTERRUPTED for outcome in outcomes[FIRST:-LAST]]
    assert job.omitted == ({name: wanted.count(name) for name in wanted})


def test_changes_of_the_last_attempt_shorten_too() -> None:
    full = replace(a_job(), history=tuple(Attempt(number) for number in range(BOUND)))
    begun = history.begin_attempt(full, Attempt(99))
    assert (len(begun.history), begun.history[-1], begun.omitted) == (
        BOUND,
        Attempt(99),
        {Outcome.INTERRUPTED: 1},
    )
    ended = history.end_attempt(begun, Attempt(99, 100, Outcome.FAILED))
    assert (len(ended.history), ended.history[-1].ended_at_ms) == (BOUND, 100)
    assert len(history.undo_attempt(begun).history) == BOUND - 1
    assert history.attempt_number(ended, BOUND - 1) == BOUND + 1


def test_item_keeps_the_counts() -> None:
    job = replace(a_job(), omitted={Outcome.CONTINUED: 7, Outcome.FAILED: 1})
    item = {**new_items(job)[0]}
    assert item["omitted"] == {"S": '{"continued":7,"failed":1}'}
    assert read_job(item).omitted == job.omitted
    assert "omitted" not in history_values(a_job())
    assert read_job(new_items(a_job())[0]).omitted == {}


def test_answer_has_the_counts_and_the_numbers(stage: Stage) -> None:
    attempts = tuple(Attempt(NOW + n, NOW + n, Outcome.CONTINUED) for n in range(100))
    job = history.shortened(replace(a_job(), history=attempts))
    shown = public(job, NOW)
    numbers = [attempt["number"] for attempt in shown["attempts"]]
    assert numbers == [*range(1, FIRST + 1), *range(101 - LAST, 101)]
    assert shown["attempts_omitted"] == {"continued": 100 - BOUND}
    assert "attempts_omitted" not in public(a_job(), NOW)


# ---------------------------------------------------------------- every write of the store


@pytest.mark.parametrize(
    "leave",
    ["fail", "die", "wait long", "continue", "release", "cancel", "bury", "complete"],
)
def test_every_write_that_leaves_a_job_shortens_its_history(store: JobStore, leave: str) -> None:
    old = tuple(Attempt(NOW, NOW, Outcome.CONTINUED) for _ in range(200))
    store.create(a_job(status=Status.RETRY, not_before_ms=NOW, history=old))
    mine = claim(store)
    assert len(mine.history) == 201
    match leave:
        case "fail":
            store.fail(mine, error="x", retry_at_ms=NOW, now_ms=NOW)
        case "die":
            store.fail(mine, error="x", retry_at_ms=None, now_ms=NOW)
        case "wait long":
            store.fail(mine, error="x", retry_at_ms=NOW + 10_000_000, now_ms=NOW)
        case "continue":
            store.continue_later(mine, now_ms=NOW)
        case "release":
            store.release(mine, now_ms=NOW)
        case "cancel":
            JobOperations(store).cancel("acme", "j1", now_ms=NOW)
        case "bury":
            store.bury(mine, now_ms=NOW)
        case "complete":
            store.db.update("commit", **store.completion(mine, result="1", now_ms=NOW)["Update"])
    left = read(store)
    is_undone = leave == "release"
    assert len(left.history) == BOUND
    assert left.omitted == {Outcome.CONTINUED: 201 - is_undone - BOUND}
    assert left.history[-1].outcome == {
        "continue": "continued", "release": "continued", "cancel": "cancelled",
        "bury": "interrupted", "complete": "succeeded",
    }.get(leave, "failed")  # fmt: skip


def test_interrupted_attempts_of_one_run_pass_the_bound_until_it_ends(store: JobStore) -> None:
    old = tuple(Attempt(NOW, NOW, Outcome.FAILED) for _ in range(BOUND))
    store.create(a_job(history=old, max_attempts=20))
    now = NOW
    for number in range(20):
        mine = claim(store, f"w{number}", now)
        now += LEASE + 1
    assert len(mine.history) == BOUND + 20
    store.bury(mine, now_ms=now)
    assert len(read(store).history) == BOUND


# ---------------------------------------------------------------- jobs of many attempts


def test_job_of_many_continuations_ends_and_its_item_stays_small(
    dynamodb: Any, request: pytest.FixtureRequest
) -> None:
    """`make test-all` has 20,000 continuations."""
    rounds = int(request.config.getoption("--continuations"))
    assert rounds >= 2 * BOUND, "--continuations must fill the history twice"
    # Without streams: moto keeps all of their records.
    stage = Stage(dynamodb, make_tables(dynamodb, "many-"), exclusive=True)
    sizes: list[int] = []

    def body(job: Job, effects: Any) -> Any:
        row = job.progress or 0
        effects.checkpoint(row + 1)
        if row < rounds:
            raise Continue
        return row

    stage.body = body
    stage.submit(max_attempts=1)
    for _ in range(rounds):
        with pytest.raises(MayflyError):
            stage.run()
        sizes.append(size_of(stored(stage)))
    stage.run()
    job = stage.job()
    assert (job.status, job.result, len(job.history)) == (Status.COMPLETED, rounds, BOUND)
    assert job.omitted == {Outcome.CONTINUED: rounds + 1 - BOUND}
    assert max(sizes) < 6_000
    assert max(sizes[BOUND:]) - min(sizes[BOUND:]) < 50
    found = {"continuations": rounds, "largest item": max(sizes), "last item": sizes[-1]}
    print(found)  # noqa: T201  # the figures of a long run


def test_job_of_many_redrives_with_fat_errors_still_ends_and_fits(
    stage: Stage, searches: int
) -> None:
    """`make test-all` has 50 redrives, with 20 attempts each."""
    redrives, sizes = max(2, searches // 20), []

    def body(job: Job, effects: Any) -> None:
        raise RuntimeError(FAT)

    stage.body = body
    stage.submit(max_attempts=20)
    for _ in range(redrives):
        run_until_it_ends(stage)
        sizes.append(size_of(stored(stage)))
        stage.operations.redrive("acme", "j1", now_ms=stage.clock())
    stage.body = lambda job, effects: "x" * 250_000
    run_until_it_ends(stage)
    job = stage.job()
    assert (job.status, len(job.history)) == (Status.COMPLETED, BOUND)
    assert job.omitted == {Outcome.FAILED: 20 * redrives + 1 - BOUND}
    assert max(sizes) < 70_000
    print({"redrives": redrives, "largest item": max(sizes), "last item": sizes[-1]})  # noqa: T201


def test_largest_history_leaves_room_for_the_largest_result() -> None:
    worst = Attempt(NOW, NOW, Outcome.FAILED, "\x00" * 500)  # six bytes of JSON each
    job = a_job(history=(worst,) * BOUND, result=None, error="\x00" * 500)
    item = {**new_items(job)[0], "result": {"S": "x" * 256 * 1024}}
    sizes = sum(len(name) + size_of({"": value}) for name, value in item.items())
    assert sizes < ITEM_LIMIT


def test_result_beside_a_fat_history_is_stored(stage: Stage) -> None:
    at = stage.clock()
    fat = tuple(Attempt(at, at, Outcome.FAILED, FAT[:500]) for _ in range(80))
    stage.body = lambda job, effects: "x" * 250_000
    stage.submit(run=5, history=fat)
    run_until_it_ends(stage)
    assert stage.job().status is Status.COMPLETED


# ---------------------------------------------------------------- what earlier releases left


def largest(store: JobStore) -> Job:
    """Creates a job with the most attempts that an item holds, as release 0.2.0 could leave it."""

    def of_size(size: int) -> Job:
        old = tuple(Attempt(NOW, NOW, Outcome.CONTINUED) for _ in range(size))
        return a_job(task="t", status=Status.RETRY, not_before_ms=NOW, fence=size, history=old)

    # Ids of the same length, so that the items of all tries are as large as the job's.
    ids = map("{:02}".format, count())

    def is_refused(size: int) -> bool:
        try:
            store.create(replace(of_size(size), id=next(ids)))
        except RequestRefused:
            return True
        return False

    most = bisect_left(range(5_000), True, lo=4_000, key=is_refused) - 1
    assert 4_000 < most < 4_999
    store.create(of_size(most))
    return of_size(most)


@pytest.mark.parametrize("exclusive", [False, True])
def test_job_whose_history_no_longer_fits_is_shortened_and_runs(
    dynamodb: Any, exclusive: bool
) -> None:
    stage = Stage(dynamodb, exclusive=exclusive)
    job = largest(stage.store)
    with pytest.raises(RequestRefused, match="size"):
        claim(stage.store, now_ms=stage.clock())
    stage.run(receives=2)
    done = stage.job()
    assert (done.status, len(stage.ran), stage.count()) == (Status.COMPLETED, 1, 1)
    assert done.omitted == {Outcome.CONTINUED: len(job.history) + 1 - BOUND}
    assert done.history[-1].outcome is Outcome.SUCCEEDED


def test_job_whose_history_no_longer_fits_can_be_cancelled(dynamodb: Any) -> None:
    stage = Stage(dynamodb)
    largest(stage.store)
    assert stage.operations.cancel("acme", "j1", now_ms=stage.clock()).status is Status.CANCELLED


# ---------------------------------------------------------------- writes that are refused


def refuse(faults: Faults, *, skip: int = 0, times: int = 1) -> None:
    """Makes the next updates fail as DynamoDB refuses an item that is too large."""
    faults.on("UpdateItem", "ValidationException", skip=skip, times=times)


REASON = "WriteRefused: the store does not take the record of job 'j1': injected"


def test_claim_that_the_store_refuses_ends_the_job_with_the_reason(
    claiming: Stage, faults: Faults
) -> None:
    claiming.submit()
    refuse(faults)
    claiming.run()
    dead = claiming.job()
    assert (dead.status, dead.error, claiming.ran, dead.history) == (Status.DEAD, REASON, [], ())
    assert claiming.counted.count("JobDead") == 1
    listed = claiming.operations.list(
        "acme", Status.DEAD, limit=9, after=None, now_ms=claiming.clock()
    )
    assert [public(job, claiming.clock())["error"] for job in listed.jobs] == [REASON]


def test_claim_that_is_refused_although_the_history_was_shortened_ends_the_job(
    claiming: Stage, faults: Faults
) -> None:
    old = tuple(Attempt(NOW, NOW, Outcome.CONTINUED) for _ in range(100))
    claiming.submit(history=old)
    updates = iter(["ValidationException", "ValidationException"])
    faults.plan = lambda operation, number: (
        next(updates, None) if operation == "UpdateItem" else None
    )
    claiming.run()
    assert (claiming.job().status, claiming.job().error) == (Status.DEAD, REASON)
    assert len(claiming.job().history) == BOUND


def test_refused_claim_of_an_abandoned_job_ends_it_and_its_attempt(
    claiming: Stage, faults: Faults
) -> None:
    claiming.submit()
    claiming.store.claim("acme", "j1", nonce="w", now_ms=claiming.clock(), lease_ms=LEASE)
    claiming.clock.advance(16)
    refuse(faults)
    claiming.run(receives=2)
    dead = claiming.job()
    assert (dead.status, dead.error, dead.history[-1].outcome) == (
        Status.DEAD,
        REASON,
        Outcome.INTERRUPTED,
    )


def test_refused_claim_of_a_job_that_a_worker_holds_changes_nothing(
    claiming: Stage, faults: Faults
) -> None:
    claiming.submit()
    held = claiming.store.claim("acme", "j1", nonce="w", now_ms=claiming.clock(), lease_ms=LEASE)
    faults.on("BatchGetItem", "error", times=9)  # the batch is not read: the claim is tried
    refusing = faults.plan
    faults.plan = lambda operation, number: (
        "ValidationException" if operation == "UpdateItem" else refusing(operation, number)
    )
    with pytest.raises(MayflyError, match="can be claimed in"):
        claiming.run(receives=2)
    assert claiming.job() == held


def test_job_that_changes_while_its_claim_is_refused_is_not_ended(dynamodb: Any) -> None:
    """The burial has the version that was read as its condition."""
    stage = Stage(dynamodb, exclusive=True)
    stage.submit()
    seen = stage.job()
    stage.store.claim("acme", "j1", nonce="w", now_ms=stage.clock(), lease_ms=LEASE)
    with pytest.raises(MayflyError, match="no longer owns"):
        stage.store.bury(seen, error="x", now_ms=stage.clock())
    assert (stage.job().status, len(stage.job().history)) == (Status.INPROGRESS, 1)


@pytest.mark.parametrize(
    "change", ["claims", "saves progress", "renews", "announces again", "nothing"]
)
def test_history_is_shortened_only_if_the_item_is_as_it_was_read(
    store: JobStore, dynamodb: Any, change: str
) -> None:
    """The put that shortens it would undo the change."""
    old = tuple(Attempt(NOW, NOW, Outcome.CONTINUED) for _ in range(100))
    store.create(a_job(history=old))
    mine = store.claim("acme", "j1", nonce="w", now_ms=NOW, lease_ms=LEASE)
    key = {"pk": {"S": "acme/j1"}, "sk": {"S": "job"}}
    item = dynamodb.get_item(TableName="JobsTable", Key=key)["Item"]
    match change:
        case "claims":
            claim(store, "w2", NOW + LEASE + 1)
        case "saves progress":
            store.save(mine, progress="1")
        case "renews":
            assert store.renew([mine], now_ms=NOW + 5, lease_ms=LEASE) == [None]
        case "announces again":
            JobOperations(store).resend("acme", "j1", now_ms=NOW + LEASE + 1)
    before = read(store)
    if change == "nothing":
        store.db.put("shorten", **writes.shorten("JobsTable", item))
        assert read(store) == history.shortened(before) != before
        return
    with pytest.raises(ConditionFailed):
        store.db.put("shorten", **writes.shorten("JobsTable", item))
    assert read(store) == before


@pytest.mark.parametrize("what", ["fails", "continues", "is permanent"])
def test_end_of_an_attempt_that_the_store_refuses_ends_the_job_with_the_reason(
    stage: Stage, faults: Faults, what: str
) -> None:
    def body(job: Job, effects: Any) -> None:
        if what == "continues":
            effects.checkpoint(1)
        refuse(faults)
        raise {
            "fails": RuntimeError("boom"),
            "continues": Continue(),
            "is permanent": Permanent("no"),
        }[what]

    stage.body = body
    stage.submit()
    stage.run()
    dead = stage.job()
    assert (dead.status, dead.error, dead.history[-1].error) == (Status.DEAD, REASON, REASON)
    assert dead.history[-1].ended_at_ms is not None
    assert stage.counted.count("JobDead") == 1


def test_progress_that_the_store_refuses_ends_the_job_with_the_reason(
    stage: Stage, faults: Faults
) -> None:
    def body(job: Job, effects: Any) -> None:
        effects.checkpoint(1)
        refuse(faults)
        effects.checkpoint(2)

    stage.body = body
    stage.submit()
    stage.run()
    assert stage.job().status is Status.DEAD
    assert str(stage.job().error).startswith(REASON)


def test_commit_that_the_store_refuses_ends_the_job_with_the_reason(
    stage: Stage, faults: Faults
) -> None:
    faults.plan = lambda operation, number: (
        "ValidationException" if operation == "TransactWriteItems" else None
    )
    stage.submit()
    stage.run()
    dead = stage.job()
    assert (dead.status, stage.count()) == (Status.DEAD, 0)
    assert "was refused (injected)" in str(dead.error)


def test_missing_permission_ends_no_job(claiming: Stage, faults: Faults) -> None:
    """It may exist at the next try."""
    claiming.submit()
    faults.on("UpdateItem", "AccessDeniedException")
    with pytest.raises(RequestRefused):
        claiming.run()
    assert claiming.job().status is Status.QUEUED
    claiming.run(receives=2)
    assert claiming.job().status is Status.COMPLETED


def test_neighbours_of_a_job_whose_record_is_refused_are_done(
    dynamodb: Any, faults: Faults
) -> None:
    stage = Stage(dynamodb)
    largest_job = "j1"

    def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        if job.id == largest_job:
            refuse(faults)
            raise RuntimeError("boom")

    stage.body = body
    for name in ("j0", "j1", "j2"):
        stage.submit(id=name)
    report = stage.handle(*(Wake("acme", f"j{number}") for number in range(3)))
    assert report["batchItemFailures"] == []
    assert [stage.job(f"j{number}").status for number in range(3)] == [
        Status.COMPLETED,
        Status.DEAD,
        Status.COMPLETED,
    ]
