"""The shards of the `due` index: which one an item is in, and that every way into it uses it."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from mayfly import resources, schedules
from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.errors import ConfigError
from mayfly.jobs.authoring.task import Declaration
from mayfly.jobs.items import job_key
from mayfly.jobs.lifecycle import claimed
from mayfly.jobs.model import Status
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.shards import SHARDS, partition, partitions
from mayfly.jobs.store import JobStore
from mayfly.schedules import Deps as ScheduleDeps
from mayfly.schedules import Schedule, ScheduleStore
from mayfly.schedules.items import schedule_key
from mayfly.schedules.wire import read_definition

from tests.support.fakes import FixedClock, Names
from tests.support.jobs import LEASE, NOW, a_job, claim
from tests.support.stage import Stage

FAR = NOW + 86_400_000
TASKS = {"t": Declaration("t")}


@pytest.mark.parametrize(
    ("job_id", "shards", "expected"),
    [
        ("a", 1, "due"),
        ("b", 1, "due"),
        ("a", 2, "due/1"),
        ("b", 2, "due/1"),
        ("a", 8, "due/3"),
        ("b", 8, "due/3"),
    ],
)
def test_partition_of_a_job_is_the_same_for_ever(job_id: str, shards: int, expected: str) -> None:
    assert partition("due", job_key("acme", job_id), shards) == expected


@pytest.mark.parametrize("shards", range(1, SHARDS + 1))
def test_partitions_are_read_and_have_like_numbers_of_jobs(shards: int) -> None:
    jobs = Counter(
        partition("due", job_key("acme", f"{number:032x}"), shards) for number in range(8000)
    )
    assert set(jobs) <= set(partitions("due"))
    assert len(jobs) == shards
    assert max(jobs.values()) <= 1.2 * 8000 / shards


def _created(store: JobStore) -> None:
    store.create(a_job(status=Status.SCHEDULED, not_before_ms=FAR))


def _created_large(store: JobStore) -> None:
    store.create(a_job(status=Status.SCHEDULED, not_before_ms=FAR, payload="x" * 2000))


def _failed(store: JobStore) -> None:
    store.create(a_job())
    store.fail(claim(store), error="no", retry_at_ms=FAR, now_ms=NOW)


def _failed_unclaimed(store: JobStore) -> None:
    store.create(a_job())
    _fail_unclaimed(store, is_new=False)


def _failed_unclaimed_and_new(store: JobStore) -> None:
    _fail_unclaimed(store, is_new=True)


def _fail_unclaimed(store: JobStore, *, is_new: bool) -> None:
    mine = claimed(a_job(), nonce="w1", now_ms=NOW, lease_ms=LEASE)
    store.fail_unclaimed(a_job(), mine, is_new=is_new, error="no", retry_at_ms=FAR, now_ms=NOW)


WAYS: dict[str, Callable[[JobStore], None]] = {
    "submitted": _created,
    "submitted with a large payload": _created_large,
    "failed": _failed,
    "failed without a claim": _failed_unclaimed,
    "failed without a claim, of a message": _failed_unclaimed_and_new,
}


@pytest.mark.parametrize("shards", [1, SHARDS])
@pytest.mark.parametrize("way", WAYS)
def test_job_for_later_is_stored_in_its_shard(dynamodb: Any, way: str, shards: int) -> None:
    store = JobStore(DynamoDB(dynamodb, lambda _: None), "JobsTable", due_shards=shards)
    WAYS[way](store)
    item = dynamodb.get_item(TableName="JobsTable", Key=job_key("acme", "j1"))["Item"]
    assert item["due"]["S"] == partition("due", job_key("acme", "j1"), shards)
    assert JobOperations(store).release_due(before_ms=FAR + 1, limit=10) == 1


@pytest.mark.parametrize("shards", [1, SHARDS])
def test_follow_up_for_later_is_stored_in_its_shard(dynamodb: Any, shards: int) -> None:
    stage = Stage(dynamodb, due_shards=shards)
    stage.body = lambda job, effects: effects.submit("t", delay_seconds=86_400)
    stage.submit()
    stage.run()
    (item,) = [
        item for item in dynamodb.scan(TableName="JobsTable")["Items"] if item["id"]["S"] != "j1"
    ]
    assert item["due"]["S"] == partition("due", {"pk": item["pk"], "sk": item["sk"]}, shards)


class Schedules:
    """Schedules over a number of shards, in one table."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.clock = FixedClock(NOW)

    def of(self, shards: int) -> ScheduleDeps:
        """Returns the dependencies of functions whose setting is `shards`."""
        db = DynamoDB(self.client, lambda _: None)
        store = ScheduleStore(db, "JobsTable", due_shards=shards, threads=1)
        operations = JobOperations(JobStore(db, "JobsTable"))
        # Transactions of moto do not run at the same time.
        return ScheduleDeps(store, operations, TASKS, self.clock, Names("e"), threads=1)

    def partitions(self) -> dict[str, str]:
        """Returns the partitions of the index by schedules."""
        items = self.client.scan(TableName="JobsTable")["Items"]
        return {item["name"]["S"]: item["due"]["S"] for item in items if "edition" in item}


