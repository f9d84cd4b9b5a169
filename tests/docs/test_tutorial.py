"""docs/tutorial.md, followed step by step in a copy of the project."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pytest

from mayfly_testing.stack import ROOT, Stack, running, wait_until

TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text()


@dataclass
class Step:
    """A step of the reader.

    It is a file to save, lines for the template, or a script with its expected output.
    """

    kind: str
    argument: str
    block: str
    shows: list[str] = field(default_factory=list)


def steps() -> list[Step]:
    found: list[Step] = []
    pattern = r"<!-- (run|file|template below|shows):? ?(.*?) ?-->(?:\n```\w+\n(.*?)```)?"
    for kind, argument, block in re.findall(pattern, TUTORIAL, re.DOTALL):
        if kind == "shows":
            found[-1].shows.append(argument)
        else:
            found.append(Step(kind, argument, block))
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Makes a reader's copy, with the template of the tutorial's end.

    A change of the template would need a restart.
    """
    folder = tmp_path_factory.mktemp("tutorial")
    for name in ("functions", "layers"):
        shutil.copytree(ROOT / name, folder / name)
    template = (ROOT / "template.yaml").read_text()
    for step in steps():
        if step.kind == "template below":
            assert template.count(step.argument) == 1, step.argument
            template = template.replace(step.argument, f"{step.argument}\n{step.block.rstrip()}")
    (folder / "template.yaml").write_text(template)
    (folder / ".venv").symlink_to(ROOT / ".venv")
    return folder


@pytest.fixture(scope="module")
def stack(project: Path) -> Iterator[Stack]:
    with running(
        project / "run", template=project / "template.yaml", work=project / ".mayfly"
    ) as found:
        yield found


def test_tutorial_has_steps_of_every_kind() -> None:
    kinds = [step.kind for step in steps()]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "run": 10,
        "file": 3,
        "template below": 3,
    }
    assert all(step.shows for step in steps() if step.kind == "run")


class Shell:
    """One shell, like a reader's terminal: later steps see the variables of earlier ones."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            ["sh", "-e"],
            cwd=folder,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, script: str) -> str:
        """Returns the output of a script; ends the shell if one of its commands fails."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{script}\necho; echo =====\n")
        self._process.stdin.flush()
        said = ""
        for line in self._process.stdout:
            if line == "=====\n":
                return said
            said += line
        raise AssertionError(f"a step failed:\n{script}\nIt printed:\n{said}")

    def close(self) -> None:
        """Ends the shell."""
        self._process.communicate()


def test_every_step_of_the_tutorial_works_as_described(project: Path, stack: Stack) -> None:
    shell = Shell(project)
    try:
        for step in steps():
            if step.kind == "file":
                (project / step.argument).write_text(step.block)
                name = re.findall(r'@task\("([\w.]+)"', step.block)[0]
                wait_until(partial(stack.knows, name), 30, what=f"{name!r} being noticed")
            elif step.kind == "run":
                said = shell.run(step.block.replace("http://127.0.0.1:3000", stack.url))
                assert [each for each in step.shows if each not in said] == [], (step.block, said)
    finally:
        shell.close()
    # Two by hand, one by its key, one follow-up, one placed, one from the queue.
    wait_until(lambda: stack.counter("orders") == 5, 60)
