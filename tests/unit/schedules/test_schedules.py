"""Schedules: their ticks, one job for each tick, and changes while sweeps run."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count, islice
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mayfly import schedules
from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.errors import InvalidRequest, PayloadTooLarge, StoreUnavailable
from mayfly.jobs.authoring.task import Declaration
from mayfly.jobs.errors import UnknownTask
from mayfly.jobs.items import read_job
from mayfly.jobs.model import Job, Status
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.store import JobStore
from mayfly.schedules import Definition, Schedule, ScheduleStore
from mayfly.schedules import Deps as ScheduleDeps
from mayfly.schedules.errors import ScheduleBusy, ScheduleNotFound
from mayfly.schedules.rules import hand_out, job_id, ticks_after
from mayfly.schedules.store import StaleWrite
from mayfly.schedules.wire import read_definition

from tests.support.fakes import FixedClock, Names
from tests.support.faults import Faults, Killed

START = 1_800_000_000_000  # 2027-01-15T08:00:00Z
TASKS = {"t": Declaration("t", max_attempts=7)}


def every(seconds: int, **more: Any) -> Definition:
    return read_definition({"every_seconds": seconds, "task": "t", **more})


def cron(expression: str, timezone: str = "UTC") -> Definition:
    return read_definition({"cron": expression, "timezone": timezone, "task": "t"})


def shown(times: Iterator[int], count: int) -> list[str]:
    return [
        datetime.fromtimestamp(tick / 1000, UTC).strftime("%d %H:%M")
        for tick in islice(times, count)
    ]


# ---------------------------------------------------------------- ticks


def test_interval_ticks_in_whole_steps_from_its_anchor() -> None:
    assert list(islice(ticks_after(every(5), START, START), 3)) == [
        START + 5000,
        START + 10_000,
        START + 15_000,
    ]
    assert list(islice(ticks_after(every(5), START, START + 5000), 2)) == [
        START + 10_000,
        START + 15_000,
    ]
    assert list(islice(ticks_after(every(5), START, START + 7001), 1)) == [START + 10_000]


def test_cron_expression_ticks_in_its_time_zone() -> None:
    after = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp() * 1000)
    assert shown(ticks_after(cron("30 9 * * *"), 0, after), 2) == ["01 09:30", "02 09:30"]
    assert shown(ticks_after(cron("30 9 * * *", "Europe/Berlin"), 0, after), 2) == [
        "01 08:30",
        "02 08:30",
    ]


@pytest.mark.parametrize(
    ("expression", "day", "expected"),
    [
        # 29 March 2026, 2:00 becomes 3:00; 25 October 2026, 3:00 becomes 2:00.
        ("30 2 * * *", (2026, 3, 28), ["28 01:30", "29 01:00", "30 00:30"]),
        ("30 2 * * *", (2026, 10, 24), ["24 00:30", "25 00:30", "26 01:30"]),
        ("0 * * * *", (2026, 10, 24), ["23 23:00", "24 00:00", "24 01:00"]),
    ],
)
def test_local_time_that_is_skipped_or_occurs_twice_ticks_once(
    expression: str, day: tuple[int, int, int], expected: list[str]
) -> None:
    after = int(datetime(*day, tzinfo=UTC).timestamp() * 1000) - 3600_000 - 1000
    assert (
        shown(ticks_after(cron(expression, "Europe/Berlin"), 0, after), 3)[: len(expected)]
        == expected
    )


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"task": "t"}, "cron"), ({"task": "t", "cron": "* * * * *", "every_seconds": 5}, "cron"),
        ({"every_seconds": 5}, "task"),
        ({"task": "t", "every_seconds": 0}, "every_seconds"), ({"task": "t", "every_seconds": 1.5},
        "every_seconds"),
        ({"task": "t", "cron": "* * * *"}, "cron"), ({"task": "t", "cron": "* * * * * *"}, "cron"),
        ({"task": "t", "cron": "61 * * * *"}, "cron"),
        ({"task": "t", "cron": "0 0 30 2 *"}, "cron"), ({"task": "t", "cron": "x"}, "cron"),
        ({"task": "t", "cron": "* * * * *", "timezone": "Nowhere"}, "timezone"),
        ({"task": "t", "cron": "* * * * *", "timezone": "../etc"}, "timezone"),
        ({"task": "t", "every_seconds": 5, "timezone": "Europe/Berlin"}, "timezone"),
        ({"task": "t", "every_seconds": 5, "more": 1}, "more"),
        ({"task": "t", "every_seconds": 5, "max_attempts": 21}, "max_attempts"),
    ],
)  # fmt: skip
def test_malformed_definition_is_rejected_by_its_field(body: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_definition(body)
    assert refused.value.field == field


def test_payload_too_large_for_a_job_is_too_large_for_a_schedule() -> None:
    with pytest.raises(PayloadTooLarge):
        every(5, payload="x" * 262_143)


@pytest.mark.parametrize(
    "expression",
    ["9" * 115 + " * * * *", "1," * 60 + "1 * * * *", "*/0 * * * *", "* * * * 1#9", "0 0 L-99 * *"],
)
def test_expression_that_the_library_cannot_handle_is_rejected(expression: str) -> None:
    with pytest.raises(InvalidRequest):
        cron(expression)


@pytest.mark.parametrize(
    "zone",
    ["localtime", "posixrules", "Factory ", "right/UTC", "posix/UTC", "utc0", "/etc/localtime", ""],
)
def test_time_zone_that_other_machines_do_not_have_is_rejected(zone: str) -> None:
    with pytest.raises(InvalidRequest):
        cron("* * * * *", zone)


@pytest.mark.parametrize("expression", ["30 2 * * *", "*/7 * * * *", "0 * * * *", "15 */2 * * *"])
def test_no_tick_is_before_the_requested_moment_in_an_hour_that_occurs_twice(
    expression: str,
) -> None:
    night = int(datetime(2026, 10, 24, 23, tzinfo=UTC).timestamp() * 1000)
    for minute in range(0, 300, 3):
        after = night + minute * 60_000
        first, second = islice(ticks_after(cron(expression, "Europe/Berlin"), 0, after), 2)
        assert after < first < second


def waiting(definition: Definition, next_ms: int) -> Schedule:
    return Schedule("acme", "s", definition, "e", START, next_ms)


def test_ticks_are_created_a_minute_and_a_half_ahead() -> None:
    batch = hand_out(waiting(every(60), START + 60_000), START, 25)
    assert batch is not None
    assert (batch.ticks, batch.missed, batch.next_ms) == ((START + 60_000,), 0, START + 120_000)
    assert hand_out(waiting(every(60), START + 120_000), START, 25) is None


def test_late_ticks_each_get_their_job() -> None:
    batch = hand_out(waiting(every(60), START + 60_000), START + 360_000, 25)
    assert batch is not None
    assert (batch.ticks[0], len(batch.ticks), batch.missed) == (START + 60_000, 7, 0)


@pytest.mark.parametrize("definition", [every(60), cron("* * * * *")])
def test_ticks_missed_in_an_outage_get_one_job_that_states_their_number(
    definition: Definition,
) -> None:
    batch = hand_out(waiting(definition, START + 60_000), START + 3_600_500, 25)
    assert batch is not None
    assert (batch.ticks, batch.missed, batch.next_ms) == (
        (START + 3_600_000,),
        59,
        START + 3_660_000,
    )


def test_missed_ticks_are_counted_up_to_a_thousand() -> None:
    batch = hand_out(waiting(every(1), START + 1000), START + 10**8, 25)
    assert batch is not None
    assert batch.missed == 1000


# ---------------------------------------------------------------- jobs


class StaleIndex(ScheduleStore):
    """A store whose index lists what was due before."""

    def __init__(self, listed: Sequence[tuple[str, str]], db: DynamoDB, table: str) -> None:
        super().__init__(db, table)
        self.listed = listed

    def due(self, *, before_ms: int, limit: int, failed: Any = None) -> Sequence[tuple[str, str]]:
        return self.listed


class Schedules:
    """Schedules on a real store, and the clock that drives them."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.clock = FixedClock(START)
        self.failed: list[str] = []
        db = DynamoDB(client, lambda _: None)
        self.store, self.jobs = ScheduleStore(db, "JobsTable"), JobStore(db, "JobsTable")
        # Transactions of moto do not run at the same time.
        self.schedules = ScheduleDeps(
            self.store, JobOperations(self.jobs), TASKS, self.clock, Names("e"), threads=1
        )

    def define(self, definition: Definition, name: str = "s") -> Schedule:
        return schedules.define(self.schedules, name, definition, tenant="acme")[0]

    def sweep(self) -> int:
        return schedules.hand_out_due(
            self.schedules,
            is_over=lambda: False,
            failed=self.fail,
        )

    def fail(self, tenant: str, name: str, problem: Exception) -> None:
        self.failed.append(name)

    def made(self) -> list[Job]:
        items = self.client.scan(TableName="JobsTable")["Items"]
        return sorted(
            (read_job(item) for item in items if item["sk"]["S"] == "job"),
            key=lambda job: job.tick.at_ms if job.tick else 0,
        )

    def ticks(self, *, alive: bool = True) -> list[float]:
        """Returns the ticks that have jobs which are not cancelled, in seconds from the start."""
        jobs = [job for job in self.made() if job.status is not Status.CANCELLED or not alive]
        return [(job.tick.at_ms - START) / 1000 for job in jobs if job.tick]


