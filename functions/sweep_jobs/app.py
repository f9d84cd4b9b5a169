"""Every minute: announces jobs whose time comes soon, and makes the jobs of schedules.

Every ten minutes, it passes on the reports of records that the relay could not send.

The stream announces a job with the delay that is left. The sweep ends before the invocation's
deadline, whatever the store does, and the next one continues. Each of its two steps has a share of
the time. Several sweeps at once do no harm.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from mayfly import schedules
from mayfly.core import deadline
from mayfly.core.errors import StoreUnavailable
from mayfly.jobs.errors import NotForwarded
from mayfly.jobs.rules import describe

from .deps import Deps

__all__ = ["Shares", "build"]

#: The sweep looks this far ahead, in milliseconds. It is longer than the pause between two sweeps,
#: so that no job is late.
_AHEAD_MS = 90_000
#: Jobs among which tenants take turns: their keys are some 20 MB of memory.
_ROUND = 50_000
#: The sweeps of one minute in ten look for reports, since each look costs a request to S3.
_REPORTS_MINUTES = 10
#: No report is begun with less than this much left, in milliseconds: S3 may not answer.
_FOR_REPORT_MS = 20_000


@dataclass(frozen=True)
class Shares:
    """Milliseconds of the invocation that are left when a part of the sweep ends.

    Nothing is begun with less than `margin`, and no job is released with less than `for_schedules`.
    The calls that release jobs end with `last_release`, even if the store is silent or sends an
    answer in small parts: those under way at `for_schedules` have the difference.
    """

    margin: int = 5_000
    for_schedules: int = 25_000
    last_release: int = 15_000


def build(
    deps: Deps, shares: Shares | None = None
) -> Callable[[dict[str, Any], LambdaContext], dict[str, int]]:
    """Returns the handler of the sweep.

    The handler returns the numbers of jobs that it has made for schedules, and released. It raises
    StoreUnavailable at its end if the store refused one of the two, so that the invocation counts
    as an error.
    """
    shares = shares or Shares()

    def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
        with deps.observe.invocation():
            return sweep(event, context)

    def sweep(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
        def is_over(margin_ms: int = shares.margin) -> bool:
            return context.get_remaining_time_in_millis() <= margin_ms

        refusals: list[StoreUnavailable] = []

        with _limited(context, shares.last_release):
            released = _do(
                deps, refusals, "release", lambda: release(lambda: is_over(shares.for_schedules))
            )
        with _limited(context):
            handed_out = _do(
                deps,
                refusals,
                "schedules",
                lambda: schedules.hand_out_due(deps.schedules, is_over=is_over, failed=failed),
            )
        deps.observe.count("TickHandedOut", handed_out)
        if deps.clock() // 60_000 % _REPORTS_MINUTES == 0 or event.get("reports"):
            _forward_reports(deps, lambda: is_over(_FOR_REPORT_MS))
        if refusals:
            raise refusals[0]
        if is_over():
            deps.observe.log.warning(
                "the deadline ended a sweep; the next one continues",
                released=released,
                handed_out=handed_out,
            )
        return {"handed_out": handed_out, "released": released}

    def release(is_over: Callable[[], bool]) -> int:
        released, last = 0, _ROUND
        while last == _ROUND and not is_over():
            last = deps.operations.release_due(
                before_ms=deps.clock() + _AHEAD_MS, limit=_ROUND, is_over=is_over
            )
            released += last
        return released

    def failed(tenant: str, schedule: str, problem: Exception) -> None:
        deps.observe.count("ScheduleFailed")
        deps.observe.log.error(
            "a schedule's jobs could not be made; the next sweep tries again",
            tenant=tenant,
            schedule=schedule,
            error=describe(problem),
        )

    return handler


def _limited(context: LambdaContext, kept_ms: int = 0) -> AbstractContextManager[None]:
    """Limits a step to the time that the invocation has left, without `kept_ms`."""
    return deadline.limited(context.get_remaining_time_in_millis() - kept_ms)


def _do(deps: Deps, refusals: list[StoreUnavailable], step: str, work: Callable[[], int]) -> int:
    """Returns the number that a step has done. A refusal is added to `refusals`.

    The steps after it do not depend on it.
    """
    try:
        return work()
    except StoreUnavailable as refusal:
        refusals.append(refusal)
        deps.observe.count("SweepFailed")
        deps.observe.log.warning(
            "a step of the sweep failed; the next sweep tries again",
            step=step,
            error=describe(refusal),
        )
        return 0


def _forward_reports(deps: Deps, is_over: Callable[[], bool]) -> None:
    try:
        reports = deps.reports().forward(is_over=is_over)
    except NotForwarded as problem:
        reports = problem.forwarded
        deps.observe.log.warning(
            "reports of the relay could not be passed on; a later sweep tries again",
            error=describe(problem),
        )
    if reports:
        deps.observe.count("RelayReports", reports)
        deps.observe.log.warning(
            "the relay could not announce jobs in time; bury_jobs announces them", reports=reports
        )
