"""Rounds of kills on one state folder.

A stack under load is killed at a random moment and started again. After every round, all
acknowledged changes must be there. For the tests in tests/integration/test_state.py, and by hand:
`python -m tests.support.state_rounds KIND ROUNDS`.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import requests

from mayfly_lab.chaos.application import impatient
from mayfly_testing.stack import MAYFLY, ROOT, Stack, await_start, launch, unused_port, wait_until

__all__ = [
    "Acknowledged",
    "Folder",
    "Load",
    "grow",
    "grown",
    "impatient_application",
    "kill_rounds",
    "small_disk",
    "times",
    "truncation_rounds",
]

_START_SECONDS = 90


@dataclass
class Acknowledged:
    """Acknowledged changes over all rounds; jobs with their effect.

    Unanswered requests may have counted or not.
    """

    jobs: dict[str, int] = field(default_factory=dict)
    increments: int = 0
    unanswered: int = 0
    unanswered_jobs: int = 0
    sessions: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Returns the number of acknowledged changes."""
        return len(self.jobs) + self.increments + len(self.sessions)

    def after(self, more: int) -> None:
        """Waits for this many more acknowledgements: a random moment under load."""
        target = self.count + more
        wait_until(
            lambda: self.count >= target, 90, what=f"{more} acknowledgements", interval=0.001
        )


class Load:
    """Callers on threads, each with one request at a time, until stopped.

    The end of its context stops them, too.
    """

    def __init__(self, stack: Stack, acknowledged: Acknowledged, *, callers: int = 4) -> None:
        self._url, self._headers, self._acknowledged = stack.url, stack.headers, acknowledged
        self._lock = threading.Lock()
        self._ends = threading.Event()
        self._dice = random.Random()
        self.errors: Counter[str] = Counter()
        self._threads = [
            threading.Thread(target=self._call, args=(number,), daemon=True)
            for number in range(callers)
        ]
        for thread in self._threads:
            thread.start()

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def refused(self, more: int) -> None:
        """Waits for this many more failed requests."""
        target = self.errors.total() + more
        wait_until(lambda: self.errors.total() >= target, 60, what=f"{more} refusals")

    def stop(self) -> None:
        """Ends the callers; requests in flight count as unanswered."""
        self._ends.set()
        for thread in self._threads:
            thread.join(30)

    def _call(self, number: int) -> None:
        with requests.Session() as session:
            session.headers.update(self._headers)
            turn = number
            while not self._ends.is_set():
                turn += 1
                try:
                    (self._submit, self._increment, self._submit, self._begin)[turn % 4](session)
                except requests.RequestException as problem:
                    self.errors[type(problem).__name__] += 1
                    self._ends.wait(0.05)

    def _submit(self, session: requests.Session) -> None:
        by = self._dice.randrange(1, 9)
        body = {"task": "counter.add", "payload": {"name": "rounds-jobs", "by": by}}
        with self._lock:
            self._acknowledged.unanswered_jobs += by
        reply = session.post(
            f"{self._url}/jobs",
            json=body,
            headers={"Idempotency-Key": uuid.uuid4().hex},
            timeout=40,
        )
        if reply.status_code == 202:
            with self._lock:
                self._acknowledged.unanswered_jobs -= by
                self._acknowledged.jobs[reply.json()["id"]] = by
        else:
            self.errors[str(reply.status_code)] += 1

    def _increment(self, session: requests.Session) -> None:
        with self._lock:
            self._acknowledged.unanswered += 1
        reply = session.post(
            f"{self._url}/counters/rounds-plain/increment", json={"by": 1}, timeout=40
        )
        if reply.status_code == 200:
            with self._lock:
                self._acknowledged.unanswered -= 1
                self._acknowledged.increments += 1
        else:
            self.errors[str(reply.status_code)] += 1

    def _begin(self, session: requests.Session) -> None:
        reply = session.post(f"{self._url}/sessions", json={"subject": "rounds"}, timeout=40)
        if reply.status_code == 201:
            self._acknowledged.sessions.append(reply.json()["token"])
        else:
            self.errors[str(reply.status_code)] += 1


