"""Many processes at once, with exact counts."""

import json
import subprocess
import sys
from contextlib import ExitStack
from typing import Any

import pytest
from mayfly.jobs.model import Status

from mayfly_testing.stack import ROOT
from tests.conftest import make_tables
from tests.support.stage import Stage

WIDE = 16
NAMES = [f"j{number}" for number in range(10)]


@pytest.mark.soak
@pytest.mark.parametrize("mode", ["optimistic", "exclusive"])
def test_sixteen_processes_with_one_batch_apply_each_effect_once(
    embedded: Any, endpoint: str, mode: str
) -> None:
    stage = Stage(embedded, make_tables(embedded, f"wide-{mode}-"))
    for name in NAMES:
        stage.submit(id=name)
    command = [
        sys.executable,
        "-m",
        "tests.simulation.worker_process",
        endpoint,
        stage.tables["JobsTable"],
        stage.tables["CountersTable"],
        mode,
        *NAMES,
    ]
    with ExitStack() as running:
        workers = [
            running.enter_context(
                subprocess.Popen(
                    command, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
                )
            )
            for _ in range(WIDE)
        ]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        for worker in workers:  # each waits for a line
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        told = [
            json.loads(worker.communicate(timeout=60)[0].splitlines()[-1]) for worker in workers
        ]
    assert stage.count() == 10
    assert {stage.job(name).status for name in NAMES} == {Status.COMPLETED}
    assert {len(stage.job(name).history) for name in NAMES} == {1}
    # No worker took another's commit for its own.
    assert sum(each["succeeded"] for each in told) == 10
    assert sum(each["ran"] for each in told) >= 10
