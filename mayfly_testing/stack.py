"""A local stack as users run it: the `mayfly up` command in a process of its own.

For tests and benchmarks.
"""

import asyncio
import io
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urljoin

import psutil
import requests

from mayfly_local.emulator.clients import Clients
from mayfly_local.emulator.process import Emulator, free_port
from mayfly_local.iam.credentials import FOREIGN, Credentials, Keys
from mayfly_local.logs import Logs
from mayfly_local.processes.children import Children
from mayfly_local.processes.moved_time import reader
from mayfly_local.stack_file import StackFile

__all__ = [
    "MAYFLY",
    "POINTS",
    "ROOT",
    "Stack",
    "await_start",
    "emulator",
    "launch",
    "running",
    "unbuffered",
    "unused_port",
    "wait_until",
]

T = TypeVar("T")

ROOT = Path(__file__).parent.parent
MAYFLY = Path(sys.executable).parent / "mayfly"
#: The statuses of a job that has ended.
ENDED: Final = ("succeeded", "dead", "cancelled")
#: The end of the handler of the function that runs jobs.
WORKER: Final = "run_jobs.main.handler"
#: The points of `kill_worker`: the kind of fault, and the text of the call that it strikes. Only
#: the commit of a job writes this status.
POINTS: Final = {
    "before-claim": ("kill", ""),
    "effect-staged": ("kill", '"COMPLETED"'),
    "commit": ("kill-after", '"COMPLETED"'),
    "answer-lost": ("lose", '"COMPLETED"'),
}


