"""Several processes of bench.hammer on one emulator, started together."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mayfly import resources
from mayfly.counters import CounterStore

from bench.batch import make_stores
from mayfly_local.account import REGION
from mayfly_local.iam.credentials import FOREIGN
from mayfly_testing.stack import ROOT, emulator

__all__ = ["PROCESSES", "THREADS", "Ground", "ground"]

#: Sixteen threads in all.
PROCESSES, THREADS = 4, 4


@dataclass
class Ground:
    """The tables, and the environment in which processes find them."""

    env: dict[str, str]

    def hammer(self, **order: Any) -> list[dict[str, Any]]:
        """Runs an order in all processes, and returns the result of each thread."""
        started = [
            subprocess.Popen(
                [sys.executable, "-m", "bench.hammer",
                json.dumps({"process": number, "threads": THREADS, **order})],
                cwd=ROOT, env=self.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for number in range(PROCESSES)
        ]  # fmt: skip
        done: list[dict[str, Any]] = []
        for process in started:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for process in started:
            printed, _ = process.communicate()
            assert process.returncode == 0, printed
            done += json.loads(printed.splitlines()[-1])
        return done

    def counters(self) -> CounterStore:
        """Returns the counters, for this process."""
        return resources.counter_store(self.env)


@contextmanager
def ground() -> Iterator[Ground]:
    """Yields an emulator with the template's tables, which this process's clients use too."""
    with tempfile.TemporaryDirectory() as folder, emulator(Path(folder)) as endpoint:
        make_stores(endpoint, Path(folder))
        ours = {
            **FOREIGN.variables, "AWS_ENDPOINT_URL": endpoint, "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "COUNTERS_TABLE": "CountersTable",
            "PYTHONPATH": f"{ROOT / 'layers' / 'mayfly'}{os.pathsep}{ROOT}",
        }  # fmt: skip
        before = dict(os.environ)
        os.environ.update(ours)
        try:
            yield Ground({**before, **ours})
        finally:
            os.environ.clear()
            os.environ.update(before)
