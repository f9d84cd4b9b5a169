"""The windows of lost announcements, and the jobs that they concern."""

from typing import Any

import pytest
from mayfly.core.errors import InvalidRequest
from mayfly.jobs.model import Attempt, Status, StreamGap, Window
from mayfly.jobs.routing.windows import covers, gap_window, hull, may_be_stranded
from mayfly.jobs.wire import read_stream_gap

from tests.support.stranded import (
    ARN,
    DAY,
    EARLY,
    FROM,
    LATE,
    NOW,
    TO,
    WINDOW,
    job_in_window,
    report,
)


@pytest.mark.parametrize(
    ("body", "window"),
    [
        (report(), Window(FROM, TO + 999)),
        (report(to_ms=None), Window(FROM, NOW)),
        (report(from_ms=None), Window(0, TO + 999)),
        (report(from_ms=None, to_ms=None), Window(0, NOW)),
        (report(approximateArrivalOfFirstRecord="yesterday"), Window(0, TO + 999)),
        (report(approximateArrivalOfFirstRecord=7), Window(0, TO + 999)),
        (report(approximateArrivalOfLastRecord="2027-01-15T08:00"), Window(FROM, NOW)),
        (report(from_ms=TO, to_ms=FROM), Window(0, FROM + 999)),
        (report(batchSize=0), Window(0, NOW)),
        (report(startSequenceNumber="0", endSequenceNumber="00"), Window(0, NOW)),
        (report(reported_ms=None, batchSize=0), Window(0, NOW + 5_000)),
        (report(from_ms=None, to_ms=None, reported_ms=None), Window(0, NOW + 5_000)),
        (report(to_ms=NOW + DAY), Window(FROM, NOW + 5_000)),
    ],
    ids=[
        "cut down to the second", "no end: the report's own time",
        "no beginning: everything before", "no times", "malformed beginning",
        "beginning of another kind", "end without an offset", "end before the beginning",
        "no records", "no sequence numbers",
        "no records, no time: when it was sent", "no time at all: when it was sent",
        "never later than it was sent",
    ],
)  # fmt: skip
def test_report_states_when_announcements_were_lost(body: str, window: Window) -> None:
    assert gap_window(read_stream_gap(body), NOW + 5_000) == window


@pytest.mark.parametrize(
    "change", [{"batchSize": -1}, {"startSequenceNumber": ""}, {"streamArn": "x"}, {"shardId": 0}]
)
def test_report_without_records_is_parsed_as_strictly_as_any(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        read_stream_gap(report(**{"batchSize": 0, "endSequenceNumber": "0", **change}))


@pytest.mark.parametrize(
    ("first", "last", "size", "names_records"),
    [("5", "9", 3, True), ("0", "9", 3, True), ("5", "9", 0, False), ("0", "0", 3, False)],
)
def test_report_names_records_unless_it_has_none_or_no_numbers(
    first: str, last: str, size: int, names_records: bool
) -> None:
    assert StreamGap(ARN, "s", first, last, size).names_records is names_records


def test_window_is_covered_by_one_that_contains_both_its_ends() -> None:
    assert covers([Window(0, 1), Window(FROM, TO)], WINDOW)
    assert not covers([], WINDOW)
    assert not covers([Window(FROM + 1, TO), Window(FROM, TO - 1)], WINDOW)


def test_hull_of_two_windows_covers_exactly_both() -> None:
    assert hull(Window(3, 5), Window(7, 9)) == hull(Window(7, 9), Window(3, 5)) == Window(3, 9)
    assert hull(None, WINDOW) == WINDOW


@pytest.mark.parametrize(
    ("expected", "changes"),
    [
        (True, {"created_at_ms": EARLY}),
        (False, {"created_at_ms": EARLY - 1}),
        (True, {"created_at_ms": LATE}),
        (False, {"created_at_ms": LATE + 1}),
        (True, {"created_at_ms": 1, "resent_at_ms": FROM}),
        (False, {"resent_at_ms": LATE + 1}),
        (True, {"created_at_ms": 1, "history": (Attempt(1), Attempt(FROM))}),
        (True, {"created_at_ms": 1, "history": (Attempt(1, ended_at_ms=FROM),)}),
        (False, {"history": (Attempt(LATE + 1),)}),
        (False, {"history": (Attempt(FROM, ended_at_ms=LATE + 1),)}),
        (True, {"created_at_ms": 1, "run": 2}),
        (False, {"created_at_ms": LATE + 1, "run": 2}),
        (False, {"created_at_ms": 1, "run": 2, "status": Status.RETRY}),
        (True, {"created_at_ms": 1, "status": Status.SCHEDULED}),
        (False, {"created_at_ms": LATE + 1, "status": Status.SCHEDULED}),
        (True, {"status": Status.RETRY, "not_before_ms": LATE + 1}),
        (True, {"status": Status.INPROGRESS, "lease_until_ms": LATE + 1}),
    ],
    ids=[
        "made in the slack before", "made before", "made in the slack after", "made after",
        "resent within", "resent after",
        "started within", "ended within", "started after", "ended after",
        "redriven at an unknown time", "made after, redriven",
        "run again, and started since", "taken by the sweep at an unknown time",
        "made after, for later", "its pause ends after",
        "its lease ends after",
    ],
)  # fmt: skip
def test_job_may_be_stranded_if_its_last_announcement_may_lie_in_the_window(
    expected: bool, changes: dict[str, Any]
) -> None:
    assert may_be_stranded(job_in_window(**changes), WINDOW) is expected
