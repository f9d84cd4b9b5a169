"""Every minute: schedules whose ticks come soon get their jobs, and jobs whose time comes soon are handed to the stream, which
announces them with the delay that is left.

Bounded by the invocation's deadline; what one sweep leaves, the next one finds. Several at once do no harm.
"""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from mayfly import schedules
from mayfly.wiring import SweepDeps

__all__ = ["build"]

#: Looks this far ahead, in milliseconds: longer than the pause between two sweeps, so that none comes too late.
_AHEAD_MS = 90_000
_PAGE = 100
#: Stops with this much left before the deadline, in milliseconds: more than a page takes.
_MARGIN_MS = 5_000


def build(deps: SweepDeps) -> Callable[[dict[str, Any], LambdaContext], dict[str, int]]:
    """The handler of the sweep. Answers how many jobs it has made for schedules, and how many it has handed on."""

    def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, int]:
        made = schedules.hand_out_due(deps.schedules, is_over=lambda: context.get_remaining_time_in_millis() <= _MARGIN_MS)
        deps.observe.count("TickHandedOut", made)
        released = 0
        while context.get_remaining_time_in_millis() > _MARGIN_MS:
            found = deps.operations.release_due(before_ms=deps.clock() + _AHEAD_MS, limit=_PAGE)
            released += found
            if found < _PAGE:
                return {"handed_out": made, "released": released}
        deps.observe.log.warning("the deadline ended a sweep; the next one goes on", released=released)
        return {"handed_out": made, "released": released}

    return handler