@pytest.fixture
def kept(dynamodb: Any) -> Schedules:
    return Schedules(dynamodb)


def test_tick_is_a_job_of_its_own_that_waits_for_its_time(kept: Schedules) -> None:
    kept.define(every(60, payload={"a": 1}, max_attempts=2))
    (job,) = kept.made()
    assert (job.status, job.not_before_ms, job.payload, job.max_attempts) == (
        Status.SCHEDULED,
        START + 60_000,
        {"a": 1},
        2,
    )
    assert job.tick is not None
    assert (job.tick.schedule, job.tick.missed, job.tenant) == ("s", 0, "acme")


def test_attempts_are_taken_from_the_task_if_the_schedule_states_none(kept: Schedules) -> None:
    kept.define(every(60))
    assert kept.made()[0].max_attempts == 7


def test_large_payload_is_stored_next_to_each_of_its_jobs(kept: Schedules) -> None:
    kept.define(every(30, payload="x" * 2000))
    assert kept.ticks() == [30, 60, 90]
    job = kept.made()[0]
    assert kept.jobs.read("acme", job.id, now_ms=START).payload == "x" * 2000


def test_sweeps_create_each_coming_tick_once(kept: Schedules) -> None:
    kept.define(every(10))
    for _ in range(10):
        kept.clock.advance(60)
        kept.sweep()
        kept.sweep()
    assert kept.ticks() == [10 * n for n in range(1, 70)]


