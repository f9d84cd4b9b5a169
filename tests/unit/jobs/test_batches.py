"""A batch of messages in one invocation, on the emulator.

moto cannot execute statements in batches.
"""

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from mayfly.aws.dynamodb import Reason
from mayfly.core.errors import MayflyError, StoreUnavailable
from mayfly.jobs.authoring.outcomes import Permanent
from mayfly.jobs.errors import LeaseHeld
from mayfly.jobs.items import job_key
from mayfly.jobs.model import Job, Outcome, Status, Submission, Wake
from mayfly.jobs.store import Claim
from mayfly.jobs.worker.runner import Runner

from mayfly_testing.stack import wait_until
from tests.conftest import WORKERS, make_tables
from tests.support.fakes import Context
from tests.support.faults import Faults
from tests.support.stage import Stage, a_record

_prefixes = (f"batch{number}-" for number in itertools.count())


@pytest.fixture
def faults(embedded: Any) -> Faults:
    return Faults(embedded, on_moto=False)


@pytest.fixture
def stage(embedded: Any) -> Stage:
    """Returns a worker whose task requires a claim."""
    return Stage(embedded, make_tables(embedded, next(_prefixes), only=WORKERS), exclusive=True)


NAMES = [f"j{number}" for number in range(10)]


def submit_all(stage: Stage, **changes: Any) -> list[Wake]:
    for name in NAMES:
        stage.submit(id=name, **changes)
    return [Wake("acme", name) for name in NAMES]


def failures(reply: dict[str, Any]) -> list[str]:
    return [failure["itemIdentifier"] for failure in reply["batchItemFailures"]]


def attempts(stage: Stage) -> list[int]:
    return [stage.job(name).attempt for name in NAMES]


# ---------------------------------------------------------------- cost of a batch


def test_batch_of_ten_is_read_in_one_call_and_claimed_in_one(stage: Stage, faults: Faults) -> None:
    messages = submit_all(stage)
    faults.requests.clear()
    assert failures(stage.handle(*messages)) == []
    assert faults.requests == ["BatchGetItem", "BatchExecuteStatement", "TransactWriteItems"]
    assert (stage.count(), {stage.job(name).status for name in NAMES}, attempts(stage)) == (
        10,
        {Status.COMPLETED},
        [1] * 10,
    )


def test_jobs_that_messages_request_are_created_by_their_claims_in_one_call(
    stage: Stage, faults: Faults
) -> None:
    reply = stage.handle(*(Submission("t", number) for number in range(10)))
    assert failures(reply) == []
    assert faults.requests == ["BatchGetItem", "BatchExecuteStatement", "TransactWriteItems"]
    assert sorted(job.payload for job in stage.ran) == list(range(10))
    found = stage.job(stage.ran[0].id)
    assert (found.status, found.attempt, found.fence, len(found.history), found.max_attempts) == (
        Status.COMPLETED,
        1,
        1,
        1,
        3,
    )


def test_claim_in_a_batch_leaves_the_same_record_as_a_single_claim(stage: Stage) -> None:
    records: dict[int, list[Job]] = {}
    for size in (1, 2):
        for number in range(size):
            stage.submit(id=f"s{size}-{number}", payload={"x": 1})
        stage.ran.clear()
        stage.handle(*(Wake("acme", f"s{size}-{number}") for number in range(size)))
        records[size] = [stage.ran[0], stage.job(f"s{size}-0")]
    for alone, together in zip(records[1], records[2], strict=True):
        assert {**vars(together), "id": "", "owner": ""} == {**vars(alone), "id": "", "owner": ""}


def test_large_payloads_cost_one_more_call(stage: Stage, faults: Faults) -> None:
    messages = submit_all(stage, payload="x" * 5000)
    faults.requests.clear()
    stage.handle(*messages)
    assert Counter(faults.requests) == {
        "BatchGetItem": 2,
        "BatchExecuteStatement": 1,
        "TransactWriteItems": 1,
    }
    assert {job.payload for job in stage.ran} == {"x" * 5000}


