"""Random interleavings of workers, operators, time and faults over one job.

A plain model gives the expected outcome. Every step is one call of the store, so hypothesis draws
the order in which calls reach it. A failure prints the steps that lead to it.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.errors import StoreUnavailable
from mayfly.core.ids import new_nonce
from mayfly.jobs.authoring.effects import Effects
from mayfly.jobs.errors import JobEnded, JobIsLive, StaleWrite
from mayfly.jobs.model import Job, Status
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.store import Claim, ClaimRefused, JobStore

from tests.conftest import make_tables
from tests.support.clients import make_client
from tests.support.completion import complete
from tests.support.counting import Counting
from tests.support.fakes import FixedClock
from tests.support.faults import Faults

STEPS = 24
LEASE_MS, MAX_ATTEMPTS = 15_000, 3
WORKERS = range(3)
#: Faults of the calls of a step: none, one lost answer (the SDK retries), or silence with or
#: without effect.
FAULTS = st.sampled_from([None, None, None, "lost", "silent", "silent after effect"])

_ids = (f"job-{number}" for number in itertools.count())


@dataclass
class Model:
    """A plain model of one job."""

    status: Status = Status.QUEUED
    owner: str | None = None
    lease_until: int = 0
    not_before: int = 0
    attempt: int = 0
    fence: int = 0
    run: int = 1
    counted: int = 0

    def may_claim(self, now: int) -> bool:
        is_waiting = self.status is Status.QUEUED or (
            self.status is Status.RETRY and self.not_before <= now
        )
        return (is_waiting or self.is_abandoned(now)) and self.attempt < MAX_ATTEMPTS

    def is_abandoned(self, now: int) -> bool:
        return self.status is Status.INPROGRESS and self.lease_until < now

    def is_owned_by(self, nonce: str) -> bool:
        return self.status is Status.INPROGRESS and self.owner == nonce

    def claim(self, nonce: str, now: int) -> None:
        self.status, self.owner, self.lease_until = Status.INPROGRESS, nonce, now + LEASE_MS
        self.attempt += 1
        self.fence += 1


class Interleavings(RuleBasedStateMachine):
    """Three workers, an operator and a clock. `world` is set by the test."""

    world: tuple[Any, dict[str, str], Faults]

    @initialize()
    def begin(self) -> None:
        client, tables, self.faults = self.world
        self.faults.plan = lambda operation, number: None
        db = DynamoDB(client, lambda attempt: None)
        self.store = JobStore(db, tables["JobsTable"])
        self.operations = JobOperations(self.store)
        self.counters = Counting(client, client, tables["CountersTable"])
        self.tables = tables
        self.id = next(_ids)
        self.clock = FixedClock()
        self.model = Model()
        self.held: dict[int, Job] = {}
        job = Job(
            self.id,
            "acme",
            "t",
            None,
            Status.QUEUED,
            MAX_ATTEMPTS,
            created_at_ms=self.clock(),
            fingerprint="f",
        )
        self.store.create(job)

    # ------------------------------------------------------------ workers

    @rule(worker=st.sampled_from(WORKERS), fault=FAULTS)
    def claim(self, worker: int, fault: str | None) -> None:
        """Claims the job alone, when its turn comes."""
        nonce = new_nonce()
        may = self.model.may_claim(self.clock())

        def call() -> None:
            self.held[worker] = self.store.claim(
                "acme", self.id, nonce=nonce, now_ms=self.clock(), lease_ms=LEASE_MS
            )

        self.step(fault, call, may, ClaimRefused, lambda: self.model.claim(nonce, self.clock()))

    @rule(worker=st.sampled_from(WORKERS), fault=FAULTS)
    def claim_as_seen(self, worker: int, fault: str | None) -> None:
        """Claims the job with others, in the version that was read before."""
        seen = self.store.read("acme", self.id, now_ms=self.clock())
        if seen.status is not Status.QUEUED:
            return
        nonce = new_nonce()

        def call() -> None:
            (found,) = self.store.claim_many(
                [Claim(seen, nonce)], now_ms=self.clock(), lease_ms=LEASE_MS
            )
            assert found is not None
            self.held[worker] = found

        self.step(fault, call, True, AssertionError, lambda: self.model.claim(nonce, self.clock()))

    @precondition(lambda self: self.held)
    @rule(data=st.data(), fault=FAULTS, adds=st.booleans())
    def commit(self, data: Any, fault: str | None, adds: bool) -> None:
        job = self.drop(data)
        effects = Effects(
            "acme",
            counters_table=self.tables["CountersTable"],
            serialize=dict,
            follow_up=lambda *_: [],
            checkpoint=lambda *_: None,
            seconds_left=lambda: 60.0,
            clock=FixedClock(),
        )
        if adds:
            effects.increment(self.id)

        def done() -> None:
            self.model.status = Status.COMPLETED
            self.model.counted += adds

        self.step(
            fault,
            lambda: complete(
                self.store, job, result="1", effects=effects.collected(), now_ms=self.clock()
            ),
            self.model.is_owned_by(job.owner or ""),
            StaleWrite,
            done,
        )

    @precondition(lambda self: self.held)
    @rule(data=st.data(), fault=FAULTS, pause=st.integers(0, 20))
    def release(self, data: Any, fault: str | None, pause: int) -> None:
        job = self.drop(data)
        is_final = job.attempt >= MAX_ATTEMPTS
        retry_at = self.clock() + pause * 1000

        def done() -> None:
            self.model.status = Status.DEAD if is_final else Status.RETRY
            self.model.not_before = retry_at

        self.step(
            fault,
            lambda: self.store.fail(
                job, error="boom", retry_at_ms=None if is_final else retry_at, now_ms=self.clock()
            ),
            self.model.is_owned_by(job.owner or ""),
            StaleWrite,
            done,
        )

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def release_unstarted(self, data: Any) -> None:
        job = self.drop(data)

        def done() -> None:
            self.model.status, self.model.not_before = Status.RETRY, self.clock()
            self.model.attempt -= 1

        call = lambda: self.store.release(job, now_ms=self.clock())  # noqa: E731
        self.step(None, call, self.model.is_owned_by(job.owner or ""), StaleWrite, done)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), fault=FAULTS)
    def renew(self, data: Any, fault: str | None) -> None:
        job = self.held[data.draw(st.sampled_from(sorted(self.held)))]

        def call() -> None:
            (lost,) = self.store.renew([job], now_ms=self.clock(), lease_ms=LEASE_MS)
            if lost:
                raise lost

        def done() -> None:
            self.model.lease_until = self.clock() + LEASE_MS

        self.step(fault, call, self.model.is_owned_by(job.owner or ""), StaleWrite, done)

    @rule()
    def bury(self) -> None:
        """Buries the job, as a claim does that finds the attempts used up."""
        job = self.store.read("acme", self.id, now_ms=self.clock())
        if self.model.is_abandoned(self.clock()) and job.attempt >= MAX_ATTEMPTS:
            self.store.bury(job, now_ms=self.clock())
            self.model.status = Status.DEAD

    # ------------------------------------------------------------ operators and time

    @rule(fault=st.sampled_from([None, "lost"]))
    def cancel(self, fault: str | None) -> None:
        is_open = self.model.status not in (Status.COMPLETED, Status.DEAD)

        def done() -> None:
            self.model.status = Status.CANCELLED

        self.step(
            fault,
            lambda: self.operations.cancel("acme", self.id, now_ms=self.clock()),
            is_open,
            JobEnded,
            done,
        )

    @rule()
    def redrive(self) -> None:
        def done() -> None:
            self.model.status, self.model.attempt = Status.QUEUED, 0
            self.model.run += 1

        call = lambda: self.operations.redrive("acme", self.id, now_ms=self.clock())  # noqa: E731
        self.step(None, call, self.model.status is Status.DEAD, JobEnded, done)

    @rule()
    def resend(self) -> None:
        now, model = self.clock(), self.model
        is_live = (model.status is Status.RETRY and model.not_before > now) or (
            model.status is Status.INPROGRESS and not model.lease_until <= now
        )
        is_over = model.status in (Status.COMPLETED, Status.DEAD, Status.CANCELLED)

        def done() -> None:
            if model.status is Status.INPROGRESS and model.attempt >= MAX_ATTEMPTS:
                model.status = Status.DEAD
            else:
                model.status = Status.QUEUED

        call = lambda: self.operations.resend("acme", self.id, now_ms=now)  # noqa: E731
        self.step(None, call, not is_live and not is_over, (JobIsLive, JobEnded), done)

    @rule(seconds=st.sampled_from([1, 5, 16, 40]))
    def time_passes(self, seconds: int) -> None:
        self.clock.advance(seconds)

    # ------------------------------------------------------------ invariants after every step

    @invariant()
    def the_record_is_as_the_model_says(self) -> None:
        found = self.store.read("acme", self.id, now_ms=self.clock())
        assert (found.status, found.attempt, found.fence, found.run) == (
            self.model.status,
            self.model.attempt,
            self.model.fence,
            self.model.run,
        )

    @invariant()
    def an_effect_is_applied_once_if_its_job_succeeded_and_not_at_all_otherwise(self) -> None:
        assert (
            self.counters.read("acme", self.id)
            == self.model.counted
            <= (self.model.status is Status.COMPLETED)
        )

    # ------------------------------------------------------------ how a step runs

    def drop(self, data: Any) -> Job:
        return self.held.pop(data.draw(st.sampled_from(sorted(self.held))))

    def step(
        self,
        fault: str | None,
        call: Callable[[], Any],
        may: bool,
        refusal: Any,
        done: Callable[[], None],
    ) -> None:
        """Makes a call under a fault.

        Changes the model as the call must have changed the job.
        """
        writes = ("UpdateItem", "TransactWriteItems", "BatchExecuteStatement")
        kinds = {"lost": "after", "silent": "before", "silent after effect": "after"}
        left = [1 if fault == "lost" else 99]

        def plan(operation: str, number: int) -> str | None:
            if fault is None or operation not in writes or not left[0]:
                return None
            left[0] -= 1
            return kinds[fault]

        self.faults.plan = plan
        try:
            call()
            assert may
            assert fault in (None, "lost")
            done()
        except StoreUnavailable:
            assert fault in ("silent", "silent after effect")
            if may and fault == "silent after effect":
                done()
        except refusal:
            assert not may
        finally:
            self.faults.plan = lambda operation, number: None


@pytest.mark.timeout(900)
def test_no_interleaving_breaks_the_rules_of_a_job(embedded: Any, searches: int) -> None:
    client = make_client("dynamodb")
    Interleavings.world = (
        client,
        make_tables(client, "interleavings-"),
        Faults(client, on_moto=False),
    )
    run_state_machine_as_test(
        Interleavings,
        settings=settings(
            max_examples=searches,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