@dataclass
class Stack:
    """A running stack. `output` reads what it has printed so far."""

    process: subprocess.Popen[bytes]
    port: int
    work: Path
    printed: Path
    _clients: list[Clients] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The URL of its API."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        """The text that it has printed so far."""
        return self.printed.read_text()

    @property
    def facts(self) -> dict[str, Any]:
        """The contents of its stack file."""
        facts: dict[str, Any] = json.loads((self.work / "stack.json").read_text())
        return facts

    @cached_property
    def nesting(self) -> str:
        """The beginning of the logical ids of Mayfly's resources, if the application nests them."""
        return StackFile.read(self.work).nesting("TenantsTable")

    @property
    def api(self) -> str:
        """The URL of Mayfly's API, which is another one than `url` if the application nests it."""
        return str(self.facts["apis"].get(f"{self.nesting}Api", self.url))

    @property
    def key(self) -> str:
        """Its development key."""
        match = re.search(r"mf_dev_\w+", self.output)
        assert match, self.output
        return match[0]

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a caller with the development key."""
        return {"Authorization": f"Bearer {self.key}"}

    def get(self, path: str, **options: Any) -> requests.Response:
        """Sends a GET request without credentials."""
        return requests.get(self.url + path, timeout=60, **options)

    def submit(self, task: str, payload: Any = None, **more: Any) -> dict[str, Any]:
        """Submits a job by HTTP."""
        reply = requests.post(
            f"{self.api}/jobs",
            json={"task": task, "payload": payload, **more},
            headers=self.headers,
            timeout=60,
        )
        assert reply.status_code == 202, (reply.text, self.output)
        job: dict[str, Any] = reply.json()
        return job

    def knows(self, task: str) -> bool:
        """Returns whether the API accepts jobs of a task by now, without submitting one."""
        # If the task is known, the API refuses the job for its time.
        body = {"task": task, "run_at": "2999-01-01T00:00:00Z"}
        reply = requests.post(f"{self.api}/jobs", json=body, headers=self.headers, timeout=60)
        return bool(reply.json()["code"] != "unknown-task")

    def job(self, job_id: str, wait: int = 0) -> dict[str, Any]:
        """Reads a job by HTTP."""
        url = f"{self.api}/jobs/{job_id}?wait={wait}"
        job: dict[str, Any] = requests.get(url, headers=self.headers, timeout=60).json()
        return job

    def slowness(self) -> float:
        """Returns how late a job starts at this moment, in seconds.

        The job is due immediately. The figure shows the delay that a loaded machine adds to any
        start.
        """
        submitted = time.time()
        job_id = self.submit("counter.add", {"name": "slowness"})["id"]
        job = wait_until(
            lambda: (current := self.job(job_id, wait=20))["status"] == "succeeded" and current, 90
        )
        return datetime.fromisoformat(job["attempts"][0]["started_at"]).timestamp() - submitted

    def redrive(self, job_id: str) -> dict[str, Any]:
        """Redrives a dead job by HTTP."""
        reply = requests.post(f"{self.api}/jobs/{job_id}/redrive", headers=self.headers, timeout=60)
        assert reply.status_code == 202, reply.text
        job: dict[str, Any] = reply.json()
        return job

    def client(self, service: str) -> Any:
        """Returns an AWS client for its emulator, the same each time."""
        if not self._clients:
            self._clients.append(Clients(self.facts["endpoint"], self.credentials))
        return self._clients[0].get(service)

    @property
    def credentials(self) -> Credentials:
        """The access key of people and tools."""
        kept = self.facts["credentials"]
        return Credentials(kept["AWS_ACCESS_KEY_ID"], kept["AWS_SECRET_ACCESS_KEY"])

    def control(
        self, path: str, body: Any = None, *, timeout: float | None = 10
    ) -> requests.Response:
        """Sends a control request to the emulator's guard, with the access key of people."""
        url = f"{self.facts['endpoint']}/_mayfly/{path}"
        headers = {"Authorization": f"Bearer {self.credentials.id}"}
        return requests.request(
            "GET" if body is None else "POST", url, json=body, headers=headers, timeout=timeout
        )

    def items(self, table: str) -> list[dict[str, Any]]:
        """Returns all items of a table, by its logical id."""
        pages = (
            self.client("dynamodb")
            .get_paginator("scan")
            .paginate(TableName=self.facts["resources"][table], ConsistentRead=True)
        )
        return [item for page in pages for item in page["Items"]]

    def counter(self, name: str, tenant: str = "default") -> int:
        """Returns the value of a counter, read from its table."""
        items = [
            item
            for item in self.items(f"{self.nesting}CountersTable")
            if item["pk"]["S"] == f"{tenant}/{name}"
        ]
        return int(items[0]["value"]["N"]) if items else 0

    def log(self, function: str) -> list[dict[str, Any]]:
        """Returns the entries of a function's log."""
        return [
            json.loads(line)
            for line in (self.work / "logs" / f"{function}.jsonl").read_text().splitlines()
        ]

    @property
    def logs(self) -> dict[str, list[dict[str, Any]]]:
        """The entries of each log so far, by the logical id of its function."""
        folder = self.work / "logs"
        return {path.stem: self.log(path.stem) for path in sorted(folder.glob("*.jsonl"))}

    @property
    def now(self) -> datetime:
        """The time of the stack, in UTC; the machine's if its clock cannot be moved."""
        clock = self.work / "clock"
        seconds = reader(str(clock))() / 1e9 if clock.exists() else time.time()
        return datetime.fromtimestamp(seconds, UTC)

    def http(self, method: str, path: str, **options: Any) -> requests.Response:
        """Sends a request with the development key; options are those of `requests.request`.

        The path may be a whole URL. `headers={}` sends no key.
        """
        options = {"headers": self.headers, **options}
        return requests.request(method, urljoin(self.url, path), timeout=60, **options)

    def wait(self, job: str | dict[str, Any], seconds: float = 60) -> dict[str, Any]:
        """Returns a job when it has ended; `job` is its id, or what `submit` returned.

        Raises AssertionError if it has not ended within some real seconds.
        """
        job_id = job if isinstance(job, str) else job["id"]

        def ended() -> dict[str, Any]:
            current = self.job(job_id, wait=1)
            return current if current["status"] in ENDED else {}

        return wait_until(ended, seconds, what=f"the end of job {job_id}")

    def advance(self, seconds: float, *, at_once: bool = False) -> None:
        """Moves the stack's time ahead: that of its functions, tables and queues.

        It stops at each due time until what is due there has run: a schedule, a delay, a message
        that comes back, an item that expires. With `at_once` it moves only once, and what was due
        meanwhile is late, as after an outage. Returns when everything that is due has run. Code
        that reads the system clock itself is not moved. Raises AssertionError if something that
        runs does not end, ValueError if `seconds` is not a number from 0 on.
        """
        if not 0 <= seconds < math.inf:
            raise ValueError(f"seconds is a number from 0 on, not {seconds}")
        arguments = {"seconds": float(seconds), "at_once": at_once}
        reply = self.control("advance", arguments, timeout=None)
        reply.raise_for_status()
        if problem := reply.json().get("problem"):
            raise AssertionError(f"the stack's time was not advanced: {problem}")

    def kill_worker(self, at: str, *, function: str | None = None) -> None:
        """Strikes the worker of the next job, once, at one of these points.

        ::

            before-claim     killed at its first call of a table, which has no effect
            effect-staged    killed when the task has returned, and nothing is written
            commit           killed when everything is written, before it knows that
            answer-lost      not killed, but the response to the write is lost

        The job's message comes back after its lease: `advance` need not wait for that. `function`
        is the logical id of another function than the one that runs jobs. At the end of a test,
        the fixture `mayfly_stack` raises AssertionError if the point was not reached. Raises
        ValueError for an unknown point or function.
        """
        if at not in POINTS:
            raise ValueError(f"{at!r} is not one of {', '.join(POINTS)}")
        functions = list(self.facts["launches"])
        if function is not None and function not in functions:
            raise ValueError(f"{function!r} is not a function: {', '.join(functions)}")
        kind, containing = POINTS[at]
        fault = {"function": function or self.worker, "action": "dynamodb:*", "kind": kind}
        reply = self.control("faults", {**fault, "times": 1, "containing": containing})
        reply.raise_for_status()

    def missed_strikes(self) -> int:
        """Forgets the strikes of `kill_worker` that met no job, and returns their number."""
        reply = self.control("clear-faults", {})
        reply.raise_for_status()
        return int(reply.json()["cleared"])

    @property
    def worker(self) -> str:
        """The logical id of the function that runs jobs. Raises ValueError if there is none."""
        launches: dict[str, dict[str, Any]] = self.facts["launches"]
        for name, launch in launches.items():
            if launch["handler"].endswith(WORKER):
                return name
        raise ValueError(f"no function has the handler {WORKER}: {', '.join(launches)}")

    def tree(self) -> list[psutil.Process]:
        """Returns its processes, itself first."""
        top = psutil.Process(self.process.pid)
        return [top, *top.children(recursive=True)]

    def store(self) -> psutil.Process:
        """Returns the process that holds its state."""
        return next(
            process for process in self.tree() if "mayfly_local.emulator.main" in process.cmdline()
        )

    def environments(self, function: str) -> set[int]:
        """Returns the process ids of a function's running environments, from its log."""
        started = {entry["pid"] for entry in self.log(function) if entry["type"] == "init"}
        return started & {process.pid for process in self.tree()}

    def kill_environments(self, *functions: str, number: int = signal.SIGKILL) -> int:
        """Sends a signal to functions' running environments; returns how many got it."""
        struck = 0
        for pid in set().union(*map(self.environments, functions)):
            with suppress(ProcessLookupError):  # It has ended just now.
                os.kill(pid, number)
                struck += 1
        return struck

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Sends a signal and returns the exit code."""
        self.process.send_signal(number)
        return self.process.wait(60)


def unbuffered() -> dict[str, str]:
    """Returns this process's variables, for a child whose output is read while it runs."""
    return {**os.environ, "PYTHONUNBUFFERED": "1"}


