"""Jobs in the `due` index: sweeps take them out of all shards, tenant by tenant."""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest
from mayfly.aws.dynamodb import AnswerLost, DynamoDB, NoAnswer, Reason, Unwritten
from mayfly.core.errors import StoreUnavailable
from mayfly.jobs.items import job_key, new_items
from mayfly.jobs.model import Job, Status
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.shards import SHARDS, partitions
from mayfly.jobs.store import JobStore

from tests.conftest import make_tables
from tests.support.faults import Faults
from tests.support.jobs import a_job

SOON = 1_800_000_060_000
_TABLES = count()


class Due:
    """A jobs table with due jobs, spread over shards of the index."""

    def __init__(self, client: Any, shards: int) -> None:
        self.client = client
        self.shards = shards
        self.table = make_tables(client, f"due-{next(_TABLES)}-", only=["JobsTable"])["JobsTable"]
        self.operations = JobOperations(JobStore(DynamoDB(client, lambda _: None), self.table))

    def add(self, tenant: str, jobs: int, *, at_ms: int = SOON, shards: int | None = None) -> None:
        """Stores jobs of a tenant that are due one after another, a millisecond apart."""
        puts = []
        for number in range(jobs):
            job = a_job(
                id=f"{number:04}", tenant=tenant, status=Status.SCHEDULED,
                not_before_ms=at_ms + number, created_at_ms=1,
            )  # fmt: skip
            (item,) = new_items(job, due_shards=shards or self.shards)
            puts.append({"PutRequest": {"Item": item}})
        for start in range(0, jobs, 25):
            self.client.batch_write_item(RequestItems={self.table: puts[start : start + 25]})

    def release(self, limit: int = 1000, is_over: Callable[[], bool] = lambda: False) -> int:
        """Releases due jobs."""
        return self.operations.release_due(before_ms=SOON + 10_000, limit=limit, is_over=is_over)

    def waiting(self) -> list[str]:
        """Returns the jobs that are in the index."""
        items = self.client.scan(TableName=self.table)["Items"]
        return sorted(item["pk"]["S"] for item in items if "due" in item)

    def item(self, job_id: str) -> dict[str, Any]:
        """Returns a job of the tenant acme as it is stored."""
        key = job_key("acme", job_id)
        return dict(self.client.get_item(TableName=self.table, Key=key)["Item"])

    def partitions(self) -> set[str]:
        """Returns the partitions of the index that have jobs."""
        items = self.client.scan(TableName=self.table)["Items"]
        return {item["due"]["S"] for item in items if "due" in item}


@pytest.fixture(params=[1, 8], ids="{} shards".format)
def due(request: pytest.FixtureRequest, embedded: Any) -> Due:
    return Due(embedded, request.param)


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


def test_time_with_a_fraction_does_not_hold_up_the_others(due: Due) -> None:
    due.add("acme", 3)
    item = {**due.item("0001"), "attention_at": {"N": "1800000060000.5"}}
    due.client.put_item(TableName=due.table, Item=item)
    assert (due.release(), due.waiting()) == (3, [])


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


class Unread(DynamoDB):
    """Fails the reads of some partitions of the index, from a page on."""

    partitions: Sequence[str] = ()
    pages = 0

    def query(self, operation: str, **request: Any) -> dict[str, Any]:
        """Reads the other partitions."""
        is_page = "ExclusiveStartKey" in request or not self.pages
        if request["ExpressionAttributeValues"][":due"]["S"] in self.partitions and is_page:
            raise Unwritten(operation, "ThrottlingException", tries=1, was_repeated=False)
        return super().query(operation, **request)


class Reads(DynamoDB):
    """Notes the partitions of the index that are read."""

    def __init__(self, client: Any, pause: Callable[[int], None]) -> None:
        super().__init__(client, pause)
        self.partitions: list[str] = []

    def query(self, operation: str, **request: Any) -> dict[str, Any]:
        """Reads, with the client's retries."""
        self.partitions.append(request["ExpressionAttributeValues"][":due"]["S"])
        return super().query(operation, **request)


def test_partition_that_cannot_be_read_does_not_hold_up_the_others(embedded: Any) -> None:
    due = Due(embedded, SHARDS)
    due.add("acme", 100)
    db = Unread(embedded, lambda _: None)
    db.partitions = ["due/3"]
    inside = [f"acme/{n:04}" for n in range(100) if due.item(f"{n:04}")["due"]["S"] == "due/3"]
    operations = JobOperations(JobStore(db, due.table))
    with pytest.raises(StoreUnavailable, match="sweep: partition due/3"):
        operations.release_due(before_ms=SOON + 10_000, limit=1000)
    assert 0 < len(inside) < 100
    assert due.waiting() == inside
    assert (due.release(), due.waiting()) == (len(inside), [])


