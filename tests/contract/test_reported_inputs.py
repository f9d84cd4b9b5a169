"""The page of reported inputs names tests that exist."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
PAGE = Path(__file__).with_name("reported_inputs.md")


def inputs() -> dict[str, list[str]]:
    """Returns the names of tests by section and input."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in PAGE.read_text().splitlines():
        if line.startswith("## "):
            section = line[3:]
        cells = re.split(r"(?<!\\) \| ", line.removeprefix("| "), maxsplit=1)
        if len(cells) == 2 and cells[0] != "input":
            names = re.findall(r"`(\S+?\.py::[^`]+)`", cells[1].replace("\\|", "|"))
            assert found.setdefault(f"{section}: {cells[0]}", names) is names, cells[0]
    return found


@cache
def collected() -> str:
    """Returns the names of all tests of the files that the page names, a line each."""
    files = {name.partition("::")[0] for names in inputs().values() for name in names}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"),
            *(f"tests/{file}" for file in sorted(files)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def pattern(name: str) -> str:
    """Returns the expression of a test's name on the page."""
    parts = (".*" if part == "*" else "." if part == "?" else re.escape(part) for part in name)
    return f"^tests/{''.join(parts)}$"


def test_each_reported_input_has_tests_and_they_exist() -> None:
    page = inputs()
    assert len(page) >= 218
    assert [key for key, names in page.items() if not names] == []
    missing = [
        (key, name)
        for key, names in page.items()
        for name in names
        if not re.search(pattern(name), collected(), re.MULTILINE)
    ]
    assert missing == []


@pytest.mark.parametrize("name", ["unit/x.py::test_a[*-b]", "unit/x.py::test_a[c?b]"])
def test_signs_of_the_page_stand_for_text(name: str) -> None:
    assert re.search(pattern(name), "tests/unit/x.py::test_a[c-b]")
    assert not re.search(pattern(name), "tests/unit/x.py::test_a[c-d]")