def test_ended_jobs_cost_only_the_read(stage: Stage, faults: Faults) -> None:
    messages = submit_all(stage)
    stage.handle(*messages)
    stage.ran.clear()
    faults.requests.clear()
    assert failures(stage.handle(*messages)) == []
    assert (faults.requests, stage.ran) == (["BatchGetItem"], [])


# ---------------------------------------------------------------- copies


def test_copies_of_a_message_run_once_and_share_the_outcome(stage: Stage) -> None:
    stage.submit()
    stage.submit(id="j2", max_attempts=2)

    def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        if job.id == "j2":
            raise RuntimeError("boom")

    stage.body = body
    reply = stage.handle(*[Wake("acme", "j1"), Wake("acme", "j2")] * 3)
    assert Counter(job.id for job in stage.ran) == {"j1": 1, "j2": 1}
    assert failures(reply) == ["m1", "m3", "m5"]
    assert stage.visible.asked[-1] == pytest.approx(
        {"r-m1": 1.0, "r-m3": 1.0, "r-m5": 1.0}, abs=0.5
    )
    assert (stage.count(), stage.job("j2").attempt) == (1, 1)


@pytest.mark.parametrize("exclusive", [True, False])
def test_one_key_with_two_bodies_in_one_batch_is_one_job_and_one_rejection(
    stage: Stage, exclusive: bool
) -> None:
    stage.declare(exclusive=exclusive)
    reply = stage.handle(
        Submission("t", "A", idempotency_key="k"), Submission("t", "B", idempotency_key="k")
    )
    assert (failures(reply), stage.count(), stage.succeeded) == ([], 1, 1)
    assert stage.job(stage.ran[0].id).payload == "A"
    (kept,) = stage.operations.unreadable(now_ms=stage.clock())
    assert (kept.message_id, "with another body" in kept.problem) == ("m1", True)


def test_first_of_two_bodies_with_one_key_runs_beside_others_and_the_second_does_not(
    stage: Stage,
) -> None:
    stage.declare(exclusive=True)
    records = [
        a_record(Submission("t", payload, idempotency_key=key), f"m{index}", receives=2)
        for index, (payload, key) in enumerate([("A", "k"), ("B", "k"), ("C", "other")])
    ]
    batch = stage.runner.open(records, Context())
    batch.prepare()
    batch.begin()
    wait_until(lambda: batch.has_started(records[0]) and batch.has_started(records[2]), 10)
    assert not batch.has_started(records[1])
    for record in batch.records:
        batch.run(record)
    batch.close()
    assert sorted(str(job.payload) for job in stage.ran) == ["A", "C"]


# ---------------------------------------------------------------- which jobs are claimed together


def die(stage: Stage, *names: str) -> None:
    """Claims jobs by a process that ends before them; a lease later they can be claimed again."""
    for name in names:
        stage.store.claim("acme", name, nonce="died", now_ms=stage.clock(), lease_ms=15_000)
    stage.clock.advance(16)


def together(stage: Stage) -> threading.Barrier:
    """Makes each of the ten jobs wait until all ten run; a job that waits in vain fails."""
    barrier = threading.Barrier(len(NAMES), timeout=10)
    stage.body = lambda job, effects: barrier.wait() and None
    return barrier


def one_at_a_time(stage: Stage) -> list[str]:
    """Makes each job note which jobs run while it does."""
    running, seen = threading.Semaphore(0), []

    def body(job: Job, effects: Any) -> None:
        running.release()
        seen.append(f"{job.id} of {running._value}")
        running.acquire()

    stage.body = body
    return seen


def failed_once(stage: Stage) -> list[Wake]:
    """Makes ten jobs whose first attempt has failed, and is over."""
    messages = submit_all(stage)
    for name in NAMES:
        job = stage.store.claim("acme", name, nonce="first", now_ms=stage.clock(), lease_ms=15_000)
        stage.store.fail(job, error="boom", retry_at_ms=stage.clock(), now_ms=stage.clock())
    return messages


