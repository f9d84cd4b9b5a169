"""The crash lab's table, and its verdict."""

import json
import sys
from collections.abc import Sequence
from typing import Final

from mayfly_lab.lab import CONTROL, Outcome

__all__ = ["verdict", "write"]

_COLUMNS: Final = (
    "subject", "fault", "runs", "once", "twice or more", "never", "unsettled", "conflicts",
)  # fmt: skip


def write(outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    """Prints the table: effects by how often they were applied."""
    if as_json:
        print(json.dumps([dict(zip(_COLUMNS, _row(outcome), strict=True)) for outcome in outcomes]))
        return
    rows = [_COLUMNS, *(tuple(str(value) for value in _row(outcome)) for outcome in outcomes)]
    widths = [max(len(row[index]) for row in rows) for index in range(len(_COLUMNS))]
    for row in rows:
        print(
            "  ".join(
                text.ljust(width) if index < 2 else text.rjust(width)
                for index, (text, width) in enumerate(zip(row, widths, strict=True))
            )
        )


def verdict(outcomes: Sequence[Outcome]) -> int:
    """Returns 0 if the control applied effects twice and no other subject failed, else 1.

    Returns 1 as well if a subject was to meet conflicts and met none: that fault showed nothing.

    The reason is printed on standard error.
    """
    control = sum(outcome.more for outcome in outcomes if outcome.subject == CONTROL)
    wrong = [
        outcome
        for outcome in outcomes
        if outcome.subject != CONTROL and (outcome.more or outcome.never or outcome.unsettled)
    ]
    for outcome in wrong:
        print(
            f"mayfly: {outcome.subject}, {outcome.fault}: {outcome.more} effects applied more than "
            f"once, {outcome.never} never; {outcome.unsettled} runs unsettled",
            file=sys.stderr,
        )
    if not control:
        print(
            "mayfly: the stock recipe applied no effect twice, so the lab detects no failures; "
            "run it again with more repeats",
            file=sys.stderr,
        )
    blind = [each for each in outcomes if each.fault == "conflict" and not each.conflicts]
    for outcome in blind:
        print(f"mayfly: {outcome.subject}: no call met a transaction", file=sys.stderr)
    return 1 if wrong or blind or not control else 0


def _row(outcome: Outcome) -> tuple[str, str, int, int, int, int, int, int]:
    return (
        outcome.subject,
        outcome.fault,
        outcome.runs,
        outcome.once,
        outcome.more,
        outcome.never,
        outcome.unsettled,
        outcome.conflicts,
    )
