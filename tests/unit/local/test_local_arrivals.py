"""Waits of the emulator: a change wakes them, and none is missed between a look and a wait."""

import asyncio
import threading

from mayfly_local.emulator.arrivals import Arrivals

LONG = 60.0


def in_ten_seconds(arrivals: Arrivals, seen: int, act: object = None) -> None:
    """Waits for a change of the place `q`, and calls `act` when the wait has begun.

    Raises TimeoutError.
    """

    async def run() -> None:
        async with asyncio.timeout(10):
            waiting = asyncio.ensure_future(arrivals.wait("q", seen, LONG))
            await asyncio.sleep(0)
            if callable(act):
                act()
            await waiting

    asyncio.run(run())


def test_change_of_another_thread_wakes() -> None:
    arrivals = Arrivals()

    def note() -> None:
        thread = threading.Thread(target=arrivals.note, args=("q",))
        thread.start()
        thread.join()

    in_ten_seconds(arrivals, arrivals.count("q"), note)


def test_change_before_the_wait_is_not_missed() -> None:
    arrivals = Arrivals()
    seen = arrivals.count("q")
    arrivals.note("q")
    in_ten_seconds(arrivals, seen)


def test_stop_wakes_everything_and_nothing_waits_afterwards() -> None:
    arrivals = Arrivals()
    in_ten_seconds(arrivals, arrivals.count("q"), arrivals.close)
    in_ten_seconds(arrivals, arrivals.count("q"))


def test_change_elsewhere_wakes_nobody() -> None:
    arrivals = Arrivals()

    async def run() -> bool:
        waiting = asyncio.ensure_future(arrivals.wait("q", arrivals.count("q"), LONG))
        await asyncio.sleep(0)
        arrivals.note("other")
        await asyncio.sleep(0.05)
        is_waiting = not waiting.done()
        waiting.cancel()
        return is_waiting

    assert asyncio.run(run())


def test_wait_ends_when_its_time_is_over() -> None:
    async def run() -> None:
        async with asyncio.timeout(10):
            arrivals = Arrivals()
            await arrivals.wait("q", arrivals.count("q"), 0.01)

    asyncio.run(run())
