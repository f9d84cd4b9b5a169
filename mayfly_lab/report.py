"""The crash lab's table, and what it proves."""

import json
import sys
from collections.abc import Sequence
from typing import Final

from mayfly_lab.lab import CONTROL, Outcome

__all__ = ["verdict", "write"]

_COLUMNS: Final = ("subject", "fault", "runs", "once", "twice or more", "never", "unsettled")


def write(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    """Prints the table: effects by how often they were applied."""
    if as_json:
        print(json.dumps([dict(zip(_COLUMNS, _row(each), strict=True)) for each in outcomes]))
        return
    rows = [_COLUMNS, *(tuple(str(value) for value in _row(each)) for each in outcomes)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(_COLUMNS))]
    for row in rows:
        print(
            "  ".join(
                text.ljust(width) if index < 2 else text.rjust(width)
                for index, (text, width) in enumerate(zip(row, widths, strict=True))
            )
        )


def verdict(outcomes: Sequence[Outcome]) -> int:
    """0 where the control shows doubles and nobody else does; 1 otherwise, with the reason on
    standard error.
    """
    control = sum(each.more for each in outcomes if each.subject == CONTROL)
    wrong = [
        each
        for each in outcomes
        if each.subject != CONTROL and (each.more or each.never or each.unsettled)
    ]
    for each in wrong:
        print(
            f"mayfly: {each.subject}, {each.fault}: {each.more} effects applied more than once, "
            f"{each.never} never; {each.unsettled} runs unsettled",
            file=sys.stderr,
        )
    if not control:
        print("mayfly: the stock recipe shows no doubles: the lab sees nothing", file=sys.stderr)
    return 1 if wrong or not control else 0


def _row(each: Outcome) -> tuple[str, str, int, int, int, int, int]:
    return each.subject, each.fault, each.runs, each.once, each.more, each.never, each.unsettled
