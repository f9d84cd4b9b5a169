"""Every minute: announces jobs whose time comes soon, and makes the jobs of schedules.

Every ten minutes, it passes on the reports of records that the relay could not send.

The stream announces a job with the delay that is left. The sweep ends before the invocation's
deadline, and the next one continues. Several sweeps at once do no harm.
"""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from mayfly import schedules
from mayfly.core.errors import StoreUnavailable
from mayfly.jobs.errors import NotForwarded
from mayfly.jobs.rules import describe

from .deps import Deps

__all__ = ["build"]

#: The sweep looks this far ahead, in milliseconds. It is longer than the pause between two sweeps,
#: so that no job is late.
_AHEAD_MS = 90_000
#: Jobs among which tenants take turns: their keys are some 20 MB of memory.
_ROUND = 50_000
#: The sweep stops with this much left before the deadline, in milliseconds. A call takes less.
_MARGIN_MS = 5_000
#: The time that is reserved for schedules, in milliseconds, even if many jobs are released.
_FOR_SCHEDULES_MS = 25_000
#: The sweeps of one minute in ten look for reports, since each look costs a request to S3.
_REPORTS_MINUTES = 10
#: No report is begun with less than this much left, in milliseconds: S3 may not answer.
_FOR_REPORT_MS = 20_000


def build(deps: Deps) -> Callable[[dict[str, Any], LambdaContext], dict[str, int]]:
    """Returns the handler of the sweep.

    The handler returns the numbers of jobs that it has made for schedules, and released. It raises
    StoreUnavailable at its end if the store refused one of the two, so that the invocation counts
    as an error.
    """

    def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
        with deps.observe.invocation():
            return sweep(event, context)

    def sweep(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
        def is_over(margin_ms: int = _MARGIN_MS) -> bool:
            return context.get_remaining_time_in_millis() <= margin_ms

        refusals: list[StoreUnavailable] = []

        released = _do(
            deps, refusals, "release", lambda: release(lambda: is_over(_FOR_SCHEDULES_MS))
        )
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
