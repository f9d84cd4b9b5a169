"""Jobs in the `due` index: sweeps take them out, tenant by tenant."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest
from mayfly.aws.dynamodb import DynamoDB, Reason
from mayfly.jobs.items import new_items
from mayfly.jobs.model import Job, Status
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.store import JobStore

from tests.conftest import make_tables
from tests.support.faults import Faults
from tests.support.jobs import a_job

SOON = 1_800_000_060_000
_TABLES = count()


class Due:
    """A jobs table with due jobs."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.table = make_tables(client, f"due-{next(_TABLES)}-")["JobsTable"]
        self.operations = JobOperations(JobStore(DynamoDB(client, lambda _: None), self.table))

    def add(self, tenant: str, jobs: int, *, at_ms: int = SOON) -> None:
        """Stores jobs of a tenant that are due one after another, a millisecond apart."""
        for number in range(jobs):
            job = a_job(
                id=f"{number:04}", tenant=tenant, status=Status.SCHEDULED,
                not_before_ms=at_ms + number, created_at_ms=1,
            )  # fmt: skip
            self.client.put_item(TableName=self.table, Item=new_items(job)[0])

    def release(self, limit: int = 1000, is_over: Callable[[], bool] = lambda: False) -> int:
        """Releases due jobs."""
        return self.operations.release_due(before_ms=SOON + 10_000, limit=limit, is_over=is_over)

    def waiting(self) -> list[str]:
        """Returns the jobs that are in the index."""
        items = self.client.scan(TableName=self.table)["Items"]
        return sorted(item["pk"]["S"] for item in items if "due" in item)


@pytest.fixture
def due(embedded: Any) -> Due:
    return Due(embedded)


@pytest.mark.parametrize("jobs", [0, 1, 2, 25, 26, 130])
def test_each_due_job_is_taken_once(due: Due, jobs: int) -> None:
    due.add("acme", jobs)
    due.add("later", 1, at_ms=SOON + 10_000)
    assert (due.release(), due.waiting()) == (jobs, ["later/0000"])
    assert due.release() == 0


def test_released_job_is_unchanged_except_for_its_place(due: Due) -> None:
    due.add("acme", 30)
    before = due.operations.store.read("acme", "0003", now_ms=SOON)
    due.release()
    assert due.operations.store.read("acme", "0003", now_ms=SOON) == before


def test_tenant_with_many_due_jobs_does_not_delay_others(due: Due) -> None:
    """The flood is due first. After a few calls of 25 jobs, the quiet tenant has none left."""
    due.add("flood", 400)
    due.add("quiet", 10, at_ms=SOON + 1000)
    calls = count()
    due.release(is_over=lambda: next(calls) >= 4)
    assert [job for job in due.waiting() if job.startswith("quiet")] == []
    assert len(due.waiting()) >= 300


def test_jobs_left_at_the_deadline_are_taken_by_the_next_sweep(due: Due) -> None:
    due.add("acme", 60)
    calls = count()
    first = due.release(is_over=lambda: next(calls) >= 1)
    assert (first, len(due.waiting())) == (25, 35)
    assert (due.release(), due.waiting()) == (35, [])


def test_round_has_a_limit_and_takes_the_earliest(due: Due) -> None:
    due.add("acme", 40)
    assert due.release(limit=30) == 30
    assert due.waiting() == [f"acme/{number:04}" for number in range(30, 40)]


def test_job_that_was_cancelled_meanwhile_stays_so(due: Due, embedded: Any) -> None:
    due.add("acme", 30)

    def cancel(**_: Any) -> None:
        embedded.meta.events.unregister("before-call.dynamodb.BatchExecuteStatement", cancel)
        due.operations.cancel("acme", "0004", now_ms=SOON)

    embedded.meta.events.register("before-call.dynamodb.BatchExecuteStatement", cancel)
    assert due.release() == 30
    assert due.waiting() == []
    job: Job = due.operations.store.read("acme", "0004", now_ms=SOON)
    assert job.status is Status.CANCELLED


class Refusing(DynamoDB):
    """Refuses the first statement of each call with a code, and does not write it."""

    code = ""

    def execute_many(self, operation: str, statements: Sequence[Any]) -> list[Reason]:
        """Executes all statements but the first."""
        return [Reason(self.code), *super().execute_many(operation, statements[1:])]


@pytest.mark.parametrize("code", ["TransactionConflict", "ThrottlingError"])
def test_job_that_is_refused_for_a_moment_is_taken_alone(
    due: Due, embedded: Any, code: str
) -> None:
    due.add("acme", 30)
    faults = Faults(embedded, on_moto=False)
    db = Refusing(embedded, lambda _: None)
    db.code = code
    released = JobOperations(JobStore(db, due.table)).release_due(
        before_ms=SOON + 10_000, limit=100
    )
    assert (released, due.waiting()) == (30, [])
    assert faults.requests.count("UpdateItem") == 2


@pytest.mark.parametrize("kind", ["before", "after", "throttle", "error"])
@pytest.mark.parametrize("operation", ["Query", "BatchExecuteStatement", "UpdateItem"])
def test_failed_call_is_repeated(due: Due, embedded: Any, operation: str, kind: str) -> None:
    due.add("acme", 51)
    Faults(embedded, on_moto=False).on(operation, kind)
    assert (due.release(), due.waiting()) == (51, [])
