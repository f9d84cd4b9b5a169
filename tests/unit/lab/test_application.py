"""The copy of the application that a chaos run starts."""

import subprocess
import sys
from pathlib import Path

from mayfly_lab.chaos.application import copy_application
from tests.conftest import ROOT


def test_clock_of_a_function_is_set_in_a_folder_that_functions_see(tmp_path: Path) -> None:
    _, clocks = copy_application(ROOT, tmp_path / "app")
    clocks.step("Jobs", 3_600_000)
    layer = tmp_path / "app/layers/mayfly"
    # Functions have a /tmp of their own, with nothing of this one but code and layers.
    assert [path.is_relative_to(layer) for path in tmp_path.rglob("Jobs")] == [True]
    read = "import time; from mayfly.core.clock import system_clock as c; " \
        "print(round((c() / 1000 - time.time()) / 60))"  # fmt: skip
    minutes = [
        subprocess.run(
            [sys.executable, "-P", "-c", read], capture_output=True, text=True, check=True,
            env={"PYTHONPATH": str(layer), "AWS_LAMBDA_FUNCTION_NAME": name},
        ).stdout.strip()
        for name in ("Jobs", "Sessions")
    ]  # fmt: skip
    assert minutes == ["60", "0"]