def test_two_sweeps_that_read_the_same_schedule_create_its_jobs_once(kept: Schedules) -> None:
    kept.define(every(60))
    kept.clock.advance(60)
    stale = kept.store.read("acme", "s")
    assert kept.sweep() == 1
    with pytest.raises(StaleWrite):
        kept.store.advance(stale, [], made_ms=START + 120_000, next_ms=START + 180_000)


@pytest.mark.parametrize("fate", ["kill", "kill after"])
def test_killed_sweep_has_written_whole_transactions_or_nothing(
    kept: Schedules, faults: Faults, fate: str
) -> None:
    # Each sweep after the first minute has 30 ticks, in two transactions.
    kept.define(every(2))
    kept.clock.advance(60)
    faults.on("TransactWriteItems", fate, skip=1)
    with pytest.raises(Killed):
        kept.sweep()
    faults.on("nothing", "before")
    kept.sweep()
    assert kept.ticks() == list(range(2, 151, 2))


def test_schedule_whose_jobs_cannot_be_created_does_not_delay_the_others(kept: Schedules) -> None:
    kept.define(every(60), "good")
    kept.define(cron("* * * * *", "Europe/Berlin"), "bad")
    key = {"pk": {"S": "acme/schedules"}, "sk": {"S": "schedule/bad"}}
    update = {
        "UpdateExpression": "SET #z = :z",
        "ExpressionAttributeNames": {"#z": "timezone"},
        "ExpressionAttributeValues": {":z": {"S": "Gone/Zone"}},
    }
    kept.client.update_item(TableName="JobsTable", Key=key, **update)
    kept.clock.advance(60)
    assert (kept.sweep(), kept.failed) == (1, ["bad"])


