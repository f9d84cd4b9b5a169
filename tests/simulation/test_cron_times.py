"""Times of cron expressions, compared with a walk over real minutes at changes of clocks."""

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.resources import files
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from mayfly.schedules.cron import times_after

from tests.support.cron_walk import changes, local_minutes, walk

#: Thirty expressions: steps, lists and ranges, fixed times, and days by either field.
EXPRESSIONS = [
    "* * * * *", "*/15 * * * *", "*/7 * * * *", "0 * * * *", "30 * * * *", "59 * * * *",
    "*/15 3 * * *", "* 3 * * *", "*/20 0-4 * * *", "15 */2 * * *", "45 */3 * * *", "0 */5 * * *",
    "*/30 2 * * 0", "30 2 * * *", "0 3 * * *", "45 1 * * *", "15 2 * * *", "0,30 2,3 * * *",
    "0 1-4 * * *", "10-50/20 0-3 * * *", "59 23 * * *", "0 0 * * *", "5 0 * * *", "0 12 * * *",
    "0 0 1 * *", "0 2 L * *", "30 2 * 3,4,9,10 0", "0 9 * * 1-5", "0 2 1-7 * 0", "15 3 */2 * *",
]  # fmt: skip
#: Zones with changes of half an hour, two hours and at midnight, in winter, and around Ramadan.
ODD_ZONES = [
    "Africa/Cairo", "Africa/Casablanca", "America/Havana", "America/Scoresbysund",
    "Antarctica/Troll", "Asia/Beirut", "Asia/Gaza", "Australia/Lord_Howe", "Europe/Dublin",
    "Pacific/Chatham",
]  # fmt: skip
#: Expressions that skipped ticks, or had no end, in a zone of `ODD_ZONES` or in Berlin.
FAULTY = ["0,30 3 * * *", "*/15 2 * * *", "* 2 * * *", "5-59/10 */3 * * *"]
#: From this number of cases on, every change of every zone is walked.
_ALL = 1000


def zones() -> list[str]:
    return (files("tzdata") / "zones").read_text(encoding="ascii").split()


def changes_of(names: list[str]) -> Iterator[tuple[str, int]]:
    """Yields the changes of ten years, and one moment of a zone without any."""
    start, end = datetime(2026, 1, 1, tzinfo=UTC), datetime(2036, 1, 1, tzinfo=UTC)
    for name in names:
        found = list(changes(ZoneInfo(name), start, end))
        yield from ((name, moment) for moment in found or [int(start.timestamp())])


def until(end: int, times: Iterator[int]) -> list[int]:
    """Returns the minutes of the times before `end`."""
    return [at // 60 for at in takewhile(lambda at: at < end, times)]


def test_ticks_are_those_of_a_walk_over_real_minutes(searches: int) -> None:
    """Thirty expressions at changes of clocks: every change in ten years of every zone by
    `--searches 1000`, and a quarter of the cases otherwise.
    """
    draw = random.Random(19)
    if searches >= _ALL:
        cases = list(changes_of(zones()))
    else:
        names = ODD_ZONES + draw.sample(zones(), 10)
        found = list(changes_of(names))
        cases = draw.sample(found, min(len(found), max(1, searches // 4)))
    slowest, compared = 0.0, 0
    for name, change in cases:
        start, end = change - 26 * 3600, change + 26 * 3600
        # Minutes before the start show what clocks have reached already.
        minutes = local_minutes(ZoneInfo(name), start - 3600, end)
        for cron in EXPRESSIONS:
            for after in (start, change):
                began = time.thread_time()
                next(times_after(cron, name, after))
                slowest = max(slowest, time.thread_time() - began)
            got = until(end, times_after(cron, name, start))
            assert got == walk(cron, minutes, start // 60), (cron, name, change)
            compared += len(got)
    walked = {name for name, _ in cases}
    print(
        f"{len(walked)} zones, {len(cases)} changes or other moments, {len(EXPRESSIONS)} "
        f"expressions, {compared} ticks: 0 differences; the longest ticks_after "
        f"{slowest * 1000:.1f} ms of CPU"
    )


@pytest.mark.parametrize("name", ["Europe/Berlin", *ODD_ZONES])
def test_each_kind_of_change_ticks_as_a_walk_over_real_minutes(name: str) -> None:
    """The next change in each direction, as far as the zone has both, and the day after it."""
    zone = ZoneInfo(name)
    start, end = datetime(2026, 3, 1, tzinfo=UTC), datetime(2028, 1, 1, tzinfo=UTC)
    for change in islice(changes(zone, start, end), 2):
        first, last = change - 6 * 3600, change + 48 * 3600
        minutes = local_minutes(zone, first - 3600, last)
        for cron in EXPRESSIONS + FAULTY:
            got = until(last, times_after(cron, name, first))
            assert got == walk(cron, minutes, first // 60), (cron, change)


def test_ticks_grow_from_any_moment(searches: int) -> None:
    """Starts in the middle of gaps and of repeated hours continue where earlier starts left."""
    draw = random.Random(20)
    for name, change in draw.sample(list(changes_of(ODD_ZONES)), 8):
        for cron in draw.sample(EXPRESSIONS, 6):
            whole = list(islice(times_after(cron, name, change - 4 * 3600), 200))
            assert all(one < other for one, other in pairwise(whole))
            for _ in range(max(1, searches // 20)):
                after = change + draw.randrange(-3 * 3600, 4 * 3600)
                rest = [at for at in whole if at > after]
                assert list(islice(times_after(cron, name, after), len(rest))) == rest