@pytest.mark.parametrize("make", [submit_all, failed_once], ids=["never-run", "second-attempt"])
def test_redelivered_exclusive_jobs_run_in_threads(
    stage: Stage, faults: Faults, make: Callable[[Stage], list[Wake]]
) -> None:
    """Nothing says that they have killed a process: a job that is claimed first leaves a trace."""
    messages = make(stage)
    faults.requests.clear()
    together(stage)
    assert failures(stage.handle(*messages, receives=2)) == []
    assert "BatchExecuteStatement" not in faults.requests
    assert {stage.job(name).status for name in NAMES} == {Status.COMPLETED}


def test_last_attempts_run_in_threads_if_the_worker_trusts_its_tasks(stage: Stage) -> None:
    stage.worker = replace(stage.worker, trusts_last_attempts=True)
    stage.runner = Runner(stage.worker)
    together(stage)
    assert failures(stage.handle(*submit_all(stage, max_attempts=1))) == []
    assert attempts(stage) == [1] * 10


@pytest.mark.parametrize("trusts", [False, True])
def test_job_whose_process_has_died_runs_alone(stage: Stage, trusts: bool) -> None:
    stage.worker = replace(stage.worker, trusts_last_attempts=trusts)
    stage.runner = Runner(stage.worker)
    messages = submit_all(stage, max_attempts=9)
    die(stage, *NAMES)
    ran = one_at_a_time(stage)
    assert failures(stage.handle(*messages, receives=2)) == []
    assert ran == [f"{name} of 1" for name in NAMES]


def test_job_that_killed_a_process_in_an_earlier_attempt_runs_alone(stage: Stage) -> None:
    messages = submit_all(stage, max_attempts=9)
    die(stage, *NAMES)
    for name in NAMES:
        job = stage.store.claim("acme", name, nonce="second", now_ms=stage.clock(), lease_ms=15_000)
        stage.store.fail(job, error="boom", retry_at_ms=stage.clock(), now_ms=stage.clock())
    ran = one_at_a_time(stage)
    assert failures(stage.handle(*messages, receives=3)) == []
    assert ran == [f"{name} of 1" for name in NAMES]


def test_job_whose_interruption_is_left_out_of_its_history_runs_alone(stage: Stage) -> None:
    messages = submit_all(stage, max_attempts=9)
    for name in NAMES:
        key = job_key("acme", name)
        stage.client.update_item(
            TableName=stage.tables["JobsTable"], Key=key,
            UpdateExpression="SET omitted = :counts",
            ExpressionAttributeValues={":counts": {"S": '{"interrupted":1,"failed":7}'}},
        )  # fmt: skip
    ran = one_at_a_time(stage)
    assert failures(stage.handle(*messages, receives=2)) == []
    assert ran == [f"{name} of 1" for name in NAMES]


def test_job_that_is_redriven_after_an_interruption_runs_alone(stage: Stage) -> None:
    messages = submit_all(stage, max_attempts=1)
    die(stage, *NAMES)
    assert failures(stage.handle(*messages, receives=2)) == []  # the last attempt: they are dead
    for name in NAMES:
        stage.operations.redrive("acme", name, now_ms=stage.clock())
    stage.worker = replace(stage.worker, trusts_last_attempts=True)
    stage.runner = Runner(stage.worker)
    ran = one_at_a_time(stage)
    assert failures(stage.handle(*messages)) == []
    assert ran == [f"{name} of 1" for name in NAMES]


# ---------------------------------------------------------------- jobs that must rest


def resting(stage: Stage, rests: Callable[[Job], float]) -> None:
    stage.worker = replace(stage.worker, rest_seconds=lambda job, receives: rests(job))
    stage.runner = Runner(stage.worker)


def test_resting_job_comes_back_later_and_spends_no_attempt(stage: Stage, faults: Faults) -> None:
    messages = submit_all(stage)
    before = stage.job("j3")
    resting(stage, lambda job: 40.0 if job.id == "j3" else 0)
    faults.requests.clear()
    assert failures(stage.handle(*messages)) == ["m3"]
    assert stage.visible.asked[-1] == pytest.approx({"r-m3": 40}, abs=1)
    assert (stage.job("j3"), stage.count(), stage.counted.count("JobRested")) == (before, 9, 1)
    assert faults.requests.count("BatchExecuteStatement") == 1