def test_schedule_that_cannot_be_read_does_not_delay_the_others(kept: Schedules) -> None:
    kept.define(every(60), "good")
    kept.define(every(60), "bad")
    key = {"pk": {"S": "acme/schedules"}, "sk": {"S": "schedule/bad"}}
    kept.client.update_item(TableName="JobsTable", Key=key, UpdateExpression="REMOVE edition")
    kept.clock.advance(60)
    assert (kept.sweep(), kept.failed) == (1, ["bad"])


@pytest.mark.parametrize("answer", ["error", "damaged"])
def test_partition_whose_answer_is_an_error_does_not_hold_up_schedules_of_the_others(
    kept: Schedules, faults: Faults, answer: str
) -> None:
    """The store is not silent. Partitions are read one after another, this one first."""
    kept.define(every(60), "unsharded")
    store = ScheduleStore(
        DynamoDB(kept.client, lambda _: None), "JobsTable", due_shards=8, threads=1
    )
    kept.schedules = replace(kept.schedules, store=store)
    kept.define(every(60), "sharded")
    kept.clock.advance(60)
    faults.on("Query", answer, times=100, text='"schedules"}')
    with pytest.raises(StoreUnavailable, match="'sweep schedules: partition schedules'"):
        kept.sweep()
    faults.on("nothing", "before")
    assert (kept.failed, kept.sweep()) == ([], 1)


def test_tenant_with_many_due_schedules_does_not_delay_others(kept: Schedules) -> None:
    """The flood is due first. After a few transactions, the quiet tenant's jobs are made."""
    for number in range(30):
        kept.define(every(60), f"s{number}")
    kept.clock.advance(1)
    schedules.define(kept.schedules, "s", every(60), tenant="quiet")
    kept.clock.advance(60)
    calls = count()
    made = schedules.hand_out_due(
        kept.schedules, is_over=lambda: next(calls) >= 20, failed=lambda *_: None
    )
    assert made < 31
    assert [job for job in kept.made() if job.tenant == "quiet"][1:]


def test_stored_schedule_of_a_form_that_is_refused_by_now_continues(kept: Schedules) -> None:
    kept.define(Definition("t", None, None, "*/90 * * * *", None, "UTC"))
    kept.clock.advance(3600)
    kept.sweep()
    assert kept.ticks() == [3600]


def test_schedule_deleted_while_a_sweep_runs_gets_no_job(kept: Schedules) -> None:
    kept.define(every(60))
    kept.clock.advance(60)
    due = kept.store.due(before_ms=kept.clock() + 90_000, limit=10)
    assert due == [("acme", "s")]
    schedules.delete(kept.schedules, "s", tenant="acme")
    stale = StaleIndex(due, DynamoDB(kept.client, lambda _: None), "JobsTable")
    assert (
        schedules.hand_out_due(
            replace(kept.schedules, store=stale), is_over=lambda: False, failed=kept.fail
        ),
        kept.failed,
    ) == (0, [])


def test_sweep_that_gets_a_conflict_leaves_the_schedule_to_the_other_sweep(
    kept: Schedules, faults: Faults
) -> None:
    kept.define(every(60))
    kept.clock.advance(60)
    faults.on("TransactWriteItems", "conflict", times=9)
    assert (kept.sweep(), kept.failed) == (0, [])
    faults.on("nothing", "before")
    assert kept.sweep() == 1


def test_two_callers_that_create_a_schedule_at_once_create_it_once(kept: Schedules) -> None:
    first = kept.define(every(60))
    with pytest.raises(StaleWrite):
        kept.store.create(first)


def test_large_payload_is_written_tick_by_tick(kept: Schedules, faults: Faults) -> None:
    kept.define(every(30, payload="x" * 2000))
    assert faults.requests.count("TransactWriteItems") == 3
    faults.requests.clear()
    kept.define(every(30), "small")
    assert faults.requests.count("TransactWriteItems") == 1


