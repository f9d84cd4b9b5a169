"""The command line as a process: exit codes and what they come with."""

import os
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-m", "mayfly_cli"]


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), (["--version"], 0), ([], 2), (["nothing"], 2)]
)
def test_exit_code_says_whether_the_call_was_valid(arguments: list[str], code: int) -> None:
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)


def test_reader_that_has_seen_enough_is_not_a_problem() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [*COMMAND, "--help"], stdout=writer, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")
