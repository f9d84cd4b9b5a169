"""Operations of an application and of the sweep on schedules."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from mayfly.core.clock import Clock
from mayfly.core.errors import StoreUnavailable
from mayfly.core.turns import in_turns, work_off
from mayfly.jobs.authoring.task import Declaration
from mayfly.jobs.errors import JobNotFound, UnknownTask
from mayfly.jobs.model import Delay, Job, Submission, Tick
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.rules import describe, is_inline, new_job
from mayfly.schedules.errors import ScheduleBusy, ScheduleNotFound, ScheduleUnusable
from mayfly.schedules.model import Definition, HandOut, Schedule
from mayfly.schedules.rules import (
    AHEAD_MS,
    UNUSABLE,
    first_tick,
    hand_out,
    handed_out_after,
    job_id,
)
from mayfly.schedules.store import ScheduleStore, StaleWrite

__all__ = [
    "Deps", "define", "delete", "hand_out_due", "list_by_name", "pause", "read", "resume",
]  # fmt: skip

#: Ticks of one transaction, which has room for a hundred items and 4 MB.
_TICKS = 25
_TRIES = 4
#: Schedules that a sweep reads the names of: some 20 MB of its memory.
_READ = 50_000
#: Errors of a schedule that a sweep reports, and that do not end it.
_REPORTED = (StoreUnavailable, ScheduleUnusable, *UNUSABLE)


@dataclass(frozen=True)
class Deps:
    """Dependencies of schedules.

    `tasks` are the tasks that exist; `new_edition()` draws a new name for a definition. A sweep
    sends transactions in several `threads`.
    """

    store: ScheduleStore
    operations: JobOperations
    tasks: Mapping[str, Declaration]
    clock: Clock
    new_edition: Callable[[], str]
    threads: int = 4


def read(deps: Deps, name: str, *, tenant: str) -> Schedule:
    """Returns a schedule of this tenant. It has an `error` if its record cannot be read.

    Raises ScheduleNotFound, StoreUnavailable.
    """
    return deps.store.read(tenant, name)


def list_by_name(
    deps: Deps, *, tenant: str, limit: int, after: str | None = None
) -> tuple[list[Schedule], str | None]:
    """Returns up to `limit` of a tenant's schedules after the name `after`.

    Also returns the name after which the next page begins, None at the end. A schedule whose record
    cannot be read has an `error`. Raises StoreUnavailable.
    """
    return deps.store.list(tenant, limit=limit, after=after)


def define(deps: Deps, name: str, definition: Definition, *, tenant: str) -> tuple[Schedule, bool]:
    """Makes or changes a schedule of this tenant; returns it, and True if it is new.

    A schedule that has this definition already is left unchanged. A changed definition counts from
    now on: jobs of future ticks that were made for the old one are cancelled. A paused schedule
    stays paused. A schedule whose record cannot be read is replaced.

    Raises UnknownTask, PayloadMismatch, ScheduleBusy, StoreUnavailable, and ScheduleUnusable if the
    definition has no ticks; then nothing is written. After StoreUnavailable the
    schedule may be stopped; repeat the call to restart it.
    """
    if definition.task not in deps.tasks:
        raise UnknownTask(definition.task, list(deps.tasks))
    deps.tasks[definition.task].check_payload(definition.payload)
    for _ in range(_TRIES):
        now_ms = deps.clock()
        _check_ticks(name, definition, now_ms)
        with suppress(StaleWrite):
            try:
                current = deps.store.read(tenant, name)
            except ScheduleNotFound:
                new = _started(
                    deps, Schedule(tenant, name, definition, deps.new_edition(), now_ms, None)
                )
                deps.store.create(new)
                return _first_hand_out(deps, new), True
            # An earlier change was interrupted; this call completes it.
            is_interrupted = current.next_ms is None and not current.is_paused
            if current.definition == definition and not is_interrupted:
                return current, False
            held = current if current.error is not None else _hold(deps, current)
            changed = replace(
                held,
                definition=definition,
                edition=deps.new_edition(),
                anchor_ms=now_ms,
                made_ms=0,
                error=None,
            )
            if current.error is not None:
                _cancel_ahead(deps, current)
            return _restart(deps, held, changed), False
    raise ScheduleBusy(name)


def pause(deps: Deps, name: str, *, tenant: str) -> Schedule:
    """Stops a schedule from making jobs; jobs of future ticks are cancelled.

    Raises ScheduleNotFound, ScheduleBusy, StoreUnavailable, and ScheduleUnusable if its record
    cannot be read.
    """
    for _ in range(_TRIES):
        with suppress(StaleWrite):
            return _hold(deps, _readable(deps.store.read(tenant, name)), is_paused=True)
    raise ScheduleBusy(name)


def resume(deps: Deps, name: str, *, tenant: str) -> Schedule:
    """Continues a paused schedule with the first tick from now.

    Ticks that came during the pause get no job. Raises ScheduleNotFound, ScheduleBusy,
    StoreUnavailable, and ScheduleUnusable if its record cannot be read or has no ticks.
    """
    for _ in range(_TRIES):
        with suppress(StaleWrite):
            current = _readable(deps.store.read(tenant, name))
            _check_ticks(name, current.definition, deps.clock())
            if current.next_ms is not None:
                return current
            held = _hold(deps, current)
            return _restart(
                deps,
                held,
                replace(held, is_paused=False, edition=deps.new_edition(), made_ms=0),
            )
    raise ScheduleBusy(name)


def delete(deps: Deps, name: str, *, tenant: str) -> None:
    """Ends a schedule; jobs of future ticks are cancelled, running jobs continue.

    Raises ScheduleNotFound, ScheduleBusy, StoreUnavailable.
    """
    for _ in range(_TRIES):
        with suppress(StaleWrite):
            current = deps.store.read(tenant, name)
            if current.error is None:
                current = _hold(deps, current)
            else:
                _cancel_ahead(deps, current)
            deps.store.delete(current)
            return
    raise ScheduleBusy(name)


def hand_out_due(
    deps: Deps, *, is_over: Callable[[], bool], failed: Callable[[str, str, Exception], None]
) -> int:
    """Makes the jobs of all due ticks of all tenants, and returns their number.

    These are ticks that come soon, or have passed. Tenants take turns, so no schedule waits for
    more schedules of another tenant than it has before it of its own. Stops when `is_over()`.
    Several calls at once do no harm: if two make the same jobs, one is refused. If the jobs of a
    schedule cannot be made, or if it cannot be read, `failed` is called with its tenant, its name
    and the error, and the others are not affected. Raises StoreUnavailable if the list of schedules
    cannot be read; at the end, if a partition of it cannot.
    """

    def hand_out_one(place: tuple[str, str]) -> int:
        tenant, name = place
        try:
            # Another sweep handles it, it is deleted, or the index was behind.
            with suppress(StaleWrite, ScheduleNotFound):
                return _hand_out(deps, _readable(deps.store.read(tenant, name)), is_over)[1]
        except _REPORTED as problem:  # for example, its time zone no longer exists
            failed(tenant, name, problem)
        return 0

    unread: list[StoreUnavailable] = []
    due = deps.store.due(before_ms=deps.clock() + AHEAD_MS, limit=_READ, failed=unread.append)
    in_order = in_turns(due, lambda place: place[0])
    made = work_off(hand_out_one, in_order, threads=deps.threads, is_over=is_over)
    for failure in unread:
        raise failure
    return made


def _hand_out(
    deps: Deps, schedule: Schedule, is_over: Callable[[], bool] = lambda: False
) -> tuple[Schedule, int]:
    count, limit = 0, _TICKS if is_inline(schedule.definition.payload) else 1
    while (now_ms := deps.clock()) and (due := hand_out(schedule, now_ms, limit)) and not is_over():
        jobs = _jobs(deps, schedule, due, now_ms)
        schedule = deps.store.advance(schedule, jobs, made_ms=due.ticks[-1], next_ms=due.next_ms)
        count += len(jobs)
    return schedule, count


def _jobs(deps: Deps, schedule: Schedule, due: HandOut, now_ms: int) -> list[Job]:
    definition, jobs = schedule.definition, []
    for index, tick in enumerate(due.ticks):
        submission = Submission(
            definition.task,
            definition.payload,
            definition.max_attempts,
            not_before=Delay(at_ms=tick),
        )
        job = new_job(
            schedule.tenant,
            job_id(schedule, tick),
            submission,
            deps.tasks.get(definition.task),
            now_ms=now_ms,
        )
        jobs.append(replace(job, tick=Tick(schedule.name, tick, due.missed if index == 0 else 0)))
    return jobs


def _hold(deps: Deps, seen: Schedule, *, is_paused: bool | None = None) -> Schedule:
    """Stops a schedule, and then cancels the jobs that were made ahead and have not begun.

    Jobs that have begun continue. The schedule's own write comes first: after it, no sweep makes
    another job. If this is interrupted, a repeat of the change completes it.
    """
    wanted = replace(
        seen, next_ms=None, is_paused=seen.is_paused if is_paused is None else is_paused
    )
    held = seen if wanted == seen else deps.store.set(seen, wanted)
    _cancel_ahead(deps, held)
    return held


def _cancel_ahead(deps: Deps, schedule: Schedule) -> None:
    """Cancels the jobs that were made ahead and have not begun."""
    for tick in handed_out_after(schedule, deps.clock()):
        with suppress(JobNotFound):
            deps.operations.cancel_scheduled(
                schedule.tenant, job_id(schedule, tick), now_ms=deps.clock()
            )


def _readable(schedule: Schedule) -> Schedule:
    """Returns the schedule. Raises ScheduleUnusable if its record could not be read."""
    if schedule.error is not None:
        raise ScheduleUnusable(schedule.name, schedule.error)
    return schedule


def _check_ticks(name: str, definition: Definition, now_ms: int) -> None:
    """Raises ScheduleUnusable if a definition has no ticks."""
    try:
        first_tick(definition, now_ms, now_ms)
    except UNUSABLE as problem:
        reason = f"its times cannot be found: {describe(problem)}"
        raise ScheduleUnusable(name, reason) from problem


def _restart(deps: Deps, held: Schedule, target: Schedule) -> Schedule:
    return _first_hand_out(deps, deps.store.set(held, _started(deps, target)))


def _first_hand_out(deps: Deps, schedule: Schedule) -> Schedule:
    """Makes the first jobs of a started schedule, since the next sweep may be a minute away."""
    try:
        return _hand_out(deps, schedule)[0]
    except StaleWrite:  # a sweep was quicker
        return deps.store.read(schedule.tenant, schedule.name)


def _started(deps: Deps, schedule: Schedule) -> Schedule:
    """Returns a schedule with its first tick from now, or without one if it is paused."""
    first = first_tick(schedule.definition, schedule.anchor_ms, deps.clock())
    return replace(schedule, next_ms=None if schedule.is_paused else first)