def test_delete_whose_answer_was_lost_has_deleted(kept: Schedules, faults: Faults) -> None:
    kept.define(every(3600))
    faults.on("DeleteItem", "after")
    schedules.delete(kept.schedules, "s", tenant="acme")
    with pytest.raises(ScheduleNotFound):
        schedules.read(kept.schedules, "s", tenant="acme")


def test_only_jobs_whose_time_has_not_come_are_cancelled_with_their_schedule(
    kept: Schedules,
) -> None:
    kept.define(every(30))
    first, *_ = kept.made()
    kept.jobs.claim("acme", first.id, nonce="w", now_ms=START + 30_000, lease_ms=15_000)
    kept.schedules.operations.cancel_scheduled("acme", first.id, now_ms=START + 30_000)
    assert kept.jobs.read("acme", first.id, now_ms=START).status is Status.INPROGRESS


def test_one_job_makes_up_for_the_ticks_missed_in_an_outage(kept: Schedules) -> None:
    kept.define(every(60))
    kept.clock.advance(3600)
    assert kept.sweep() == 2
    caught_up = kept.made()[-2]
    assert caught_up.tick is not None
    assert (caught_up.tick.at_ms, caught_up.tick.missed, caught_up.status) == (
        START + 3_600_000,
        58,
        Status.QUEUED,
    )