def unused_port() -> int:
    """Returns a free port whose next port is free as well, for the stack's emulator.

    Both are below the ports of outgoing connections.
    """
    while True:
        port = random.randrange(20_000, 32_000, 2)  # noqa: S311 - only where the search begins
        if free_port(port) == port and free_port(port + 1) == port + 1:
            return port


def launch(
    command: Sequence[str],
    folder: Path,
    *options: str,
    template: Path = ROOT / "template.yaml",
    work: Path | None = None,
    port: int | None = None,
    has_own_session: bool = False,
) -> Stack:
    """Starts `mayfly up` by a command, and does not wait for it: see `await_start`.

    With a session of its own, the terminal's Ctrl-C does not reach it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    work, printed = work or folder / "work", folder / "output"
    port = port or unused_port()
    arguments = ["--template", str(template), "--port", str(port), "--work", str(work), *options]
    with printed.open("wb") as output:
        process = subprocess.Popen(
            [*command, "up", *arguments], stdout=output, stderr=subprocess.STDOUT, cwd=folder,
            env=unbuffered(), start_new_session=has_own_session,
        )  # fmt: skip
    return Stack(process, port, work, printed)


def await_start(stack: Stack, seconds: float = 90) -> None:
    """Waits until a stack is up. Raises AssertionError if it ends, or if that takes longer."""
    process = stack.process
    wait_until(
        lambda: "stop with Ctrl-C" in stack.output or process.poll() is not None,
        seconds,
        what="start",
    )
    if process.poll() is not None:
        raise AssertionError(f"mayfly up ended with {process.returncode}:\n{stack.output}")


@contextmanager
def running(
    folder: Path,
    *options: str,
    template: Path = ROOT / "template.yaml",
    work: Path | None = None,
    files: int | None = None,
    through: Sequence[str] = (),
) -> Iterator[Stack]:
    """Yields a running stack, and kills it at the end if the test has not stopped it.

    On a failure its output is printed. `files` limits its open files; macOS starts with 256.
    `through` is a command that runs the one behind it.
    """
    command = [*through, str(MAYFLY)]
    if files is not None:
        command = ["sh", "-c", f'ulimit -n {files}; exec "$0" "$@"', *command]
    stack = launch(command, folder, *_strictness(template), *options, template=template, work=work)
    process = stack.process
    try:
        await_start(stack)
        yield stack
    except BaseException:
        print(stack.output[-5000:])
        raise
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _strictness(template: Path) -> list[str]:
    """Returns the option that refuses absent parts, for the product's own template."""
    return ["--strict"] if template == ROOT / "template.yaml" else []


