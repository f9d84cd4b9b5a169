"""The Pythons of the package: how interpreters are found, and what pip's markers leave out."""

import sys
from pathlib import Path
from typing import Any

import pytest

from mayfly_cli.new_application import RUNTIMES
from tools.pythons import here, interpreter, main, missing, versions

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def program(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def report(**packages: list[str]) -> dict[str, Any]:
    """Returns a report as pip writes it: packages with their requirements."""
    return {
        "install": [
            {"metadata": {"name": name, "version": "1.0", "requires_dist": requirements}}
            for name, requirements in packages.items()
        ]
    }


def test_versions_are_those_of_new_applications() -> None:
    assert tuple(f"python{version}" for version in versions()) == RUNTIMES


def test_this_interpreter_is_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert here()[HERE] == interpreter(HERE)
    assert main(["--here"]) == 0
    assert f"{HERE} {interpreter(HERE)}\n" in capsys.readouterr().out


def test_interpreter_of_pyenv_is_found_though_its_command_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, "python3.99", "echo 'pyenv: python3.99: command not found' >&2; exit 127")
    program(tmp_path, "pyenv", f"echo {tmp_path}")
    bin_ = tmp_path / "versions" / "3.99.1" / "bin"
    bin_.mkdir(parents=True)
    program(bin_, "python3.99", "echo /the/real/one")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert interpreter("3.99") == "/the/real/one"


@pytest.mark.parametrize(
    "text",
    [f"exec '{sys.executable}' \"$@\"", "exit 1", "exit 0 | no-such-program"],
    ids=["another-version", "fails", "broken"],
)
def test_interpreter_of_another_version_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    program(tmp_path, "python3.99", f"{text}\nexit 1")
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    assert interpreter("3.99") is None


@pytest.mark.parametrize(
    ("requirement", "version", "expected"),
    [
        ("b", "3.14", ["b"]),
        ("b>=2; python_version >= '3.14'", "3.14", ["b>=2"]),
        ("b>=2; python_version >= '3.14'", "3.13", []),
        ("b; python_full_version < '3.12'", "3.11", ["b"]),
        ("b; extra == 'fast'", "3.14", ["b"]),
        ("b; extra == 'slow'", "3.14", []),
        ("A", "3.14", []),
        ("b; sys_platform == 'none'", "3.14", []),
    ],
    ids=["plain", "newer", "older", "full-version", "extra", "other-extra", "met", "system"],
)
def test_requirement_whose_marker_holds_for_the_other_python_is_missing(
    requirement: str, version: str, expected: list[str]
) -> None:
    assert missing(version, ["a[fast]"], report(a=[requirement])) == expected