@pytest.fixture
def kept(dynamodb: Any) -> Schedules:
    return Schedules(dynamodb)


def every(seconds: int) -> Any:
    return read_definition({"every_seconds": seconds, "task": "t"})


@pytest.mark.parametrize("now", [1, 3, SHARDS])
def test_sweep_makes_the_jobs_of_schedules_of_every_setting(kept: Schedules, now: int) -> None:
    names = [f"s{shards}-{number}" for shards in (1, 3, SHARDS) for number in range(5)]
    for name in names:
        shards = int(name[1])
        schedules.define(kept.of(shards), name, every(60), tenant="acme")
    assert len(set(kept.partitions().values())) >= 5
    kept.clock.advance(60)
    made = schedules.hand_out_due(kept.of(now), is_over=lambda: False, failed=lambda *_: None)
    assert made == len(names)


def test_schedules_are_listed_by_their_time_over_all_shards(kept: Schedules) -> None:
    for number in range(12):
        schedules.define(
            kept.of(1 + number % 3 * 3), f"s{number:02}", every(1000 + number), tenant="acme"
        )
    due = kept.of(1).store.due(before_ms=NOW + 1_009_000, limit=100)
    assert due == [("acme", f"s{number:02}") for number in range(10)]
    assert list(due[:4]) == kept.of(1).store.due(before_ms=NOW + 1_009_000, limit=4)


def test_changed_schedule_moves_to_the_shard_of_the_setting(kept: Schedules) -> None:
    schedules.define(kept.of(1), "s", every(60), tenant="acme")
    before = kept.partitions()
    schedules.define(kept.of(SHARDS), "s", every(120), tenant="acme")
    assert before == {"s": "schedules"}
    assert kept.partitions()["s"].startswith("schedules/")
    schedules.pause(kept.of(SHARDS), "s", tenant="acme")
    assert kept.of(1).store.due(before_ms=NOW + 10**9, limit=9) == []


@pytest.mark.parametrize("setting", ["0", "9", "-1", "two"])
def test_setting_that_is_not_a_number_of_shards_is_an_error_at_start(setting: str) -> None:
    with pytest.raises(ConfigError, match="DUE_SHARDS"):
        resources.job_store({"JOBS_TABLE": "JobsTable", "DUE_SHARDS": setting})


@pytest.mark.parametrize(("setting", "expected"), [({}, 1), ({"DUE_SHARDS": "8"}, 8)])
def test_stores_of_functions_have_the_setting(
    dynamodb: Any, setting: dict[str, str], expected: int
) -> None:
    store = resources.job_store(
        {"JOBS_TABLE": "JobsTable", **setting}, DynamoDB(dynamodb, lambda _: None)
    )
    assert store.due_shards == expected
    deps = resources.schedules(JobOperations(store), TASKS)
    deps.store.create(a_schedule())
    key = schedule_key("acme", "s")
    item = dynamodb.get_item(TableName="JobsTable", Key=key)["Item"]
    assert item["due"]["S"] == partition("schedules", key, expected)


def a_schedule() -> Schedule:
    """Returns an active schedule."""
    return Schedule("acme", "s", every(60), "e1", NOW, NOW + 60_000)
