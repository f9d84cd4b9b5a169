"""Strikes count what happened, and not what was tried."""

import io
import json
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import requests

from mayfly_lab.chaos.application import Clocks
from mayfly_lab.chaos.strikes import Strikes
from mayfly_local.errors import LocalError
from mayfly_local.iam.faults import KINDS

STORE = ("python", "-m", "mayfly_local.emulator.main")
FUNCTION = ("python", "awslambdaric")
READ = {"function": "F", "action": "dynamodb:GetItem", "used": 3}
WRITE = {"function": "F", "action": "dynamodb:PutItem", "used": 3}
OTHERS = [
    READ,
    {"function": "F", "action": "s3:GetObject", "used": 1},
    {"function": "F", "action": "logs:PutLogEvents", "used": 1},
    {**WRITE, "used": 0},
]


class Process:
    """A process that notes its signals, or one that has ended."""

    def __init__(self, command: tuple[str, ...], *, is_alive: bool = True) -> None:
        self._command, self._is_alive = command, is_alive
        self.signals: list[int] = []

    def cmdline(self) -> list[str]:
        return list(self._command)

    def send_signal(self, number: int) -> None:
        if not self._is_alive:
            raise psutil.NoSuchProcess(1)
        self.signals.append(number)


class Stack:
    """A stack of such processes, whose control interface has one answer."""

    facts: dict[str, Any] = {"launches": {"F": {}}}  # noqa: RUF012  # never changed

    def __init__(self, *processes: Process, grants: Any = (), status: int = 200) -> None:
        self._processes, self._grants, self._status = processes, list(grants), status
        self.faults: list[dict[str, Any]] = []

    def tree(self) -> list[Any]:
        return [None, *self._processes]

    def control(self, path: str, body: Any = None) -> requests.Response:
        if self._status == 0:
            raise requests.ConnectionError
        reply = requests.Response()
        reply.status_code = 200 if path == "roles" else self._status
        reply.raw = io.BytesIO(json.dumps({"grants": self._grants}).encode())
        if path == "faults":
            self.faults.append(body)
        return reply


def strikes(folder: Path, stack: Stack) -> Strikes:
    site: Any = SimpleNamespace(stack=stack, check=lambda: None)
    return Strikes(site, Clocks(folder / "clocks"), seed=1, seconds=0)


def test_kill_of_the_store_that_is_too_early_counts_as_the_stop_that_it_is(tmp_path: Path) -> None:
    store = Process(STORE)
    struck = strikes(tmp_path, Stack(store))
    assert struck.strike("kill the store") == "kill the store"
    assert struck.strike("kill the store") == "stop the store"
    assert store.signals == [signal.SIGKILL, signal.SIGSTOP, signal.SIGCONT]
    assert struck.counts == {"kill the store": 1, "stop the store": 1}


@pytest.mark.parametrize("processes", [[], [Process(STORE, is_alive=False)]], ids=["none", "dead"])
def test_store_that_was_not_there_may_be_killed_at_once(
    tmp_path: Path, processes: list[Process]
) -> None:
    struck = strikes(tmp_path, Stack(*processes))
    assert struck.strike("kill the store") is None
    assert struck.strike("kill the store") is None
    assert struck.counts == {}


@pytest.mark.parametrize(
    "name",
    ["kill a function", "kill every function", "kill the watchdog", "stop a function",
     "stop the store"],
)  # fmt: skip
@pytest.mark.parametrize(
    "processes", [[], [Process(FUNCTION, is_alive=False)]], ids=["none", "dead"]
)
def test_strike_without_a_process_does_not_count(
    tmp_path: Path, name: str, processes: list[Process]
) -> None:
    struck = strikes(tmp_path, Stack(*processes))
    assert struck.strike(name) is None
    assert struck.counts == {}


@pytest.mark.parametrize("name", ["kill a function", "kill every function", "stop a function"])
def test_strike_of_a_function_counts(tmp_path: Path, name: str) -> None:
    function = Process(FUNCTION)
    struck = strikes(tmp_path, Stack(function))
    assert struck.strike(name) == name
    assert function.signals
    assert struck.counts == {name: 1}


@pytest.mark.parametrize("kind", KINDS)
def test_fault_is_requested_for_a_call_that_is_in_use(tmp_path: Path, kind: str) -> None:
    stack = Stack(grants=[WRITE])
    struck = strikes(tmp_path, stack)
    assert struck.strike(f"{kind} calls") == f"{kind} calls"
    assert [(fault["action"], fault["kind"]) for fault in stack.faults] == [(WRITE["action"], kind)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "stack",
    [Stack(), Stack(grants=[WRITE], status=0), Stack(grants=[WRITE], status=500)],
    ids=["nothing was used yet", "no answer", "an error"],
)
def test_fault_that_was_not_requested_does_not_count(
    tmp_path: Path, kind: str, stack: Stack
) -> None:
    struck = strikes(tmp_path, stack)
    assert struck.strike(f"{kind} calls") is None
    assert struck.counts == {}


@pytest.mark.parametrize("action", ["dynamodb:PartiQLUpdate", "dynamodb:ConditionCheckItem"])
def test_statements_and_checks_of_transactions_can_meet_one(tmp_path: Path, action: str) -> None:
    stack = Stack(grants=[{**WRITE, "action": action}])
    assert strikes(tmp_path, stack).strike("conflict calls") == "conflict calls"
    assert [fault["action"] for fault in stack.faults] == [action]


def test_throttles_are_drawn_among_calls_to_dynamodb(tmp_path: Path) -> None:
    stack = Stack(grants=OTHERS)
    struck = strikes(tmp_path, stack)
    for _ in range(20):
        struck.strike("throttle calls")
    assert {fault["action"] for fault in stack.faults} == {READ["action"]}


def test_conflicts_are_drawn_among_writes_to_dynamodb(tmp_path: Path) -> None:
    only_others = strikes(tmp_path, Stack(grants=OTHERS))
    assert only_others.strike("conflict calls") is None
    stack = Stack(grants=[*OTHERS, WRITE])
    struck = strikes(tmp_path, stack)
    for _ in range(20):
        struck.strike("conflict calls")
    assert {fault["action"] for fault in stack.faults} == {WRITE["action"]}


def test_fault_that_the_control_interface_refuses_is_an_error(tmp_path: Path) -> None:
    struck = strikes(tmp_path, Stack(grants=[WRITE], status=400))
    with pytest.raises(LocalError, match="does not take the fault"):
        struck.strike("lose calls")
