"""Every minute: jobs whose time comes soon are handed to the stream, which announces them with the
delay that is left; then schedules whose ticks come soon get their jobs.

Bounded by the invocation's deadline; what one sweep leaves, the next one finds. Several at once do
no harm.
"""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from mayfly import schedules
from mayfly.jobs.rules import describe

from .deps import Deps

__all__ = ["build"]

#: Looks this far ahead, in milliseconds: longer than the pause between two sweeps, so that none
#: comes too late.
_AHEAD_MS = 90_000
_PAGE = 100
#: Stops with this much left before the deadline, in milliseconds: more than a page takes.
_MARGIN_MS = 5_000
#: What is kept for schedules, however many jobs there are to release.
_FOR_SCHEDULES_MS = 25_000


def build(deps: Deps) -> Callable[[dict[str, Any], LambdaContext], dict[str, int]]:
    """The handler of the sweep.

    Answers how many jobs it has made for schedules, and how many it has handed on.
    """

    def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
        def is_over(margin_ms: int = _MARGIN_MS) -> bool:
            return context.get_remaining_time_in_millis() <= margin_ms

        released = release(lambda: is_over(_FOR_SCHEDULES_MS))
        made = schedules.hand_out_due(deps.schedules, is_over=is_over, failed=failed)
        deps.observe.count("TickHandedOut", made)
        if is_over():
            deps.observe.log.warning(
                "the deadline ended a sweep; the next one goes on",
                released=released,
                handed_out=made,
            )
        return {"handed_out": made, "released": released}

    def release(is_over: Callable[[], bool]) -> int:
        released, found = 0, _PAGE
        while found == _PAGE and not is_over():
            found = deps.operations.release_due(before_ms=deps.clock() + _AHEAD_MS, limit=_PAGE)
            released += found
        return released

    def failed(schedule: schedules.Schedule, problem: Exception) -> None:
        deps.observe.count("ScheduleFailed")
        deps.observe.log.error(
            "a schedule's jobs could not be made; the next sweep tries again",
            tenant=schedule.tenant,
            schedule=schedule.name,
            error=describe(problem),
        )

    return handler
