"""The history of a job: its first and last attempts, and counts of those that are left out.

A history without bound would make the item grow until DynamoDB refuses it (400 KB): a job may
continue in as many invocations as it needs, and may be redriven for ever.

::

    attempts   1 2 3 4 5 | 6 ................ 19975 | 19976 ...... 20000
    stored     FIRST     | counted by their outcomes | LAST

Every write of a job that leaves its owner shortens the history. A claim appends an attempt without
it: the bound is passed by the interrupted attempts of one run at most, which are as many as
`max_attempts`.
"""

from collections import Counter
from dataclasses import replace
from typing import Any, Final

from mayfly.jobs.model import Attempt, Job, Outcome

__all__ = [
    "FIRST",
    "LAST",
    "attempt_number",
    "begin_attempt",
    "end_attempt",
    "shortened",
    "undo_attempt",
]

#: The attempts at the beginning that are always kept. Part of the stored form: those that are left
#: out follow them, which gives the others their numbers.
FIRST: Final = 5
#: The attempts at the end that are kept; a run has up to 20. The error of an attempt has at most
#: 500 characters, 3,000 bytes of JSON: with FIRST, at most 93 KB next to a result of 256 KB.
LAST: Final = 25


def begin_attempt(job: Job, attempt: Attempt, /, **changes: Any) -> Job:
    """Returns the job with another attempt, and with other changes of its fields."""
    return shortened(replace(job, history=(*job.history, attempt), **changes))


def end_attempt(job: Job, attempt: Attempt, /, **changes: Any) -> Job:
    """Returns the job with `attempt` in place of its last one, and with other changes."""
    return shortened(replace(job, history=(*job.history[:-1], attempt), **changes))


def undo_attempt(job: Job) -> Job:
    """Returns the job without its last attempt, which was never started."""
    return shortened(replace(job, history=job.history[:-1]))


def shortened(job: Job) -> Job:
    """Returns the job with at most FIRST and LAST attempts in its history.

    An attempt that is left out has ended, or was interrupted: only the last one may still run.
    """
    surplus = len(job.history) - FIRST - LAST
    if surplus <= 0:
        return job
    left_out = job.history[FIRST : FIRST + surplus]
    counts = Counter(job.omitted)
    counts.update(attempt.outcome or Outcome.INTERRUPTED for attempt in left_out)
    kept = (*job.history[:FIRST], *job.history[FIRST + surplus :])
    return replace(job, history=kept, omitted=dict(counts))


def attempt_number(job: Job, index: int) -> int:
    """Returns the number, from 1, of the attempt at a place in the history."""
    return index + 1 + (sum(job.omitted.values()) if index >= FIRST else 0)
