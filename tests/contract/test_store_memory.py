"""Memory of the emulator for ended jobs, measured by its benchmark in a process of its own."""

import json
import subprocess
import sys

import pytest

from mayfly_testing.stack import ROOT

#: Megabytes for 1,000 ended jobs: while they run, and after read stream records and old tokens were
#: deleted.
RUNNING, SETTLED = 7, 2.5


def test_ended_jobs_need_little_memory(request: pytest.FixtureRequest) -> None:
    """Measured: 1.7 and 1.8 MB. With items as dictionaries it was 15 MB."""
    jobs = str(request.config.getoption("--ended-jobs"))
    command = [sys.executable, "-m", "bench.memory", "ended", jobs]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    (result,) = json.loads(done.stdout)
    assert result["mb_per_1000_running"] < RUNNING
    assert result["mb_per_1000_settled"] < SETTLED
