"""The workers that are compared, each in its own process, and the stores that they use."""

import json
import os
import shutil
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from mayfly_local.iam.credentials import FOREIGN, emulator_variables
from mayfly_testing.stack import ROOT

__all__ = [
    "EXCLUSIVE",
    "OPTIMISTIC",
    "PEERS",
    "RECIPE",
    "Peer",
    "Worker",
    "canned",
    "canned_figures",
    "worker",
]

_HERE: Final = Path(__file__).parent


@dataclass(frozen=True)
class Peer:
    """A worker function of the comparison."""

    name: str
    folder: str
    task: str = ""


OPTIMISTIC: Final = Peer("ours, optimistic", "ours", "counter.add")
EXCLUSIVE: Final = Peer("ours, exclusive", "ours", "bench.exclusive")
RECIPE: Final = Peer("documented recipe", "mayfly_lab/stock")
PEERS: Final = (
    RECIPE,
    Peer("documented recipe, 10 threads", "bench/peers/threads"),
    Peer("one transaction a message", "bench/peers/transaction"),
    Peer("naive loop, not safe", "bench/peers/naive"),
    OPTIMISTIC,
    EXCLUSIVE,
)

_EXCLUSIVE_TASK: Final = """
from mayfly.jobs import Effects, Job, task


@task("bench.exclusive", exclusive=True)
def add(job: Job, effects: Effects) -> None:
    effects.increment(job.payload["name"])
"""


class Worker:
    """A peer's process."""

    def __init__(self, process: "subprocess.Popen[str]", peer: Peer) -> None:
        self._process = process
        self._peer = peer

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def start(self, batches: int, counters: Sequence[str]) -> None:
        """Starts working through batches of one message for each counter."""
        assert self._process.stdin is not None
        print(
            json.dumps({"batches": batches, "counters": list(counters), "task": self._peer.task}),
            file=self._process.stdin,
            flush=True,
        )

    def finish(self) -> dict[str, float]:
        """Waits for the started batches, and returns their figures."""
        assert self._process.stdout is not None
        figures: dict[str, float] = json.loads(self._process.stdout.readline())
        return figures

    def run(self, batches: int, counters: Sequence[str]) -> dict[str, float]:
        """Starts batches and waits for them; raises AssertionError if a record failed."""
        self.start(batches, counters)
        figures = self.finish()
        assert figures["failed"] == 0, (self._peer, figures)
        return figures


@contextmanager
def worker(peer: Peer, endpoint: str, work: Path, *, queue: str | None = None) -> Iterator[Worker]:
    """Runs a peer's process against a store, until the end of the block."""
    folder, path, main = ROOT / peer.folder, "", "main"
    if peer.folder == "ours":
        folder, path, main = work / "functions", str(ROOT / "layers/mayfly"), "run_jobs.main"
        if not folder.exists():
            shutil.copytree(
                ROOT / "functions", folder, ignore=shutil.ignore_patterns("__pycache__")
            )
            (folder / "tasks/bench_exclusive.py").write_text(_EXCLUSIVE_TASK)
    env = {
        "PATH": os.environ.get("PATH", ""), **emulator_variables(endpoint, FOREIGN),
        "PYTHONPATH": path, "POWERTOOLS_SERVICE_NAME": "bench",
        "POWERTOOLS_METRICS_DISABLED": "true", "POWERTOOLS_LOG_LEVEL": "WARNING",
        "AWS_LAMBDA_FUNCTION_NAME": "bench",
        "JOBS_TABLE": "JobsTable", "COUNTERS_TABLE": "CountersTable", "IMPORTS_BUCKET": "imports",
        "IDEMPOTENCY_TABLE": "Idempotency", "DEFAULT_TENANT": "default",
        "JOBS_QUEUE_URL": queue or f"{endpoint}/000000000000/jobs",
        **({"BENCH_REAL_QUEUE": "1"} if queue else {}),
        # Without a Runtime API, the library would take boto3.
        **({"MAYFLY_CLIENT": "lean"} if peer.folder == "ours" else {}),
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, _HERE / "runner.py", main],
        cwd=folder,
        env=env,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n", peer
        yield Worker(process, peer)
    finally:
        process.stdin.close()
        process.wait(30)
        process.stdout.close()


@contextmanager
def canned(
    latency: float = 0.0, *, tls: Path | None = None, answers: Path | None = None
) -> Iterator[str]:
    """Yields the endpoint of a store that answers after `latency` seconds.

    `tls` is a file with a certificate and its key. `answers` is a file with a JSON object: the
    answer of each operation that must not be empty.
    """
    options = [
        *("--latency", str(latency)),
        *(("--tls", tls) if tls else ()),
        *(("--answers", answers) if answers else ()),
    ]
    process = subprocess.Popen(
        [sys.executable, _HERE / "canned.py", *options],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        port = process.stdout.readline().strip()
        yield f"{'https' if tls else 'http'}://127.0.0.1:{port}"
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def canned_figures(endpoint: str, tls: ssl.SSLContext | None = None) -> Mapping[str, Any]:
    """Returns the canned store's counts of requests since the last call."""
    request = urllib.request.Request(
        endpoint, data=b"{}", headers={"X-Amz-Target": "Bench.Figures"}
    )
    with urllib.request.urlopen(request, timeout=10, context=tls) as reply:
        counts: dict[str, Any] = json.loads(reply.read())
        return counts