class Folder:
    """Stacks in sequence on the same folder and port."""

    def __init__(self, folder: Path, *, state: Path | None = None) -> None:
        self.folder, self.state = folder, state or folder / "state"
        self.port = unused_port()
        self.said = ""
        folder.mkdir(parents=True, exist_ok=True)
        self.template = impatient_application(folder / "app")

    @contextlib.contextmanager
    def running(self, *options: str) -> Iterator[Stack]:
        """Starts a stack; all its processes are gone afterwards."""
        stack = launch(
            [str(MAYFLY)], self.folder, "--state", str(self.state), "--no-reload", *options,
            template=self.template, port=self.port,
        )  # fmt: skip
        process = stack.process
        try:
            await_start(stack, _START_SECONDS)
            self.said = stack.output
            yield stack
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(30)

    def refused(self) -> str:
        """Returns the output of a start that ends with 1."""
        command = [str(MAYFLY), "up", "--template", str(self.template), "--port", str(self.port)]
        done = subprocess.run(
            [*command, "--work", str(self.folder / "work"), "--state", str(self.state)],
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
            cwd=self.folder,
        )
        assert done.returncode == 1, done.stdout + done.stderr
        assert "Traceback" not in done.stdout + done.stderr
        said: str = done.stdout + done.stderr
        return said


def impatient_application(folder: Path) -> Path:
    """Returns this repository's application with messages that return soon after a kill.

    That is the cost of a kill before a worker's first call.
    """
    (folder / ".mayfly").mkdir(parents=True, exist_ok=True)
    for name in ("functions", "layers", ".mayfly/cache"):
        if not (folder / name).exists():
            (folder / name).symlink_to(ROOT / name)
    (folder / "template.yaml").write_text(impatient((ROOT / "template.yaml").read_text()))
    return folder / "template.yaml"


def strike(stack: Stack, dice: random.Random) -> str:
    """Stops a stack in one of the ways that occur on a machine; returns the way."""
    way = dice.choice(["kill up", "kill store", "kill all", "term", "term term"])
    match way:
        case "kill up":
            stack.process.kill()
        case "kill store":
            stack.store().kill()
        case "kill all":
            for process in reversed(stack.tree()):
                with contextlib.suppress(psutil.Error):
                    process.kill()
        case "term" | "term term":
            stack.process.terminate()
            if way == "term term":
                wait_until(
                    lambda: "stopping: " in stack.output or dice.random() < 0.1,
                    30,
                    what="the first signal's effect",
                )
                with contextlib.suppress(ProcessLookupError):
                    stack.process.terminate()
    return way