@settings(max_examples=8, deadline=None)
@given(st.data())
def test_every_tick_has_exactly_one_job_whenever_sweeps_run(data: st.DataObject) -> None:
    """Sweeps at any time, twice, and by those who saw an older state, never more than five minutes
    apart.
    """
    from tests.conftest import make_tables
    from tests.support.clients import make_client
    from tests.support.mocked import MockedAws

    with MockedAws():
        client = make_client("dynamodb")
        make_tables(client)
        kept = Schedules(client)
        step = data.draw(st.integers(7, 200))
        kept.define(every(step))
        for _ in range(data.draw(st.integers(1, 6))):
            kept.clock.advance(data.draw(st.integers(1, 290)))
            stale = kept.store.read("acme", "s")
            kept.sweep()
            if data.draw(st.booleans()):
                with (
                    pytest.raises(StaleWrite)
                    if stale != kept.store.read("acme", "s")
                    else _nothing()
                ):
                    schedules.service._hand_out(kept.schedules, stale)
        until = kept.clock() + 90_000
        assert kept.ticks() == [n * step for n in range(1, (until - START) // (step * 1000) + 1)]


def _nothing() -> Any:
    from contextlib import nullcontext

    return nullcontext()


# ---------------------------------------------------------------- changes


def test_same_definition_again_changes_nothing(kept: Schedules) -> None:
    first = kept.define(every(60))
    kept.clock.advance(30)
    assert kept.define(every(60)) == first


def test_new_definition_takes_effect_immediately(kept: Schedules) -> None:
    kept.define(every(30))
    kept.clock.advance(31)
    kept.define(every(45, payload="new"))
    assert kept.ticks() == [30, 31 + 45, 31 + 90]
    assert [job.payload for job in kept.made() if job.status is not Status.CANCELLED] == [
        None,
        "new",
        "new",
    ]


def test_new_definition_may_tick_at_the_times_of_the_old_one(kept: Schedules) -> None:
    kept.define(cron("* * * * *"))
    kept.define(read_definition({"cron": "* * * * *", "task": "t", "payload": "new"}))
    assert [
        (job.status, job.payload) for job in kept.made() if job.status is not Status.CANCELLED
    ] == [(Status.SCHEDULED, "new")]


def test_tick_that_has_begun_is_not_cancelled_by_a_change(kept: Schedules) -> None:
    kept.define(every(30))
    first = kept.made()[0]
    kept.clock.advance(30)
    kept.jobs.claim("acme", first.id, nonce="w", now_ms=kept.clock(), lease_ms=15_000)
    kept.define(every(45))
    assert kept.jobs.read("acme", first.id, now_ms=kept.clock()).status is Status.INPROGRESS


def test_paused_schedule_creates_no_jobs_until_it_is_resumed(kept: Schedules) -> None:
    kept.define(every(30))
    kept.clock.advance(31)
    schedules.pause(kept.schedules, "s", tenant="acme")
    assert kept.ticks() == [30]
    kept.clock.advance(600)
    assert kept.sweep() == 0
    schedules.resume(kept.schedules, "s", tenant="acme")
    assert kept.ticks() == [30, 660, 690, 720]
    assert schedules.resume(kept.schedules, "s", tenant="acme") == kept.store.read("acme", "s")


def test_schedule_resumed_immediately_misses_no_tick(kept: Schedules) -> None:
    kept.define(every(30))
    schedules.pause(kept.schedules, "s", tenant="acme")
    kept.clock.advance(10)
    schedules.resume(kept.schedules, "s", tenant="acme")
    assert kept.ticks() == [30, 60, 90]


def test_paused_schedule_stays_paused_when_it_is_defined_again(kept: Schedules) -> None:
    kept.define(every(30))
    schedules.pause(kept.schedules, "s", tenant="acme")
    assert kept.define(every(45)).next_ms is None
    assert kept.ticks() == []


def test_deleted_schedule_is_gone_with_its_future_ticks(kept: Schedules) -> None:
    kept.define(every(30))
    schedules.delete(kept.schedules, "s", tenant="acme")
    assert (kept.sweep(), kept.ticks()) == (0, [])
    with pytest.raises(ScheduleNotFound):
        schedules.read(kept.schedules, "s", tenant="acme")
    kept.define(every(30))
    assert kept.ticks() == [30, 60, 90]


def test_interrupted_change_is_finished_by_its_retry(kept: Schedules, faults: Faults) -> None:
    kept.define(every(30))
    faults.on("UpdateItem", "kill", skip=1)  # after the hold and the first of three cancellations
    with pytest.raises(Killed):
        kept.define(every(45))
    assert kept.sweep() == 0
    kept.define(every(45))
    assert kept.ticks() == [45, 90]


def test_old_definition_again_resumes_a_schedule_whose_change_was_interrupted(
    kept: Schedules, faults: Faults
) -> None:
    kept.define(every(30))
    faults.on("UpdateItem", "kill", skip=1)
    with pytest.raises(Killed):
        kept.define(every(45))
    kept.define(every(30))
    assert kept.ticks() == [30, 60, 90]


def test_schedule_belongs_to_its_tenant(kept: Schedules) -> None:
    kept.define(every(60))
    for act in (schedules.read, schedules.pause, schedules.resume, schedules.delete):
        with pytest.raises(ScheduleNotFound):
            act(kept.schedules, "s", tenant="other")
    assert kept.store.list("other", limit=10, after=None) == ([], None)
    schedules.define(kept.schedules, "s", every(60), tenant="other")
    assert len({job.id for job in kept.made()}) == 2


def test_unknown_task_is_rejected(kept: Schedules) -> None:
    with pytest.raises(UnknownTask):
        kept.define(read_definition({"every_seconds": 5, "task": "nobody"}))


def test_schedules_are_listed_by_name_page_by_page(kept: Schedules) -> None:
    for name in ("c", "a", "b"):
        kept.define(every(3600), name)
    page, following = kept.store.list("acme", limit=2, after=None)
    assert ([schedule.name for schedule in page], following) == (["a", "b"], "b")
    page, following = kept.store.list("acme", limit=2, after=following)
    assert ([schedule.name for schedule in page], following) == (["c"], None)


def test_change_that_always_gets_a_conflict_raises_an_error(kept: Schedules) -> None:
    kept.define(every(3600))
    read = kept.store.read

    def overtaken(tenant: str, name: str) -> Schedule:
        stale = read(tenant, name)
        kept.store.set(stale, stale)
        return stale

    kept.store.read = overtaken  # type: ignore[method-assign]  # another caller is always faster
    with pytest.raises(ScheduleBusy):
        schedules.pause(kept.schedules, "s", tenant="acme")


def test_id_of_a_ticks_job_is_derived_from_the_tick(kept: Schedules) -> None:
    one = waiting(every(60), START)
    ids = {job_id(one, tick) for tick in (1, 2)} | {
        job_id(Schedule("acme", "s", every(60), edition, START, 0), 1) for edition in ("f", "g")
    }
    assert len(ids) == 4
    assert job_id(one, 1) == job_id(waiting(every(60), START + 1), 1)
