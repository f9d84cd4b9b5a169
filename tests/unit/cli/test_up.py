"""`mayfly up` before a stack starts: parameters that a terminal is asked for."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

TEMPLATE = """
Parameters:
  Stage: {Type: String, Description: Where it runs, AllowedValues: [test]}
  Size: {Type: Number}
Resources: {Flow: {Type: AWS::StepFunctions::StateMachine}}
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    return [sys.executable, "-m", "mayfly_cli", "up", "--strict", "--template",
            str(tmp_path / "template.yaml"), "--port", "39871"]  # fmt: skip


def test_parameters_are_asked_for_once_with_the_option_that_gives_them(command: list[str]) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    os.close(theirs)
    os.write(ours, b"test\n12\n")
    printed, _ = process.communicate(timeout=60)
    os.close(ours)
    assert process.returncode == 1  # The template is strict, and the state machine is absent.
    assert printed.count("Stage (Where it runs)\n  --parameter Stage: ") == 1
    assert printed.count("Size\n  --parameter Size: ") == 1
    assert "Flow: StepFunctions::StateMachine is absent" in printed


def test_without_a_terminal_the_error_names_every_missing_parameter(command: list[str]) -> None:
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "give it with --parameter Stage=VALUE" in done.stderr
    assert "give it with --parameter Size=VALUE" in done.stderr


def test_layer_that_is_not_a_folder_is_refused(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [*command, "--layer", f"own={tmp_path}/gone"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert (done.returncode, "gone is not a folder or a zip archive" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--transaction-time", "-1"], "-1.0 is not in the range 0<=x<=10"),
        (["--transaction-time", "11"], "11.0 is not in the range 0<=x<=10"),
        (["--transaction-time", "soon"], "'soon' is not a valid float"),
        (
            ["--transaction-time", "0.02", "--endpoint-url", "http://127.0.0.1:1"],
            "--transaction-time is for the embedded emulator; leave out --endpoint-url",
        ),
    ],
)
def test_time_of_transactions_that_cannot_be_is_refused(
    command: list[str], options: list[str], says: str
) -> None:
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert says in done.stderr


@pytest.mark.parametrize(
    "option",
    [["--state", "kept"], ["--endpoint-url", "http://127.0.0.1:1"]],
    ids=lambda each: each[0],
)
def test_clock_that_tests_move_has_no_state_that_stays(
    command: list[str], option: list[str]
) -> None:
    done = subprocess.run(
        [*command, "--movable-clock", *option],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 2
    assert "--movable-clock keeps no state: leave out --state, --endpoint-url" in done.stderr