def test_copies_of_a_resting_job_come_back_together(stage: Stage) -> None:
    stage.submit()
    resting(stage, lambda job: 40.0)
    assert failures(stage.handle(*[Wake("acme", "j1")] * 3)) == ["m0", "m1", "m2"]
    assert (stage.ran, stage.counted) == ([], ["JobRested"])


def test_rest_is_asked_for_again_at_the_turn_of_a_job_that_runs_alone(stage: Stage) -> None:
    """The first one may have found out that the others must rest."""
    messages = submit_all(stage, max_attempts=9)
    die(stage, *NAMES)
    resting(stage, lambda job: 20.0 if stage.ran else 0)
    assert failures(stage.handle(*messages, receives=2)) == [f"m{n}" for n in range(1, 10)]
    assert (attempts(stage), len(stage.ran)) == ([2] + [1] * 9, 1)


def test_rest_depends_on_the_receives_of_the_message(stage: Stage) -> None:
    stage.submit()
    told: list[tuple[str, int]] = []

    def rests(job: Job, receives: int) -> float:
        told.append((job.id, receives))
        return 40.0

    stage.worker = replace(stage.worker, rest_seconds=rests)
    stage.runner = Runner(stage.worker)
    for receives in (1, 7, 200):
        stage.handle(Wake("acme", "j1"), receives=receives)
    assert list(dict.fromkeys(told)) == [("j1", 1), ("j1", 7), ("j1", 200)]


@pytest.mark.parametrize("exclusive", [True, False])
@pytest.mark.parametrize("ending", ["ended", "held", "not due"])
def test_rest_changes_nothing_for_a_job_that_cannot_run_now(
    stage: Stage, exclusive: bool, ending: str
) -> None:
    stage.declare(exclusive=exclusive)
    stage.submit()
    if ending == "ended":
        stage.handle(Wake("acme", "j1"))
    else:
        mine = stage.store.claim("acme", "j1", nonce="x", now_ms=stage.clock(), lease_ms=9_000)
        if ending == "not due":
            at_ms = stage.clock() + 9_000
            stage.store.fail(mine, error="boom", retry_at_ms=at_ms, now_ms=stage.clock())
    resting(stage, lambda job: 500.0)
    stage.handle(Wake("acme", "j1"), receives=2)
    assert "JobRested" not in stage.counted
    if ending != "ended":
        assert stage.visible.asked[-1]["r-m0"] == pytest.approx(10, abs=1)


def test_redelivered_job_runs_after_the_rest_of_its_batch_if_its_process_died(
    stage: Stage,
) -> None:
    for name in ("old", "new1", "new2"):
        stage.submit(id=name)
    die(stage, "old")
    again = stage.handle_records([
        stage._raw(Wake("acme", "old"), "m0", 2), stage._raw(Wake("acme", "new1"), "m1", 1),
        stage._raw(Wake("acme", "new2"), "m2", 1),
    ])  # fmt: skip
    assert failures(again) == []
    assert (sorted(job.id for job in stage.ran[:2]), stage.ran[2].id) == (["new1", "new2"], "old")


def test_redelivered_job_with_the_most_attempts_runs_last(stage: Stage) -> None:
    """The job most likely to kill its process then harms the fewest others."""
    for name, attempts_made in (("twice", 2), ("never", 0), ("once", 1)):
        stage.submit(id=name, max_attempts=5)
        for number in range(attempts_made):
            stage.store.claim(
                "acme", name, nonce=f"died{number}", now_ms=stage.clock(), lease_ms=15_000
            )
            stage.clock.advance(16)
    stage.handle(*(Wake("acme", name) for name in ("twice", "never", "once")), receives=2)
    assert [job.id for job in stage.ran] == ["never", "once", "twice"]


