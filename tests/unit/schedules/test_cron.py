"""Times of cron expressions: at changes of clocks, and by the calendar."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice, takewhile
from zoneinfo import ZoneInfo

import pytest
from mayfly.schedules.cron import times_after
from mayfly.schedules.model import Definition, Schedule
from mayfly.schedules.rules import first_tick, hand_out, handed_out_after, ticks_after
from mayfly.schedules.wire import read_definition

CHATHAM = "Pacific/Chatham"
_DAY = 24 * 3600


def definition(cron: str, timezone: str) -> Definition:
    return read_definition({"cron": cron, "timezone": timezone, "task": "t"})


def local(at_s: float, timezone: str) -> str:
    return datetime.fromtimestamp(at_s, ZoneInfo(timezone)).isoformat(timespec="minutes")


def ticks(cron: str, timezone: str, start: datetime, hours: int) -> list[str]:
    """Returns the ticks of some hours after `start`, on the clocks of the zone."""
    after_ms = int(start.timestamp() * 1000)
    found = takewhile(
        lambda tick: tick <= after_ms + hours * 3_600_000,
        ticks_after(definition(cron, timezone), after_ms, after_ms),
    )
    return [local(tick / 1000, timezone) for tick in found]


# ---------------------------------------------------------------- changes of clocks


@pytest.mark.parametrize(
    ("zone", "start"),
    [
        pytest.param("Europe/Berlin", datetime(2026, 3, 28, 22, tzinfo=UTC), id="berlin-forward"),
        pytest.param("Europe/Berlin", datetime(2026, 10, 24, 22, tzinfo=UTC), id="berlin-back"),
        pytest.param(CHATHAM, datetime(2026, 9, 26, 10, tzinfo=UTC), id="chatham-forward"),
        pytest.param(CHATHAM, datetime(2026, 4, 4, 10, tzinfo=UTC), id="chatham-back"),
        pytest.param("Australia/Lord_Howe", datetime(2026, 4, 4, 10, tzinfo=UTC), id="howe-back"),
    ],
)
def test_step_over_all_hours_ticks_each_quarter_of_real_time(zone: str, start: datetime) -> None:
    after_ms = int(start.timestamp() * 1000)
    found = list(islice(ticks_after(definition("*/15 * * * *", zone), 0, after_ms), 32))
    assert found == [after_ms + 900_000 * n for n in range(1, 33)]


def test_quarter_that_exists_after_a_gap_ticks() -> None:
    """Clocks go from 02:45+12:45 to 03:45+13:45: one quarter of the third hour exists."""
    found = ticks("*/15 3 * * *", CHATHAM, datetime(2026, 9, 26, tzinfo=UTC), 24)
    assert found == ["2026-09-27T03:45+13:45"]


def test_hour_that_occurs_twice_in_part_ticks_each_quarter_of_it() -> None:
    """Clocks go from 03:45+13:45 to 02:45+12:45: real minutes show the third hour, and again."""
    found = ticks("*/15 3 * * *", CHATHAM, datetime(2026, 4, 4, 0, tzinfo=UTC), 24)
    first = [f"2026-04-05T03:{minute}+13:45" for minute in ("00", "15", "30")]
    second = [f"2026-04-05T03:{minute}+12:45" for minute in ("00", "15", "30", "45")]
    assert found == first + second


@pytest.mark.parametrize(
    "cron", ["*/15 3 * * *", "* 3 * * *", "*/7 2-3 * * *", "5-59/10 */3 * * *"]
)
@pytest.mark.parametrize(
    ("zone", "start"),
    [
        pytest.param(CHATHAM, datetime(2026, 4, 4, 13, 10, tzinfo=UTC), id="chatham-back"),
        pytest.param(CHATHAM, datetime(2026, 9, 26, 10, tzinfo=UTC), id="chatham-forward"),
        pytest.param("Australia/Lord_Howe", datetime(2026, 4, 4, 12, tzinfo=UTC), id="howe-back"),
    ],
)
def test_sweeps_hand_out_each_tick_of_such_days_once(cron: str, zone: str, start: datetime) -> None:
    now_ms = int(start.timestamp() * 1000)
    end_ms = now_ms + 2 * _DAY * 1000
    defined = definition(cron, zone)
    schedule = Schedule("acme", "s", defined, "e", now_ms, first_tick(defined, now_ms, now_ms))
    handed_out: list[int] = []
    while schedule.next_ms is not None and schedule.next_ms < end_ms:
        due = hand_out(schedule, schedule.next_ms, 25)
        assert due is not None
        assert due.next_ms > due.ticks[-1]
        handed_out += due.ticks
        schedule = replace(schedule, next_ms=due.next_ms)
    expected = takewhile(lambda tick: tick < handed_out[-1] + 1, ticks_after(defined, 0, now_ms))
    assert handed_out == list(expected)


@pytest.mark.parametrize("minute", [14, 15, 29, 30, 44, 45])
def test_sweep_a_week_later_leaves_a_tick_at_which_an_older_release_hung(minute: int) -> None:
    stood_at = int(datetime(2026, 4, 4, 13, minute, tzinfo=UTC).timestamp() * 1000)
    now_ms = stood_at + 7 * _DAY * 1000
    schedule = Schedule("acme", "s", definition("*/15 3 * * *", CHATHAM), "e", 0, stood_at)
    due = hand_out(schedule, now_ms, 25)
    assert due is not None
    assert now_ms - _DAY * 1000 < due.ticks[0] <= now_ms < due.next_ms


def test_next_tick_is_shown_in_the_hour_that_occurs_twice() -> None:
    """At 03:31 `GET` and `PUT` look for it."""
    now_ms = int(datetime(2026, 4, 4, 13, 46, tzinfo=UTC).timestamp() * 1000)
    at_ms = first_tick(definition("*/15 3 * * *", CHATHAM), now_ms, now_ms)
    assert local(at_ms / 1000, CHATHAM) == "2026-04-05T03:00+12:45"


def test_pause_in_that_hour_finds_the_jobs_that_were_made_ahead() -> None:
    now_ms = int(datetime(2026, 4, 4, 13, 14, tzinfo=UTC).timestamp() * 1000)
    schedule = Schedule(
        "acme", "s", definition("*/15 3 * * *", CHATHAM), "e", now_ms, now_ms + 1_860_000,
        made_ms=now_ms + 1_800_000,
    )  # fmt: skip
    assert handed_out_after(schedule, now_ms) == [now_ms + 60_000, now_ms + 960_000]


def test_times_of_one_gap_are_one_tick() -> None:
    """Two skipped times come at the same moment. A transaction can make one job of it only."""
    found = ticks("0,30 2,3 * * *", "Europe/Berlin", datetime(2026, 3, 28, 12, tzinfo=UTC), 24)
    assert found == ["2026-03-29T03:00+02:00", "2026-03-29T03:30+02:00"]


@pytest.mark.parametrize(
    ("cron", "zone", "start", "hours", "expected"),
    [
        pytest.param(
            "0 6 * * MON", "America/New_York", datetime(2021, 11, 1, 12, tzinfo=UTC), 24 * 8,
            ["2021-11-08T06:00-05:00"], id="weekly-new-york",
        ),
        pytest.param(
            "59 23 L * *", "Europe/Helsinki", datetime(2024, 3, 20, tzinfo=UTC), 24 * 14,
            ["2024-03-31T23:59+03:00"], id="last-day-helsinki",
        ),
        pytest.param(
            "15 2 * * *", "Australia/Lord_Howe", datetime(2026, 10, 2, tzinfo=UTC), 72,
            ["2026-10-03T02:15+10:30", "2026-10-04T02:30+11:00"], id="howe-skipped",
        ),
        pytest.param(
            "45 1 * * *", "Australia/Lord_Howe", datetime(2026, 4, 4, 2, tzinfo=UTC), 48,
            ["2026-04-05T01:45+11:00", "2026-04-06T01:45+10:30"], id="howe-repeated",
        ),
        pytest.param(
            "0,30 3 * * *", CHATHAM, datetime(2026, 4, 4, 2, tzinfo=UTC), 48,
            [
                "2026-04-05T03:00+13:45", "2026-04-05T03:30+13:45", "2026-04-06T03:00+12:45",
                "2026-04-06T03:30+12:45",
            ], id="chatham-repeated",
        ),
        pytest.param(
            "0,30 3 * * *", CHATHAM, datetime(2026, 9, 26, 2, tzinfo=UTC), 48,
            ["2026-09-27T03:45+13:45", "2026-09-28T03:00+13:45", "2026-09-28T03:30+13:45"],
            id="chatham-skipped",
        ),
        pytest.param(
            "0 1-4 * * *", "Australia/Lord_Howe", datetime(2026, 4, 4, 10, tzinfo=UTC), 24,
            [
                "2026-04-05T01:00+11:00", "2026-04-05T02:00+10:30", "2026-04-05T03:00+10:30",
                "2026-04-05T04:00+10:30",
            ], id="howe-four-hours-back",
        ),
        pytest.param(
            "0 1-4 * * *", "Australia/Lord_Howe", datetime(2026, 10, 3, 10, tzinfo=UTC), 24,
            [
                "2026-10-04T01:00+10:30", "2026-10-04T02:30+11:00", "2026-10-04T03:00+11:00",
                "2026-10-04T04:00+11:00",
            ], id="howe-four-hours-forward",
        ),
        pytest.param(
            "0 0 * * *", "America/Havana", datetime(2026, 3, 7, 12, tzinfo=UTC), 48,
            ["2026-03-08T01:00-04:00", "2026-03-09T00:00-04:00"], id="havana-midnight-skipped",
        ),
        pytest.param(
            "30 1 * * *", "Antarctica/Troll", datetime(2026, 3, 28, 12, tzinfo=UTC), 24,
            ["2026-03-29T03:00+02:00"], id="troll-two-hours",
        ),
    ],
)  # fmt: skip
def test_time_of_the_day_ticks_once_a_day(
    cron: str, zone: str, start: datetime, hours: int, expected: list[str]
) -> None:
    assert ticks(cron, zone, start, hours)[: len(expected)] == expected


@pytest.mark.parametrize("year", [2024, 2029, 2030, 2035])
def test_last_day_of_march_ticks_if_clocks_change_on_it(year: int) -> None:
    found = ticks("59 23 L * *", "Europe/Helsinki", datetime(year, 3, 20, tzinfo=UTC), 24 * 14)
    assert [tick[:16] for tick in found] == [f"{year}-03-31T23:59"]


@pytest.mark.parametrize(
    "cron", ["0 5 * * *", "5 0 */1 * *", "30 2 * * *", "30 1 * * *", "0 14 * * *"]
)
def test_time_of_the_day_ticks_once_on_each_day_of_a_year(cron: str) -> None:
    found = ticks(cron, "America/Toronto", datetime(2026, 1, 1, 5, tzinfo=UTC), 24 * 365)
    assert len({tick[:10] for tick in found}) == len(found) == 365


def test_last_tick_of_a_long_outage_is_found_from_its_end() -> None:
    """More ticks were missed than are counted."""
    start_ms = int(datetime(2026, 4, 1, tzinfo=UTC).timestamp() * 1000)
    now_ms = int(datetime(2026, 4, 4, 14, 1, tzinfo=UTC).timestamp() * 1000)
    due = hand_out(
        Schedule("acme", "s", definition("* 0-3 * * *", CHATHAM), "e", 0, start_ms),
        now_ms + 60 * _DAY * 1000, 25,
    )  # fmt: skip
    assert due is not None
    assert (due.missed, local(due.ticks[0] / 1000, CHATHAM)) == (1000, "2026-06-04T02:46+12:45")


# ---------------------------------------------------------------- the calendar


@pytest.mark.parametrize(
    ("cron", "expected"),
    [
        pytest.param("0 0 31,L * *", ["01-31", "02-28", "03-31", "04-30"], id="last-day-or-31"),
        pytest.param("0 0 L * *", ["01-31", "02-28", "03-31", "04-30"], id="L"),
        pytest.param("0 0 LW * *", ["01-30", "02-27", "03-31", "04-30"], id="LW"),
        pytest.param("0 0 * * 5L", ["01-30", "02-27", "03-27", "04-24"], id="5L"),
        pytest.param("0 0 * * 1#2", ["01-12", "02-09", "03-09", "04-13"], id="1#2"),
        pytest.param("0 0 * * 7", ["01-04", "01-11", "01-18", "01-25"], id="7"),
        pytest.param("0 0 */2 * 1", ["01-05", "01-19", "02-09", "02-23"], id="star-step-is-and"),
        pytest.param("0 0 13 * 5", ["01-02", "01-09", "01-13", "01-16"], id="two-lists-are-or"),
        pytest.param("0 0 13 * *", ["01-13", "02-13", "03-13", "04-13"], id="day-alone"),
    ],
)
def test_days_are_those_of_debians_cron(cron: str, expected: list[str]) -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    found = islice(times_after(cron, "UTC", int(start.timestamp())), 4)
    assert [f"{datetime.fromtimestamp(at, UTC):%m-%d}" for at in found] == expected


def test_leap_day_is_found_across_a_century_without_one() -> None:
    start = int(datetime(2096, 3, 1, tzinfo=UTC).timestamp())
    found = [
        datetime.fromtimestamp(at, UTC)
        for at in islice(times_after("0 0 29 2 *", CHATHAM, start), 2)
    ]
    assert [f"{at:%Y-%m-%d %H:%M}" for at in found] == ["2104-02-28 10:15", "2108-02-28 10:15"]


def test_each_hour_of_the_last_day_ticks() -> None:
    found = ticks("0 * L * *", "UTC", datetime(2026, 1, 30, 23, tzinfo=UTC), 30)
    assert found == [f"2026-01-31T{hour:02}:00+00:00" for hour in range(24)]


@pytest.mark.parametrize(
    ("cron", "minutes"),
    [
        ("5/15 * * * *", ["05", "20", "35", "50"]),  # from its start to the end of the hour
        ("*/45 * * * *", ["45", "00", "45", "00"]),
        ("*/59 * * * *", ["59", "00", "59", "00"]),
    ],
)
def test_step_begins_again_with_each_hour(cron: str, minutes: list[str]) -> None:
    found = ticks(cron, "UTC", datetime(2026, 1, 1, tzinfo=UTC), 2)
    assert [tick[14:16] for tick in found][:4] == minutes


def test_times_end_if_none_matches() -> None:
    """The first of a month is never its second Monday."""
    assert list(times_after("0 0 */31 * 1#2", CHATHAM, 0)) == []