def test_partitions_that_cannot_be_read_do_not_hold_up_the_only_one_that_can(
    embedded: Any,
) -> None:
    due = Due(embedded, 1)
    due.add("acme", 30)
    db = Unread(embedded, lambda _: None)
    db.partitions = [f"due/{shard}" for shard in range(SHARDS)]
    with pytest.raises(StoreUnavailable):
        JobOperations(JobStore(db, due.table)).release_due(before_ms=SOON + 10_000, limit=1000)
    assert due.waiting() == []


def test_pages_that_were_read_before_a_failure_are_worked_on(embedded: Any) -> None:
    """A page has one megabyte: less than 400 jobs with a long error each."""
    due = Due(embedded, 1)
    for number in range(400):
        job = a_job(
            id=f"{number:04}", status=Status.SCHEDULED, not_before_ms=SOON + number,
            created_at_ms=1, error="x" * 3000,
        )  # fmt: skip
        embedded.put_item(TableName=due.table, Item=new_items(job)[0])
    db = Unread(embedded, lambda _: None)
    db.partitions, db.pages = ["due"], 1
    with pytest.raises(StoreUnavailable):
        JobOperations(JobStore(db, due.table)).release_due(before_ms=SOON + 10_000, limit=1000)
    assert ["due" in due.item(job) for job in ("0000", "0200", "0399")] == [False, False, True]


def test_no_partition_is_begun_after_the_store_was_silent(embedded: Any) -> None:
    """Each would take as long again, and the sweep has other work."""
    due = Due(embedded, SHARDS)
    faults = Faults(embedded, on_moto=False)
    faults.on("Query", "before", times=100)
    db = Reads(embedded, lambda _: None)
    operations = JobOperations(JobStore(db, due.table), threads=1)
    with pytest.raises(NoAnswer, match="sweep: partition due"):
        operations.release_due(before_ms=SOON + 10_000, limit=1000)
    assert db.partitions == ["due"]


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("answer", ["error", "damaged"])
def test_partition_whose_answer_is_an_error_does_not_hold_up_the_others(
    embedded: Any, answer: str, threads: int
) -> None:
    """The store is not silent: another partition may answer."""
    due = Due(embedded, SHARDS)
    due.add("acme", 100)
    due.add("unsharded", 5, shards=1)
    faults = Faults(embedded, on_moto=False)
    faults.on("Query", answer, times=100, text='"due"}')
    db = Reads(embedded, lambda _: None)
    operations = JobOperations(JobStore(db, due.table), threads=threads)
    with pytest.raises(AnswerLost, match="'sweep: partition due'"):
        operations.release_due(before_ms=SOON + 10_000, limit=1000)
    assert sorted(db.partitions) == sorted(partitions("due"))
    assert due.waiting() == [f"unsharded/{number:04}" for number in range(5)]


class Overloaded(DynamoDB):
    """Refuses the writes of one tenant for load."""

    tenant = ""
    tries = 0

    def execute_many(self, operation: str, statements: Sequence[Any]) -> list[Reason]:
        """Executes the statements of other tenants."""
        others = [one for one in statements if not self._is_refused(one["Parameters"][0])]
        replies = iter(super().execute_many(operation, others) if others else [])
        return [
            Reason("ThrottlingError") if self._is_refused(one["Parameters"][0]) else next(replies)
            for one in statements
        ]

    def update(self, operation: str, **request: Any) -> Any:
        """Updates the items of other tenants."""
        if self._is_refused(request["Key"]["pk"]):
            self.tries += 1
            raise Unwritten(operation, "ThrottlingException", tries=1, was_repeated=False)
        return super().update(operation, **request)

    def _is_refused(self, pk: dict[str, str]) -> bool:
        return pk["S"].startswith(f"{self.tenant}/")