def test_last_attempt_is_not_spent_by_a_claim_in_a_batch(stage: Stage) -> None:
    """The job is claimed when it runs: another job may kill the process before that."""
    stage.submit(id="once", max_attempts=1)
    stage.submit(id="a")
    stage.submit(id="b")
    attempts = []
    stage.body = lambda job, effects: attempts.append(stage.job("once").status)
    stage.handle(Wake("acme", "a"), Wake("acme", "b"), Wake("acme", "once"))
    assert attempts == [Status.QUEUED, Status.QUEUED, Status.INPROGRESS]


def test_job_that_another_worker_holds_is_left_to_it(stage: Stage) -> None:
    messages = submit_all(stage)
    stage.store.claim("acme", "j4", nonce="other", now_ms=stage.clock(), lease_ms=15_000)
    assert failures(stage.handle(*messages)) == ["m4"]
    assert (stage.count(), stage.job("j4").owner, stage.job("j4").attempt) == (9, "other", 1)


def test_job_claimed_between_read_and_claim_is_left_to_its_claimer(
    stage: Stage, embedded: Any
) -> None:
    messages = submit_all(stage)

    def steal(**_: Any) -> None:
        embedded.meta.events.unregister("before-call.dynamodb.BatchExecuteStatement", steal)
        stage.store.claim("acme", "j4", nonce="other", now_ms=stage.clock(), lease_ms=15_000)

    embedded.meta.events.register("before-call.dynamodb.BatchExecuteStatement", steal)
    assert failures(stage.handle(*messages)) == ["m4"]
    assert (stage.count(), stage.job("j4").owner, stage.job("j4").attempt) == (9, "other", 1)
    assert "j4" not in [job.id for job in stage.ran]


def test_job_cancelled_between_read_and_claim_is_not_run(stage: Stage, embedded: Any) -> None:
    messages = submit_all(stage)

    def cancel(**_: Any) -> None:
        embedded.meta.events.unregister("before-call.dynamodb.BatchExecuteStatement", cancel)
        stage.operations.cancel("acme", "j4", now_ms=stage.clock())

    embedded.meta.events.register("before-call.dynamodb.BatchExecuteStatement", cancel)
    assert failures(stage.handle(*messages)) == []
    assert (stage.count(), stage.job("j4").status) == (9, Status.CANCELLED)


def test_claim_on_a_stale_version_is_refused_even_if_the_job_is_queued_again(
    stage: Stage,
) -> None:
    stage.submit()
    stale = stage.job()
    claimed = stage.store.claim("acme", "j1", nonce="other", now_ms=stage.clock(), lease_ms=15_000)
    stage.store.fail(claimed, error="boom", retry_at_ms=stage.clock(), now_ms=stage.clock())
    queued = stage.operations.resend("acme", "j1", now_ms=stage.clock())
    assert queued.status is Status.QUEUED
    assert stage.store.claim_many(
        [Claim(stale, "late")], now_ms=stage.clock(), lease_ms=15_000
    ) == [None]
    assert stage.job() == queued


# ---------------------------------------------------------------- the store fails


@pytest.mark.parametrize("kind", ["before", "after", "throttle", "error"])
@pytest.mark.parametrize(
    "operation", ["BatchGetItem", "BatchExecuteStatement", "TransactWriteItems"]
)
def test_one_failed_call_has_no_effect(
    stage: Stage, faults: Faults, operation: str, kind: str
) -> None:
    messages = submit_all(stage)
    faults.on(operation, kind)
    assert failures(stage.handle(*messages)) == []
    assert (stage.count(), attempts(stage)) == (10, [1] * 10)


@pytest.mark.parametrize("kind", ["before", "after"])
@pytest.mark.parametrize("operation", ["BatchGetItem", "BatchExecuteStatement"])
def test_each_job_is_claimed_alone_if_the_call_for_all_keeps_failing(
    stage: Stage, faults: Faults, operation: str, kind: str
) -> None:
    """A claim whose answer was lost is recognised by its nonce: no attempt is spent twice."""
    messages = submit_all(stage)
    faults.plan = lambda name, number: kind if name == operation else None
    assert failures(stage.handle(*messages)) == []
    assert (stage.count(), attempts(stage)) == (10, [1] * 10)


