"""Windows of time in which announcements may have been lost, and the jobs that this concerns.

No I/O, no clock.
"""

from collections.abc import Iterable
from typing import Final

from mayfly.jobs.model import Job, Status, StreamGap, Window

__all__ = ["WINDOW_SLACK_MS", "covers", "gap_window", "hull", "may_be_stranded"]

#: The most by which a job's own times and those of the stream may differ. The longest invocation
#: that makes jobs takes 60 s, and clocks differ.
WINDOW_SLACK_MS: Final = 120_000


def gap_window(gap: StreamGap, sent_ms: int) -> Window:
    """Returns the time in which announcements were lost.

    It ends at `sent_ms`, when the report was sent, or before.
    """
    to_ms = sent_ms if gap.to_ms is None else min(gap.to_ms, sent_ms)
    return Window(gap.from_ms if gap.from_ms <= to_ms else 0, to_ms)


def covers(windows: Iterable[Window], wanted: Window) -> bool:
    """Returns True if one of the windows contains all of `wanted`."""
    return any(
        window.from_ms <= wanted.from_ms and wanted.to_ms <= window.to_ms for window in windows
    )


def hull(one: Window | None, other: Window) -> Window:
    """Returns the shortest window that covers both."""
    return (
        other
        if one is None
        else Window(min(one.from_ms, other.from_ms), max(one.to_ms, other.to_ms))
    )


def may_be_stranded(job: Job, window: Window) -> bool:
    """Returns True if an unfinished job's last announcement may be in a window of lost ones.

    ::

        made ----- started ----- resent     the last of these is the job's last sign
                                   |
        window   [from ------------ to]     after it, the job asked for a message,
                                            or had one that was not lost

    A redrive and the sweep of due jobs announce a job without noting the time: such an announcement
    may be later than the sign. A job that was only made, or resent, was announced at its sign.
    """
    sign_ms = max(
        job.created_at_ms,
        job.resent_at_ms or 0,
        *(max(attempt.started_at_ms, attempt.ended_at_ms or 0) for attempt in job.history),
    )
    may_be_later = job.status is Status.SCHEDULED or (job.status is Status.QUEUED and job.run > 1)
    is_before_the_end = sign_ms <= window.to_ms + WINDOW_SLACK_MS
    is_after_the_beginning = sign_ms >= window.from_ms - WINDOW_SLACK_MS
    return is_before_the_end and (is_after_the_beginning or may_be_later)