def test_tenant_whose_partition_is_overloaded_does_not_hold_up_others(
    due: Due, embedded: Any
) -> None:
    """Its scheduled jobs are in one partition of the index `attention`, with all settings."""
    due.add("flood", 150)
    due.add("quiet", 60, at_ms=SOON + 1000)
    db = Overloaded(embedded, lambda _: None)
    db.tenant = "flood"
    operations = JobOperations(JobStore(db, due.table), threads=2)
    with pytest.raises(StoreUnavailable):
        operations.release_due(before_ms=SOON + 10_000, limit=1000)
    assert due.waiting() == [f"flood/{number:04}" for number in range(150)]
    assert db.tries <= 2
    assert (due.release(), due.waiting()) == (150, [])


@pytest.mark.parametrize("kind", ["before", "after", "throttle", "error"])
@pytest.mark.parametrize("operation", ["Query", "BatchExecuteStatement", "UpdateItem"])
def test_failed_call_is_repeated(due: Due, embedded: Any, operation: str, kind: str) -> None:
    due.add("acme", 51)
    Faults(embedded, on_moto=False).on(operation, kind)
    assert (due.release(), due.waiting()) == (51, [])


def test_sweep_reads_the_partition_of_earlier_releases_next_to_all_shards(due: Due) -> None:
    """Whatever the setting was when a job was stored, and is now."""
    for number, shards in enumerate(range(1, SHARDS + 1)):
        due.add(f"t{shards}", 20, at_ms=SOON + number, shards=shards)
    assert "due" in due.partitions()
    assert due.partitions() == set(partitions("due"))
    assert (due.release(), due.waiting()) == (160, [])


def test_round_takes_the_earliest_of_all_partitions(due: Due) -> None:
    """Jobs of the eight settings take turns, a millisecond apart; the first hundred are taken."""
    for shards in range(1, SHARDS + 1):
        for number in range(20):
            at_ms = SOON + 8 * number + shards
            due.add(f"{19 - number:02}-{shards}", 1, at_ms=at_ms, shards=shards)
    assert due.release(limit=100) == 100
    late = [f"{19 - number:02}-{shards}/0000" for number in range(20) for shards in range(1, 9)][
        100:
    ]
    assert due.waiting() == sorted(late)


def test_megabytes_of_a_partition_are_read_page_by_page(due: Due, embedded: Any) -> None:
    """A page of the index has one megabyte: less than 400 jobs with a long error each."""
    for number in range(400):
        job = a_job(
            id=f"{number:04}", status=Status.SCHEDULED, not_before_ms=SOON + number,
            created_at_ms=1, error="x" * 3000,
        )  # fmt: skip
        due.client.put_item(TableName=due.table, Item=new_items(job)[0])
    faults = Faults(embedded, on_moto=False)
    assert due.release(limit=399) == 399
    assert faults.requests.count("Query") == 2 + SHARDS
    assert (due.release(), due.item("0399").get("due")) == (1, None)


def test_idle_sweep_makes_one_read_for_each_partition(due: Due, embedded: Any) -> None:
    faults = Faults(embedded, on_moto=False)
    due.release()
    assert faults.requests == ["Query"] * (1 + SHARDS)


def test_job_whose_partition_has_changed_since_it_was_read_is_left_to_the_next_sweep(
    due: Due, embedded: Any
) -> None:
    """It has run and waits for its next attempt, in the shard of another setting."""
    due.add("acme", 30)

    def move(**_: Any) -> None:
        embedded.meta.events.unregister("before-call.dynamodb.BatchExecuteStatement", move)
        due.client.put_item(
            TableName=due.table, Item={**due.item("0004"), "due": {"S": f"due/{SHARDS - 1}"}}
        )

    before = due.item("0004")["due"]["S"]
    embedded.meta.events.register("before-call.dynamodb.BatchExecuteStatement", move)
    due.release()
    assert before != f"due/{SHARDS - 1}"
    assert due.waiting() == ["acme/0004"]
    assert (due.release(), due.waiting()) == (1, [])


def test_single_job_whose_partition_has_changed_since_it_was_read_is_left_to_the_next_sweep(
    due: Due, embedded: Any
) -> None:
    """It is taken by a plain write, whose condition names the partition."""
    due.add("acme", 1)

    def move(**_: Any) -> None:
        embedded.meta.events.unregister("before-call.dynamodb.UpdateItem", move)
        due.client.put_item(
            TableName=due.table, Item={**due.item("0000"), "due": {"S": "due/moved"}}
        )

    before = due.item("0000")["due"]["S"]
    embedded.meta.events.register("before-call.dynamodb.UpdateItem", move)
    assert due.release() == 1
    assert before != "due/moved"
    assert due.item("0000")["due"] == {"S": "due/moved"}