def test_unprocessed_keys_are_requested_again_and_never_treated_as_absent(
    stage: Stage, embedded: Any
) -> None:
    messages = submit_all(stage)
    table = stage.tables["JobsTable"]
    requests: list[int] = []

    def throttled(parsed: Any, **_: Any) -> None:
        """Leaves some keys unprocessed, as AWS does under load."""
        found = parsed["Responses"][table]
        requests.append(len(found))
        if len(found) > 3:
            left = found[3:]
            parsed["Responses"][table] = found[:3]
            keys = [{"pk": item["pk"], "sk": item["sk"]} for item in left]
            parsed["UnprocessedKeys"] = {table: {"Keys": keys, "ConsistentRead": True}}

    embedded.meta.events.register("after-call.dynamodb.BatchGetItem", throttled)
    assert failures(stage.handle(*messages)) == []
    assert (requests, stage.count()) == ([10, 7, 4, 1], 10)


def test_keys_that_stay_unprocessed_raise_an_error_and_are_not_treated_as_absent(
    stage: Stage, embedded: Any
) -> None:
    stage.submit()
    table = stage.tables["JobsTable"]

    def throttled(parsed: Any, **_: Any) -> None:
        parsed["UnprocessedKeys"] = {
            table: {"Keys": [{"pk": {"S": "acme/j1"}, "sk": {"S": "job"}}], "ConsistentRead": True}
        }
        parsed["Responses"] = {}

    embedded.meta.events.register("after-call.dynamodb.BatchGetItem", throttled)
    with pytest.raises(StoreUnavailable, match="unprocessed in every try"):
        stage.store.read_many([("acme", "j1")])


# ---------------------------------------------------------------- threads, leases and deadlines


class Held:
    """Twelve exclusive jobs: ten run until they are released, and two wait for a thread."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.names = [f"j{number}" for number in range(12)]
        self.let_go = threading.Event()
        stage.body = self._body
        for name in self.names:
            stage.submit(id=name)
        self.records = [
            stage_record(Wake("acme", name), index) for index, name in enumerate(self.names)
        ]
        self.batch = stage.runner.open(self.records, Context())
        self.batch.prepare()
        self.batch.begin()
        wait_until(lambda: len(stage.ran) == 10, 10)
        running = {job.id for job in stage.ran}
        self.waiting = [name for name in self.names if name not in running]

    def _body(self, job: Job, effects: Any) -> None:
        self.let_go.wait(20)
        effects.checkpoint()
        effects.increment("n")

    def finish(self, *, skip: Sequence[str] = ()) -> dict[str, str]:
        """Releases all jobs and runs the batch to its end, except for some.

        Returns the outcome of those that failed.
        """
        self.let_go.set()
        failed = {}
        for record, name in zip(self.records, self.names, strict=True):
            if name not in skip:
                try:
                    self.batch.run(record)
                except MayflyError as failure:
                    failed[name] = type(failure).__name__
        late = self.batch.close()
        return {**failed, **{message: type(failure).__name__ for message, failure in late.items()}}


@pytest.fixture
def held(stage: Stage) -> Held:
    return Held(stage)


def stage_record(message: Wake, index: int) -> Any:
    return a_record(message, f"m{index}")


def test_no_thread_starts_before_the_batch_is_hidden(stage: Stage) -> None:
    """After a crash, the messages return when the lease ends, not after the queue's timeout."""
    messages, order = submit_all(stage), []
    stage.body = lambda job, effects: order.append("run")
    hide = stage.visible.set_visibility

    def slowly(seconds_by_receipt: Any) -> int:
        threading.Event().wait(0.3)  # the queue answers slowly
        order.append("hidden")
        return hide(seconds_by_receipt)

    stage.visible.set_visibility = slowly  # type: ignore[method-assign]  # plays a slow queue
    stage.handle(*messages)
    assert order == ["hidden", *["run"] * 10, "hidden"]