def kill_rounds(
    folder: Folder,
    rounds: int,
    *,
    seed: int,
    acknowledged: Acknowledged | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Acknowledged:
    """Kills a stack under load many times.

    After each restart everything acknowledged must be there.
    """
    dice, acknowledged = random.Random(seed), acknowledged or Acknowledged()
    for number in range(1, rounds + 1):
        with folder.running() as stack:
            check_present(stack, acknowledged)
            with Load(stack, acknowledged) as load:
                acknowledged.after(dice.randrange(1, 60))
                way = strike(stack, dice)
                if way == "kill store":
                    wait_until(
                        lambda: "emulator is up again" in stack.output,
                        _START_SECONDS,
                        what="the store's second start",
                    )
                    acknowledged.after(10)
                    load.stop()
                    check_present(stack, acknowledged)
                else:
                    stack.process.wait(60)
                    load.stop()
        say(
            f"round {number}: {way:<10} {len(acknowledged.jobs)} jobs, "
            f"{acknowledged.increments} increments, "
            f"{len(acknowledged.sessions)} sessions acknowledged, lost 0"
        )
    with folder.running() as stack:
        check_present(stack, acknowledged)
        check_settled(stack, acknowledged)
    return acknowledged


def truncation_rounds(
    folder: Folder, rounds: int, *, seed: int, say: Callable[[str], None] = lambda text: None
) -> None:
    """Cuts the newest file at a random byte after each kill.

    The next start reports it, and the rest is consistent.
    """
    dice = random.Random(seed)
    cut = 0
    for number in range(1, rounds + 1):
        with folder.running() as stack:
            assert (
                not cut or "were not a complete write" in folder.said or "was killed" in folder.said
            ), folder.said
            check_consistent(stack)
            acknowledged = Acknowledged()
            with Load(stack, acknowledged) as load:
                acknowledged.after(dice.randrange(10, 60))
                stack.process.kill()
                stack.process.wait(30)
                load.stop()
        wait_until(lambda: not is_held(folder.state), 10, what="the store's end")
        path = max(
            folder.state.glob("journal-*.log"), key=lambda each: int(each.stem.partition("-")[2])
        )
        size = path.stat().st_size
        cut = min(size // 2, dice.randrange(1, 20_000))
        os.truncate(path, size - cut)
        say(f"round {number}: {cut} of {size} bytes cut")
    with folder.running() as stack:
        check_consistent(stack)


def is_held(state: Path) -> bool:
    """Returns True if a process holds the folder's lock."""
    import fcntl

    with (state / "lock").open("r+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def check_present(stack: Stack, acknowledged: Acknowledged) -> None:
    """Fails if an acknowledged change is missing."""
    lost = set(acknowledged.jobs) - set(_read(stack, list(acknowledged.jobs)))
    assert not lost, (
        f"{len(lost)} of {len(acknowledged.jobs)} acknowledged jobs are lost:\n"
        f"{stack.output[-2000:]}"
    )
    plain = stack.counter("rounds-plain")
    assert acknowledged.increments <= plain <= acknowledged.increments + acknowledged.unanswered, (
        plain,
        acknowledged.increments,
        acknowledged.unanswered,
    )
    for token in acknowledged.sessions[-20:]:
        reply = requests.get(
            f"{stack.url}/sessions/current",
            headers={**stack.headers, "Session-Token": token},
            timeout=60,
        )
        assert reply.status_code == 200, reply.text


def check_consistent(stack: Stack) -> None:
    """Fails if a job has ended without its effect, or has an effect without its end."""
    wait_until(
        lambda: stack.counter("rounds-jobs") == sum(item["by"] for item in _completed(stack)),
        30,
        what="agreement of jobs and counter",
    )


def check_settled(stack: Stack, acknowledged: Acknowledged) -> None:
    """Fails unless every accepted job ends, and the effect of each counts once.

    Submissions without an answer may have counted.
    """
    left = set(acknowledged.jobs)

    def is_over() -> bool:
        left.difference_update(
            job_id for job_id, status in _read(stack, sorted(left)).items() if status == "COMPLETED"
        )
        return not left

    wait_until(is_over, 150, what="the end of every accepted job", interval=0.5)
    counted = sum(acknowledged.jobs.values())
    wait_until(
        lambda: counted <= stack.counter("rounds-jobs") <= counted + acknowledged.unanswered_jobs,
        5,
        what="a count of each effect",
    )


def _read(stack: Stack, ids: list[str]) -> dict[str, str]:
    """Returns the status of every job by id; strongly consistent."""
    client, table = stack.client("dynamodb"), stack.facts["resources"]["JobsTable"]
    found: dict[str, str] = {}
    for start in range(0, len(ids), 100):
        keys = [
            {"pk": {"S": f"default/{job_id}"}, "sk": {"S": "job"}}
            for job_id in ids[start : start + 100]
        ]
        reply = client.batch_get_item(RequestItems={table: {"Keys": keys, "ConsistentRead": True}})
        assert not reply.get("UnprocessedKeys")
        found |= {item["id"]["S"]: item["status"]["S"] for item in reply["Responses"][table]}
    return found


def _jobs(stack: Stack) -> list[dict[str, Any]]:
    return [
        item
        for item in stack.items("JobsTable")
        if item["sk"]["S"] == "job" and "rounds-jobs" in item.get("payload", {}).get("S", "")
    ]


def _completed(stack: Stack) -> list[dict[str, Any]]:
    return [
        json.loads(item["payload"]["S"])
        for item in _jobs(stack)
        if item["status"]["S"] == "COMPLETED"
    ]


def grow(state: Path, megabytes: int) -> int:
    """Makes a state as large as longer use would: clones an ended job under new ids.

    Returns the number of clones.
    """
    from mayfly_local.emulator.journal import Journal
    from mayfly_local.emulator.packed import dump, load

    journal = Journal(state, lambda text: None)
    jobs: dict[Any, bytes] = {}

    def take(key: tuple[Any, ...], value: bytes | None) -> None:
        if (
            key[0] == "item"
            and "JobsTable" in key[3]
            and value is not None
            and load(value).get("status") == {"S": "COMPLETED"}
        ):
            jobs[key] = value

    journal.read(take)
    key, value = next(iter(jobs.items()))
    item, made = load(value), 0
    while journal.size < megabytes * 1_000_000:
        rows = []
        for _ in range(500):
            made += 1
            item["id"], item["pk"] = {"S": f"grown-{made}"}, {"S": f"grown/grown-{made}"}
            rows.append((("item", *key[1:4], item["pk"]["S"], *key[5:]), dump(item)))
        journal.append(rows)
    journal.close()
    return made


def grown(base: Path, megabytes: int) -> Folder:
    """Returns a folder whose state is at least as large as this, with one job that counts for 1."""
    folder = Folder(base)
    with folder.running() as running:
        running.submit("counter.add", {"name": "rounds-jobs", "by": 1})
        wait_until(lambda: _completed(running), 30)
        running.stop()
    grow(folder.state, megabytes)
    return folder


def times(
    base: Path,
    rounds: int,
    *,
    sizes: tuple[int, ...] = (1, 50, 500),
    say: Callable[[str], None] = lambda text: None,
) -> None:
    """Measures starts and stops for each size of state, in MB.

    A start is measured until the stack is up, a stop until its process has ended.
    """
    for megabytes in sizes:
        folder = grown(base / str(megabytes), megabytes)
        starts, stops = [], []
        for _ in range(rounds):
            before = time.monotonic()
            with folder.running() as stack:
                starts.append(time.monotonic() - before)
                before = time.monotonic()
                stack.process.terminate()
                assert stack.process.wait(60) == 0, stack.output
                stops.append(time.monotonic() - before)
        parts = [
            f"{name} {', '.join(f'{each:.2f}' for each in seconds)} s"
            for name, seconds in (("start", starts), ("stop", stops))
        ]
        say(f"{megabytes:>4} MB: {'; '.join(parts)}")


@contextlib.contextmanager
def small_disk(folder: Path, *, kilobytes: int) -> Iterator[Path]:
    """Mounts a file system that is soon full; needs root."""
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k,mode=700", "tmpfs", str(folder)],
        check=True,
    )
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def full_disk_rounds(
    folder: Folder, rounds: int, *, seed: int, say: Callable[[str], None] = lambda text: None
) -> Acknowledged:
    """Fills the disk under load.

    Failed writes are not acknowledged, and the stack continues when there is space.
    """
    dice, acknowledged = random.Random(seed), Acknowledged()
    ballast = folder.state.parent / "ballast"
    for number in range(1, rounds + 1):
        with folder.running() as stack:
            check_present(stack, acknowledged)
            with Load(stack, acknowledged) as load:
                acknowledged.after(dice.randrange(1, 30))
                free = shutil.disk_usage(folder.state).free
                with contextlib.suppress(OSError), ballast.open("wb") as file:
                    file.write(bytes(max(0, free - dice.randrange(4_000, 60_000))))
                wait_until(
                    lambda: "Nothing is acknowledged until it can" in stack.output,
                    60,
                    what="a full disk",
                )
                load.refused(dice.randrange(1, 5))
                ends = dice.choice(["room", "kill", "term"])
                if ends == "room":
                    ballast.unlink()
                    wait_until(
                        lambda: "the state is written again" in stack.output,
                        30,
                        what="a disk with room",
                    )
                    load.stop()
                    check_present(stack, acknowledged)
                load.stop()
                (stack.process.kill if ends == "kill" else stack.process.terminate)()
                stack.process.wait(60)
        ballast.unlink(missing_ok=True)
        say(
            f"round {number}: {ends:<5} {len(acknowledged.jobs)} jobs, "
            f"{acknowledged.increments} increments "
            f"acknowledged, lost 0; {dict(load.errors)}"
        )
    with folder.running() as stack:
        check_present(stack, acknowledged)
        check_settled(stack, acknowledged)
    return acknowledged


def main() -> int:
    """Runs one kind of rounds and prints each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["kill", "full", "large", "truncated", "times"])
    parser.add_argument("rounds", type=int)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--megabytes", type=int, default=500)
    options = parser.parse_args()
    started = time.monotonic()

    def say(text: str) -> None:
        print(text, flush=True)

    say(f"seed {options.seed}")
    acknowledged: Acknowledged | None = None
    with (
        tempfile.TemporaryDirectory(prefix="mayfly-rounds-") as name,
        contextlib.ExitStack() as stack,
    ):
        folder = Folder(Path(name))
        match options.kind:
            case "kill":
                acknowledged = kill_rounds(folder, options.rounds, seed=options.seed, say=say)
            case "truncated":
                truncation_rounds(folder, options.rounds, seed=options.seed, say=say)
            case "times":
                times(Path(name), options.rounds, say=say)
            case "full":
                disk = stack.enter_context(small_disk(Path(name) / "disk", kilobytes=40_000))
                acknowledged = full_disk_rounds(
                    Folder(Path(name), state=disk / "state"),
                    options.rounds,
                    seed=options.seed,
                    say=say,
                )
            case _:
                folder = grown(Path(name) / "large", options.megabytes)
                acknowledged = kill_rounds(
                    folder,
                    options.rounds,
                    seed=options.seed,
                    acknowledged=Acknowledged(unanswered_jobs=1),
                    say=say,
                )
    counted = (
        f"; {len(acknowledged.jobs)} jobs, {acknowledged.increments} increments, "
        f"{len(acknowledged.sessions)} sessions "
        "acknowledged: lost 0"
        if acknowledged
        else ""
    )
    say(f"{options.rounds} rounds of {options.kind} in {time.monotonic() - started:.0f} s{counted}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