@contextmanager
def emulator(work: Path, *, transaction_seconds: float = 0.0) -> Iterator[str]:
    """Yields the endpoint of an emulator alone, in memory, that accepts any credentials.

    Transactions hold their items for `transaction_seconds`.
    """
    loop = asyncio.new_event_loop()
    runner = threading.Thread(target=loop.run_forever, daemon=True)
    children, logs = Children(), Logs(work / "logs", form="json", out=io.StringIO())
    # Every caller may create stacks, as at an endpoint of one's own.
    keys = Keys(people=FOREIGN, runtime=FOREIGN)
    server = Emulator(
        unused_port(),
        work=work,
        state=None,
        log=logs.of("emulator"),
        keys=keys,
        any_credentials=True,
        transaction_seconds=transaction_seconds,
    )

    async def start() -> None:
        await children.open()
        await server.start(children)

    async def stop() -> None:
        await server.stop()
        await children.close()

    # The loop's own thread must start the child, because the child dies with the thread that
    # started it.
    runner.start()
    asyncio.run_coroutine_threadsafe(start(), loop).result(60)
    try:
        yield server.endpoint
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(30)
        loop.call_soon_threadsafe(loop.stop)
        runner.join(5)
        loop.close()
        logs.close()


def wait_until(
    predicate: Callable[[], T], timeout: float, *, what: str = "", interval: float | None = None
) -> T:
    """Returns the first true value of `predicate`.

    Raises AssertionError if it is not true within `timeout` seconds. Without an interval the
    pauses grow from 20 to 100 ms, since each call costs the stack time.
    """
    deadline = time.monotonic() + timeout
    pause, longest = (0.02, 0.1) if interval is None else (interval, interval)
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what or 'it'} did not happen within {timeout} s")
        time.sleep(pause)
        pause = min(pause * 1.2, longest)
