"""Strikes: what is done to a running stack, one after another, drawn by a seed."""

import contextlib
import random
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final

import psutil
import requests

from mayfly_lab.chaos.application import Clocks
from mayfly_lab.chaos.site import Site
from mayfly_local.errors import LocalError
from mayfly_local.iam.faults import KINDS
from mayfly_local.iam.items import WRITES

__all__ = ["Strikes"]

#: A stack whose store ends more often than three times within 60 s stops with an error, so kills
#: of the store keep this distance, in seconds.
_STORE_SECONDS: Final = 25.0
#: The longest time for which a process is stopped, in seconds: above every time-out and lease; in
#: a short run, this part of it.
_LONGEST_STOP: Final = 20.0
_PART_OF_RUN: Final = 0.1
#: The longest step of a clock, forward or back, in milliseconds: several leases.
_LONGEST_STEP: Final = 40_000
#: Most calls that one requested fault strikes.
_MOST_CALLS: Final = 4


class Strikes:
    """Strikes against one site, in a run of some seconds. `counts` has how often each happened."""

    def __init__(self, site: Site, clocks: Clocks, *, seed: int, seconds: float) -> None:
        self._site = site
        self._clocks = clocks
        self._dice = random.Random(seed)  # noqa: S311 - a seed
        self._longest_stop = min(_LONGEST_STOP, seconds * _PART_OF_RUN)
        self._pause = threading.Event()  # never set; it only waits
        self._store_killed_at = -_STORE_SECONDS
        self._grants: list[dict[str, Any]] = []
        self.counts: Counter[str] = Counter()
        # An act returns False if there was nothing to strike.
        acts: dict[str, tuple[Callable[[], bool], int]] = {
            "kill a function": (self._kill_function, 6),
            "kill every function": (self._kill_functions, 3),
            "kill the store": (self._kill_store, 3),
            "kill mayfly up": (self._kill_up, 1),
            "kill every process": (self._kill_all, 1),
            # Elsewhere only the watchdog ends the processes of a killed stack.
            **({"kill the watchdog": (self._kill_watchdog, 1)} if sys.platform == "linux" else {}),
            "stop the store": (self._stop_store, 3),
            "stop a function": (self._stop_function, 3),
            "stop mayfly up": (self._stop_up, 1),
            "restart": (self._restart, 1),
            "restart in haste": (self._restart_in_haste, 1),
            "step a clock": (self._step_clock, 4),
            **{f"{kind} calls": (self._fault(kind), 4) for kind in KINDS},
        }
        self._acts = {name: act for name, (act, _) in acts.items()}
        #: Each comes up as often as its weight says, in an order of its own for each seed. So a run
        #: of some length has all of them.
        self._order: deque[str] = deque()
        self._weights = {name: weight for name, (_, weight) in acts.items()}

    def next(self) -> str | None:
        """Does the next strike, and returns the name of what happened (`strike`).

        Raises LocalError if the stack has ended without a strike, or does not come up after one.
        """
        self._site.check()
        if not self._order:
            names = [name for name, weight in self._weights.items() for _ in range(weight)]
            self._dice.shuffle(names)
            # All kinds come first, since a short run has no time for repetitions.
            firsts = list(dict.fromkeys(names))
            for name in firsts:
                names.remove(name)
            self._order.extend([*firsts, *names])
        return self.strike(self._order.popleft())

    def strike(self, name: str) -> str | None:
        """Does a strike, and returns its name; None if there was nothing to strike.

        If the store was killed a short time ago, it is stopped instead. Raises LocalError as `next`
        does.
        """
        is_early = time.monotonic() - self._store_killed_at < _STORE_SECONDS
        if name == "kill the store" and is_early:
            name = "stop the store"
        if not self._acts[name]():
            return None
        self.counts[name] += 1
        return name

    # ---------------------------------------------------------------- kills

    def _functions(self) -> list[psutil.Process]:
        return [
            process
            for process in self._site.stack.tree()[1:]
            if any(part == "awslambdaric" or "python_runtime" in part for part in _command(process))
        ]

    def _stores(self) -> list[psutil.Process]:
        """Returns the process of the store, or nothing while it is restarted."""
        return [
            process
            for process in self._site.stack.tree()[1:]
            if "mayfly_local.emulator.main" in _command(process)
        ]

    def _kill_function(self) -> bool:
        functions = self._functions()
        return bool(functions) and _send(self._dice.choice(functions), signal.SIGKILL)

    def _kill_functions(self) -> bool:
        return _send_all(self._functions(), signal.SIGKILL)

    def _kill_store(self) -> bool:
        is_killed = _send_all(self._stores(), signal.SIGKILL)
        if is_killed:
            self._store_killed_at = time.monotonic()
        return is_killed

    def _kill_watchdog(self) -> bool:
        return _send_all(
            [
                process
                for process in self._site.stack.tree()[1:]
                if any(part.endswith("watchdog.py") for part in _command(process))
            ],
            signal.SIGKILL,
        )

    def _kill_up(self) -> bool:
        self._site.stack.process.kill()
        return self._start_again()

    def _kill_all(self) -> bool:
        self._site.kill()
        return self._start_again()

    # ---------------------------------------------------------------- stops

    def _stop_store(self) -> bool:
        return sum(self._stop(store) for store in self._stores()) > 0

    def _stop_function(self) -> bool:
        functions = self._functions()
        return bool(functions) and self._stop(self._dice.choice(functions))

    def _stop_up(self) -> bool:
        return self._stop(psutil.Process(self._site.stack.process.pid))

    def _stop(self, process: psutil.Process) -> bool:
        """Stops a process for a while: its answers come late, or too late."""
        if not _send(process, signal.SIGSTOP):
            return False
        try:
            self._pause.wait(self._longest_stop * self._dice.random() ** 3)
        finally:
            _send(process, signal.SIGCONT)
        return True

    # ---------------------------------------------------------------- restarts

    def _restart(self) -> bool:
        self._site.stack.process.terminate()
        return self._start_again()

    def _restart_in_haste(self) -> bool:
        """Two signals: running work is not waited for."""
        process = self._site.stack.process
        process.terminate()
        self._pause.wait(self._dice.uniform(0, 0.5))
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        return self._start_again()

    def _start_again(self) -> bool:
        self._site.await_end()
        self._site.start()
        self._store_killed_at = -_STORE_SECONDS
        return True

    # ---------------------------------------------------------------- answers and clocks

    def _fault(self, kind: str) -> Callable[[], bool]:
        def ask() -> bool:
            try:
                grants = self._granted(kind)
                if not grants:
                    return False
                grant = self._dice.choice(grants)
                fault = {"function": grant["function"], "action": grant["action"], "kind": kind}
                reply = self._site.stack.control(
                    "faults", {**fault, "times": self._dice.randrange(1, _MOST_CALLS + 1)}
                )
            except requests.RequestException:  # The store may be starting again.
                return False
            if 400 <= reply.status_code < 500:
                raise LocalError(
                    f"the store does not take the fault {fault}: {reply.status_code} {reply.text}"
                )
            return reply.ok

        return ask

    def _granted(self, kind: str) -> list[dict[str, Any]]:
        """Returns the permissions of functions that are in use: their calls can be struck."""
        reply = self._site.stack.control("roles")
        reply.raise_for_status()
        return [
            grant
            for grant in reply.json()["grants"]
            if grant["used"]
            and not grant["action"].startswith("logs:")
            and (kind != "conflict" or grant["action"] in WRITES)
            and (kind != "throttle" or grant["action"].startswith("dynamodb:"))
        ]

    def _step_clock(self) -> bool:
        function = self._dice.choice(sorted(self._site.stack.facts["launches"]))
        self._clocks.step(function, self._dice.randrange(-_LONGEST_STEP, _LONGEST_STEP))
        return True


def _send_all(processes: list[psutil.Process], number: int) -> bool:
    """Sends a signal to processes; returns False if none of them was there to take it."""
    return sum(_send(process, number) for process in processes) > 0


def _send(process: psutil.Process, number: int) -> bool:
    try:
        process.send_signal(number)
    except (psutil.Error, ProcessLookupError):
        return False
    return True


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
