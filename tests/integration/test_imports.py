"""An import of a large CSV file on a whole local stack.

Its worker is killed several times. A proxy counts the bytes that are read.
"""

import os
import random
import re
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from mayfly_local.emulator.clients import Clients
from mayfly_testing.stack import emulator, running, wait_until

CHECKPOINT = 8 * 1024 * 1024
RANGE = re.compile(rb"(?i)\r\nrange: bytes=(\d+)-(\d+)\r\n")


class Reads:
    """A TCP proxy before the emulator, which records the requested ranges of objects."""

    def __init__(self, endpoint: str) -> None:
        self.ranges: list[tuple[int, int]] = []
        self._target = ("127.0.0.1", int(endpoint.rsplit(":", 1)[1]))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._sockets = [self._listener]
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for each in self._sockets:
            each.close()

    def _start(self, target: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                self._start(self._copy, client, server, True)
                self._start(self._copy, server, client, False)

    def _copy(self, source: socket.socket, target: socket.socket, is_request: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if is_request:
                    self.ranges += [(int(start), int(end)) for start, end in RANGE.findall(data)]
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)


@contextmanager
def reads(endpoint: str) -> Iterator[Reads]:
    proxy = Reads(endpoint)
    try:
        yield proxy
    finally:
        proxy.close()


def make_file(path: Path, size: int) -> tuple[int, int, int]:
    """Writes the file.

    Returns its rows, the sum of its amounts in cents by plain Python, and its malformed rows.
    """
    dice, rows, total, malformed = random.Random(3), 0, 0, 0
    with path.open("w", newline="") as out:
        out.write("id,amount,note\n")
        while out.tell() < size:
            lines = []
            for _ in range(2000):
                if dice.random() < 0.0004:
                    lines.append("not a row\n")
                    malformed += 1
                    continue
                cents = dice.randrange(-(10**6), 10**6)
                sign, whole = "-" if cents < 0 else "", abs(cents)
                note = (
                    '"two\nlines, one row"'
                    if dice.random() < 0.01
                    else "x" * dice.randrange(20, 60)
                )
                lines.append(f"{rows},{sign}{whole // 100}.{whole % 100:02},{note}\n")
                total += cents
                rows += 1
            out.write("".join(lines))
    return rows, total, malformed


@pytest.mark.soak
@pytest.mark.timeout(420)
def test_large_file_is_added_up_exactly_once_in_bounded_memory_under_kills(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """The file is several checkpoints long; 100 MB in `make test-all`."""
    path = tmp_path / "large.csv"
    size = int(request.config.getoption("--megabytes")) * 1024 * 1024
    rows, cents, malformed = make_file(path, size)
    assert malformed > 100  # more than are kept
    again: list[int] = []
    peak = 0
    with (
        emulator(tmp_path / "store") as endpoint,
        reads(endpoint) as proxy,
        running(
            tmp_path, "--endpoint-url", proxy.endpoint, "--parameter", "LeaseSeconds=3"
        ) as stack,
    ):
        s3 = Clients(endpoint).get("s3")
        bucket = stack.facts["resources"]["ImportsBucket"]
        with path.open("rb") as body:
            s3.put_object(Bucket=bucket, Key="default/large.csv", Body=body)
        job_id = wait_until(
            lambda: [
                item["id"]["S"] for item in stack.items("JobsTable") if item["sk"]["S"] == "job"
            ],
            30,
        )[0]

        def is_past(offset: int) -> bool:
            nonlocal peak
            with suppress(psutil.Error, FileNotFoundError):
                peak = max(
                    peak,
                    *(
                        psutil.Process(pid).memory_info().rss
                        for pid in stack.environments("RunJobs")
                    ),
                    0,
                )
            return bool(proxy.ranges) and proxy.ranges[-1][0] >= offset

        for share in (0.2, 0.5, 0.8):
            wait_until(
                lambda: is_past(int(size * share)),  # noqa: B023  # called immediately
                120,
                interval=0.01,
                what=f"{share:.0%}",
            )
            for pid in stack.environments("RunJobs"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            before = len(proxy.ranges)
            reached = max(end for _, end in proxy.ranges) + 1
            wait_until(
                lambda: len(proxy.ranges) > before,  # noqa: B023  # called immediately
                120,
                what="the next attempt",
            )
            again.append(reached - proxy.ranges[before][0])
        wait_until(
            lambda: is_past(size * 2) or stack.job(job_id)["status"] == "succeeded",
            120,
            interval=0.02,
            what="the end",
        )
        job = stack.job(job_id)
        files, counted = stack.counter("csv.import.files"), stack.counter("csv.import.rows")

    result = job["result"]
    assert (result["rows"], result["malformed"], result["bytes"]) == (
        rows,
        malformed,
        path.stat().st_size,
    )
    assert (
        result["columns"]["amount"]["sum"]
        == f"{'-' if cents < 0 else ''}{abs(cents) // 100}.{abs(cents) % 100:02}"
    )
    assert result["columns"]["id"]["sum"] == str(rows * (rows - 1) // 2)
    assert len(result["rejected"]) == min(malformed, 100)
    assert (files, counted) == (1, rows)
    assert [each["outcome"] for each in job["attempts"]] == ["interrupted"] * 3 + ["succeeded"]
    assert all(each <= CHECKPOINT for each in again), again
    assert peak < 96 * 1024 * 1024, f"{peak / 1e6:.0f} MB"
    print(
        {
            "bytes": result["bytes"],
            "rows": rows,
            "read again": again,
            "peak MB": round(peak / 1024 / 1024, 1),
        }
    )
