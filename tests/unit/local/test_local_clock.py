"""The clock of a stack: a test moves it, and the processes of functions read it."""

import asyncio
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from mayfly_local.application.model import Schedule
from mayfly_local.application.schedule_times import ScheduleTimes
from mayfly_local.emulator.expiry import ExpiryIndex
from mayfly_local.emulator.outlook import of_queue
from mayfly_local.processes import bootstrap
from mayfly_local.processes.clock import Clock
from mayfly_local.processes.moved_time import VARIABLE
from mayfly_local.sources.schedules import Scheduler
from mayfly_testing.stack import ROOT

DAY, HALF_HOUR = 86_400, 1800
#: A program that prints how far the library's clock is ahead, in days, and what it sees of that.
PROGRAM = """
import os, time
from mayfly.core.clock import system_clock
ahead = (system_clock() - time.time_ns() // 1_000_000) / 86_400_000
print(round(ahead), [name for name in os.environ if "CLOCK" in name])
"""


def test_moved_clock_is_ahead_by_what_was_asked_for(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    before = clock()
    clock.move(before + DAY)
    assert DAY <= clock() - before < DAY + 10


def test_clock_never_goes_back(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")
    before = clock()
    clock.move(before - DAY)
    assert before <= clock() < before + 10


def test_sleep_ends_when_the_clock_is_moved_past_its_moment(tmp_path: Path) -> None:
    clock = Clock(tmp_path / "clock")

    async def scenario() -> None:
        async with asyncio.timeout(10):
            sleeping = asyncio.ensure_future(clock.sleep_until(clock() + DAY))
            await asyncio.sleep(0)
            clock.move(clock() + DAY / 2)
            await asyncio.sleep(0)
            assert not sleeping.done()
            clock.move(clock() + DAY)
            await sleeping

    asyncio.run(scenario())


def test_sleep_of_a_clock_without_a_file_ends_by_itself() -> None:
    clock = Clock()
    started = time.monotonic()
    asyncio.run(clock.sleep_until(clock() + 0.05))
    assert time.monotonic() - started >= 0.04


@pytest.mark.parametrize("through_bootstrap", [True, False], ids=["local-runtime", "on-aws"])
def test_only_the_local_runtime_gives_a_function_a_clock_of_its_own(
    tmp_path: Path, through_bootstrap: bool
) -> None:
    clock = Clock(tmp_path / "clock")
    clock.move(clock() + 3 * DAY)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    start = [str(bootstrap.__file__), str(os.getpid()), ""] if through_bootstrap else []
    done = subprocess.run(
        [sys.executable, "-P", *start, str(program)],
        env={VARIABLE: str(clock.path), "PYTHONPATH": str(ROOT / "layers" / "mayfly")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == ("3 []\n" if through_bootstrap else f"0 ['{VARIABLE}']\n")


def test_times_that_passed_in_an_outage_get_one_call(tmp_path: Path) -> None:
    clock, called = Clock(tmp_path / "clock"), asyncio.Event()
    half_hours = ScheduleTimes.parse("rate(30 minutes)")
    schedule = Schedule("S", "arn:S", "F", None, half_hours, None)
    events: list[Any] = []

    async def submit(function: str, event: Any) -> None:
        events.append((function, event["time"]))
        called.set()

    async def scenario() -> None:
        unused = cast(Any, None)
        scheduler = Scheduler(schedule, submit, unused, unused, clock=clock)
        running = asyncio.ensure_future(scheduler.run())
        await asyncio.sleep(0)
        first = scheduler.due
        assert first is not None
        clock.move(first + 3 * HALF_HOUR + 1)
        assert scheduler.is_due(clock())
        async with asyncio.timeout(10):
            await called.wait()
        await asyncio.sleep(0)
        last = datetime.fromtimestamp(first + 3 * HALF_HOUR, UTC)
        assert events == [("F", last.strftime("%Y-%m-%dT%H:%M:%SZ"))]
        assert scheduler.due == first + 4 * HALF_HOUR
        assert not scheduler.is_due(clock())
        running.cancel()

    asyncio.run(scenario())


def message(name: str, *, visible: float, received: int = 0, group: str = "") -> dict[str, Any]:
    return {
        "receipt_handle": name, "visible_at": visible, "receive_count": received, "group_id": group,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("messages", "is_fifo", "wanted"),
    [
        pytest.param([], False, {"visible": 0, "held": [], "next": None}, id="empty"),
        pytest.param(
            [message("a", visible=100), message("b", visible=130)], False,
            {"visible": 1, "held": [], "next": 130}, id="one-is-delayed",
        ),
        pytest.param(
            [message("a", visible=160, received=1), message("b", visible=130)], False,
            {"visible": 0, "held": ["a"], "next": 130}, id="one-is-received",
        ),
        pytest.param(
            [message("a", visible=160, received=1, group="g"), message("b", visible=90, group="g")],
            True, {"visible": 0, "held": ["a"], "next": 160}, id="fifo-waits-for-its-group",
        ),
        pytest.param(
            [message("a", visible=160, received=1, group="g"), message("b", visible=90, group="h")],
            True, {"visible": 1, "held": ["a"], "next": 160}, id="fifo-of-another-group",
        ),
    ],
)  # fmt: skip
def test_outlook_of_a_queue_tells_what_is_due(
    messages: list[dict[str, Any]], is_fifo: bool, wanted: dict[str, Any]
) -> None:
    assert of_queue({"messages": messages, "is_fifo": is_fifo}, now=100) == wanted


def test_items_are_due_at_the_end_of_the_minute_in_which_they_expire() -> None:
    async def scenario() -> None:
        index = ExpiryIndex(list, lambda *place: None)
        index.set_attributes({"t": "ttl"})
        assert index.next_after(0, lag=10) is None
        index.note("t", "a", "", {"ttl": {"N": "125"}})
        index.note("t", "b", "", {"ttl": {"N": "305"}})
        assert index.next_after(0, lag=10) == 190
        assert index.next_after(190, lag=10) == 370

    asyncio.run(scenario())
