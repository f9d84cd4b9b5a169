"""Schedules: jobs by the clock, one for each tick, whatever runs twice or late."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from mayfly.core.clock import Clock
from mayfly.core.errors import StoreUnavailable
from mayfly.jobs.authoring.task import Declaration
from mayfly.jobs.errors import JobNotFound, UnknownTask
from mayfly.jobs.model import Delay, Job, Submission, Tick
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.rules import is_inline, new_job
from mayfly.schedules.errors import ScheduleBusy, ScheduleNotFound
from mayfly.schedules.model import Definition, HandOut, Schedule
from mayfly.schedules.rules import (
    AHEAD_MS,
    first_tick,
    hand_out,
    handed_out_after,
    job_id,
)
from mayfly.schedules.store import ScheduleStore, StaleWrite

__all__ = ["Keeper", "define", "delete", "hand_out_due", "pause", "read", "resume"]

#: Ticks of one transaction, which has room for a hundred items and 4 MB.
_TICKS = 25
_TRIES = 4


@dataclass(frozen=True)
class Keeper:
    """What it takes to keep schedules.

    `tasks` are those that there are; `new_edition()` names a definition like no other.
    """

    store: ScheduleStore
    operations: JobOperations
    tasks: Mapping[str, Declaration]
    clock: Clock
    new_edition: Callable[[], str]


def read(keeper: Keeper, name: str, *, tenant: str) -> Schedule:
    """A schedule of this tenant. Raises ScheduleNotFound, StoreUnavailable."""
    return keeper.store.read(tenant, name)


def define(
    keeper: Keeper, name: str, definition: Definition, *, tenant: str
) -> tuple[Schedule, bool]:
    """Makes a schedule of this tenant be as defined, and says whether it is new. What is as defined
    already is left as it is.

    Another definition counts from now on: jobs of ticks to come that were made for the one before
    are cancelled. One that is paused stays paused. Raises UnknownTask, ScheduleBusy,
    StoreUnavailable (it may stand still then: repeat it).
    """
    if definition.task not in keeper.tasks:
        raise UnknownTask(definition.task, list(keeper.tasks))
    for _ in range(_TRIES):
        now_ms = keeper.clock()
        with suppress(StaleWrite):
            try:
                seen = keeper.store.read(tenant, name)
            except ScheduleNotFound:
                made = _started(
                    keeper, Schedule(tenant, name, definition, keeper.new_edition(), now_ms, None)
                )
                keeper.store.create(made)
                return _first_hand_out(keeper, made), True
            is_still = (
                seen.next_ms is None and not seen.is_paused
            )  # a change was cut short: it is finished now
            if seen.definition == definition and not is_still:
                return seen, False
            held = _hold(keeper, seen)
            changed = replace(
                held,
                definition=definition,
                edition=keeper.new_edition(),
                anchor_ms=now_ms,
                made_ms=0,
            )
            return _set_going(keeper, held, changed), False
    raise ScheduleBusy(name)


def pause(keeper: Keeper, name: str, *, tenant: str) -> Schedule:
    """Lets a schedule make no more jobs; those of ticks to come are cancelled.

    Raises ScheduleNotFound, ScheduleBusy, StoreUnavailable.
    """
    for _ in range(_TRIES):
        with suppress(StaleWrite):
            seen = keeper.store.read(tenant, name)
            return _hold(keeper, seen, is_paused=True)
    raise ScheduleBusy(name)


def resume(keeper: Keeper, name: str, *, tenant: str) -> Schedule:
    """Lets a paused schedule go on, with the first tick from now; those in between are not made up
    for.

    Raises ScheduleNotFound, ScheduleBusy, StoreUnavailable.
    """
    for _ in range(_TRIES):
        with suppress(StaleWrite):
            seen = keeper.store.read(tenant, name)
            if seen.next_ms is not None:
                return seen
            held = _hold(keeper, seen)
            return _set_going(
                keeper,
                held,
                replace(held, is_paused=False, edition=keeper.new_edition(), made_ms=0),
            )
    raise ScheduleBusy(name)


def delete(keeper: Keeper, name: str, *, tenant: str) -> None:
    """Ends a schedule; jobs of ticks to come are cancelled, those that run go on. Raises
    ScheduleNotFound, ScheduleBusy, StoreUnavailable."""
    for _ in range(_TRIES):
        with suppress(StaleWrite):
            keeper.store.delete(_hold(keeper, keeper.store.read(tenant, name)))
            return
    raise ScheduleBusy(name)


def hand_out_due(
    keeper: Keeper, *, is_over: Callable[[], bool], failed: Callable[[Schedule, Exception], None]
) -> int:
    """Makes the jobs of all ticks that come soon, or have passed, of all tenants; returns how many.
    Stops when `is_over()`.

    Several at once do no harm: of two that make the same jobs, one is refused. A schedule whose
    jobs cannot be made is told to `failed`, and keeps none of the others back. Raises
    StoreUnavailable where not even the list can be read.
    """
    made = 0
    for found in keeper.store.due(before_ms=keeper.clock() + AHEAD_MS):
        if is_over():
            break
        try:
            with suppress(StaleWrite):  # somebody else is at it, or the index was behind
                made += _hand_out(keeper, found, is_over)[1]
        except (
            StoreUnavailable,
            ArithmeticError,
            LookupError,
            ValueError,
        ) as problem:  # a time zone that is gone, for one
            failed(found, problem)
    return made


def _hand_out(
    keeper: Keeper, schedule: Schedule, is_over: Callable[[], bool] = lambda: False
) -> tuple[Schedule, int]:
    made, limit = 0, _TICKS if is_inline(schedule.definition.payload) else 1
    while (
        (now_ms := keeper.clock())
        and (found := hand_out(schedule, now_ms, limit))
        and not is_over()
    ):
        jobs = _jobs(keeper, schedule, found, now_ms)
        schedule = keeper.store.advance(
            schedule, jobs, made_ms=found.ticks[-1], next_ms=found.next_ms
        )
        made += len(jobs)
    return schedule, made


def _jobs(keeper: Keeper, schedule: Schedule, found: HandOut, now_ms: int) -> list[Job]:
    wanted, jobs = schedule.definition, []
    for index, tick in enumerate(found.ticks):
        submission = Submission(
            wanted.task, wanted.payload, wanted.max_attempts, not_before=Delay(at_ms=tick)
        )
        job = new_job(
            schedule.tenant,
            job_id(schedule, tick),
            submission,
            keeper.tasks.get(wanted.task),
            now_ms=now_ms,
        )
        jobs.append(replace(job, tick=Tick(schedule.name, tick, found.missed if index == 0 else 0)))
    return jobs


def _hold(keeper: Keeper, seen: Schedule, *, is_paused: bool | None = None) -> Schedule:
    """Stops a schedule, and then cancels the jobs that were made ahead and have not begun. What has
    begun is let run.

    The schedule's own write comes first: no sweep makes another job after it. Cut short, it is done
    again by whoever repeats the change.
    """
    wanted = replace(
        seen, next_ms=None, is_paused=seen.is_paused if is_paused is None else is_paused
    )
    held = seen if wanted == seen else keeper.store.set(seen, wanted)
    for tick in handed_out_after(held, keeper.clock()):
        with suppress(JobNotFound):
            keeper.operations.cancel_scheduled(
                held.tenant, job_id(held, tick), now_ms=keeper.clock()
            )
    return held


def _set_going(keeper: Keeper, held: Schedule, target: Schedule) -> Schedule:
    return _first_hand_out(keeper, keeper.store.set(held, _started(keeper, target)))


def _first_hand_out(keeper: Keeper, schedule: Schedule) -> Schedule:
    """Makes the first jobs of a schedule that was just set going: the next sweep may be a minute
    away.
    """
    try:
        return _hand_out(keeper, schedule)[0]
    except StaleWrite:  # a sweep was quicker
        return keeper.store.read(schedule.tenant, schedule.name)


def _started(keeper: Keeper, schedule: Schedule) -> Schedule:
    """A schedule with its first tick from now, unless it is paused."""
    first = first_tick(schedule.definition, schedule.anchor_ms, keeper.clock())
    return replace(schedule, next_ms=None if schedule.is_paused else first)