def test_exclusive_jobs_run_in_parallel_and_no_thread_outlives_the_batch(
    stage: Stage, held: Held, faults: Faults
) -> None:
    faults.requests.clear()
    assert held.finish() == {}
    assert (stage.count(), len(stage.ran)) == (12, 12)
    assert faults.requests.count("TransactWriteItems") <= 3
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("job")] == []


def test_heartbeat_renews_running_and_waiting_jobs_in_one_call(
    stage: Stage, held: Held, faults: Faults
) -> None:
    stage.clock.advance(10)
    faults.requests.clear()
    held.batch.beat()
    assert faults.requests == ["BatchExecuteStatement"]
    assert {stage.job(name).lease_until_ms for name in held.names} == {stage.clock() + 15_000}
    assert held.finish() == {}


def test_lease_whose_renewal_is_throttled_is_renewed_by_the_next_heartbeat(
    stage: Stage, held: Held, caplog: pytest.LogCaptureFixture
) -> None:
    """The reply to each statement of a batch has a code of its own."""
    slow, send = f"acme/{held.names[0]}", stage.store.db.execute_many

    def throttled(operation: str, statements: Sequence[Mapping[str, Any]]) -> list[Reason]:
        mine = [statement for statement in statements if {"S": slow} in statement["Parameters"]]
        others = [statement for statement in statements if statement not in mine]
        replies = iter(send(operation, others)) if others else iter(())
        return [
            Reason("ThrottlingError") if statement in mine else next(replies)
            for statement in statements
        ]

    before = stage.job(held.names[0]).lease_until_ms
    stage.clock.advance(5)
    stage.store.db.execute_many = throttled  # type: ignore[method-assign]  # plays a hot partition
    held.batch.beat()
    stage.store.db.execute_many = send  # type: ignore[method-assign]
    assert stage.job(held.names[0]).lease_until_ms == before
    assert stage.job(held.names[1]).lease_until_ms == stage.clock() + 15_000
    assert "a lease was not renewed; the next heartbeat tries again" in caplog.messages
    stage.clock.advance(5)
    held.batch.beat()
    assert {stage.job(name).lease_until_ms for name in held.names} == {stage.clock() + 15_000}
    assert held.finish() == {}
    assert (stage.count(), len(stage.ran)) == (12, 12)


def test_job_that_was_lost_while_it_waited_is_not_run(stage: Stage, held: Held) -> None:
    """A renewal found another owner before the job's turn: its run could not be committed."""
    lost = held.waiting[0]
    stage.clock.advance(16)
    stage.store.claim("acme", lost, nonce="other", now_ms=stage.clock(), lease_ms=15_000)
    held.batch.beat()
    assert held.finish() == {lost: "LeaseHeld"}
    assert (stage.count(), stage.job(lost).owner, lost in [job.id for job in stage.ran]) == (
        11,
        "other",
        False,
    )


def test_job_that_was_lost_while_it_ran_stops_at_its_checkpoint(stage: Stage, held: Held) -> None:
    (lost, *_) = [job.id for job in stage.ran]
    stage.clock.advance(16)
    stage.store.claim("acme", lost, nonce="other", now_ms=stage.clock(), lease_ms=15_000)
    held.batch.beat()
    assert held.finish() == {lost: "LeaseHeld"}
    assert (stage.count(), stage.job(lost).owner) == (11, "other")


def test_jobs_without_time_before_the_deadline_are_released_with_their_attempt(
    stage: Stage, held: Held
) -> None:
    unstarted = [
        record
        for record, name in zip(held.records, held.names, strict=True)
        if name in held.waiting
    ]
    assert [held.batch.has_started(record) for record in unstarted] == [False, False]
    closing = threading.Thread(target=held.batch.close)
    closing.start()
    # Those that run end when close has released the others.
    wait_until(lambda: held.batch._threads is not None and held.batch._threads._shutdown, 5)
    held.let_go.set()
    closing.join()
    assert [
        (stage.job(name).status, stage.job(name).attempt, stage.job(name).history)
        for name in held.waiting
    ] == [(Status.RETRY, 0, ())] * 2
    assert stage.count() == 10
    again = stage.handle(*(Wake("acme", name) for name in held.names), receives=2)
    assert (failures(again), stage.count(), {stage.job(name).attempt for name in held.names}) == (
        [],
        12,
        {1},
    )


