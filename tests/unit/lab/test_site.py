"""Processes that end with a chaos run."""

import subprocess

from mayfly_lab.chaos.site import tied


def test_tied_process_runs_its_module_with_its_arguments() -> None:
    done = subprocess.run(
        [*tied("json.tool"), "--compact"], input="[1, 2]", capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("[1,2]\n", "")