def test_records_without_time_before_the_deadline_are_returned_immediately(stage: Stage) -> None:
    stage.declare(exclusive=False)
    messages, context = submit_all(stage), Context(remaining_ms=30_000)

    def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        context._remaining_ms = 1_999 if len(stage.ran) == 4 else 30_000

    stage.body = body
    assert failures(stage.handle(*messages, context=context)) == [
        f"m{number}" for number in range(4, 10)
    ]
    assert (stage.count(), attempts(stage)) == (4, [1] * 4 + [0] * 6)
    assert stage.visible.asked[-1] == {f"r-m{number}": 0 for number in range(4, 10)}


def test_job_claimed_in_a_batch_whose_process_died_runs_again_after_the_lease(
    stage: Stage,
) -> None:
    messages = submit_all(stage)
    claims = [Claim(stage.job(name), f"died-{name}") for name in NAMES]
    assert None not in stage.store.claim_many(claims, now_ms=stage.clock(), lease_ms=15_000)
    stage.clock.advance(15.001)
    assert failures(stage.handle(*messages, receives=2)) == []
    assert (stage.count(), attempts(stage)) == (10, [2] * 10)
    assert [attempt.outcome for attempt in stage.job("j5").history] == [None, Outcome.SUCCEEDED]


@pytest.mark.parametrize("have_died", [False, True], ids=["in threads", "one after another"])
def test_jobs_that_each_take_longer_than_a_lease_run_once(stage: Stage, have_died: bool) -> None:
    """A job behind others is claimed at its turn, so its lease is not over before it starts."""
    names = NAMES[:3]
    for name in names:
        stage.submit(id=name, max_attempts=5)
    if have_died:
        die(stage, *names)
    turn = threading.Lock()

    def body(job: Job, effects: Any) -> None:
        with turn:
            stage.clock.advance(20)
        effects.increment("n")

    stage.body = body
    assert failures(stage.handle(*(Wake("acme", name) for name in names), receives=2)) == []
    assert (sorted(job.id for job in stage.ran), stage.count()) == (names, 3)


# ---------------------------------------------------------------- other jobs of the batch


def test_bad_records_are_returned_alone_and_the_rest_of_the_batch_is_done(stage: Stage) -> None:
    stage.submit(id="bad", max_attempts=3)

    def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        if job.id == "bad":
            raise RuntimeError("boom")
        if job.payload == "never":
            raise Permanent("no")

    stage.body = body
    forged = '{"task": "t", "tenant": "other"}'
    reply = stage.handle(
        Submission("t", 1),
        "not json",
        Submission("t", 2),
        forged,
        Wake("acme", "bad"),
        Submission("t", "never"),
    )
    assert failures(reply) == ["m4"]
    assert stage.visible.asked[-1] == pytest.approx({"r-m4": 1.0}, abs=0.5)
    assert stage.count() == 2
    kept = {
        message.message_id: message.body
        for message in stage.operations.unreadable(now_ms=stage.clock())
    }
    assert kept == {"m1": "not json", "m3": forged}


def test_unreadable_message_that_cannot_be_stored_is_returned(stage: Stage, faults: Faults) -> None:
    faults.plan = lambda operation, number: "before" if operation == "PutItem" else None
    assert failures(stage.handle("not json")) == ["m0"]


def test_copies_of_a_message_that_fails_in_an_unforeseen_way_are_returned_too(stage: Stage) -> None:
    stage.submit()

    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError

    stage.batch = stage.runner.open(
        [stage_record(Wake("acme", "j1"), 0), stage_record(Wake("acme", "j1"), 1)], Context()
    )
    stage.batch._run = broken
    leader, copy = stage.batch.records
    with pytest.raises(ZeroDivisionError):
        stage.batch.run(leader)
    with pytest.raises(LeaseHeld):
        stage.batch.run(copy)
