"""Tasks are found by name, from their files."""

import sys
from collections.abc import AsyncIterator
from functools import wraps
from pathlib import Path
from types import ModuleType

import pytest
from mayfly.jobs.authoring.discovery import declared, imported
from mayfly.jobs.authoring.task import Declaration, task
from mayfly.jobs.errors import BadTask

ROOT = Path(__file__).parent.parent.parent.parent


@pytest.fixture
def package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> ModuleType:
    import importlib

    folder = tmp_path / "some_tasks"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    (folder / "one.py").write_text(
        "from mayfly.jobs import task\n\n@task('a.one', max_attempts=2)\ndef one(job, "
        "effects): ...\n"
        "@task('a.nap', local=True)\ndef nap(job, effects): ...\n"
    )
    request.addfinalizer(
        lambda: [
            sys.modules.pop(name) for name in list(sys.modules) if name.startswith("some_tasks")
        ]
    )
    return importlib.import_module("some_tasks")


def test_importing_and_reading_find_the_same_tasks(package: ModuleType) -> None:
    for local, names in ((True, {"a.one", "a.nap"}), (False, {"a.one"})):
        read = declared(Path(package.__path__[0]), local=local)
        assert set(read) == names
        assert {
            name: known_task.declaration
            for name, known_task in imported(package, local=local).items()
        } == read
    assert read["a.one"] == Declaration("a.one", max_attempts=2)


def test_tasks_of_the_stack_can_be_read(package: ModuleType) -> None:
    assert "counter.add" in declared(ROOT / "functions" / "tasks", local=False)


def test_arguments_that_are_not_literals_are_rejected_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(
        "N = 3\n\n@task('x', max_attempts=N)\ndef x(job, effects): ...\n"
    )
    with pytest.raises(BadTask, match=r"bad\.py:3: the arguments of @task must be literals"):
        declared(tmp_path, local=False)


def test_two_tasks_of_one_name_are_rejected(package: ModuleType) -> None:
    (Path(package.__path__[0]) / "two.py").write_text(
        "from mayfly.jobs import task\n@task('a.one')\ndef other(job, effects): ...\n"
    )
    with pytest.raises(BadTask, match=r"two tasks are called 'a\.one'"):
        imported(package, local=False)
    with pytest.raises(BadTask, match=r"two\.py:2: two tasks are called 'a\.one'"):
        declared(Path(package.__path__[0]), local=False)


@pytest.mark.parametrize(
    ("declaration", "problem"),
    [
        ("@task('no spaces')", "task name 'no spaces' must match"),
        ("@task('a.one', max_attempts=0)", "max_attempts must be a whole number from 1 to 20"),
        ("@task('a.one', max_attempts=21)", "max_attempts must be a whole number from 1 to 20"),
        ("@task('a.one', max_attempts=True)", "max_attempts must be a whole number from 1 to 20"),
        ("@task('a.one', colour=1)", "arguments of @task must be literals of the right types"),
        ("@jobs.task('a.one', max_attempts=0)", "max_attempts must be"),
    ],
)
def test_invalid_declaration_is_rejected_with_file_and_line(
    tmp_path: Path, declaration: str, problem: str
) -> None:
    (tmp_path / "bad.py").write_text(f"\n\n{declaration}\ndef run(job, effects): ...\n")
    with pytest.raises(BadTask, match=rf"bad\.py:3: .*{problem}"):
        declared(tmp_path, local=False)


def test_file_with_a_syntax_error_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("\ndef (:\n")
    with pytest.raises(BadTask, match=r"bad\.py:2: invalid syntax"):
        declared(tmp_path, local=False)


def test_async_function_is_a_task_also_behind_a_decorator() -> None:
    async def run(job: object, effects: object) -> None: ...

    @wraps(run)
    def wrapped(job: object, effects: object) -> object:
        return run(job, effects)

    assert [task("a.b")(function).is_async for function in (run, wrapped)] == [True, True]


def test_async_generator_is_not_a_task() -> None:
    async def run(job: object, effects: object) -> AsyncIterator[int]:
        yield 1

    with pytest.raises(
        BadTask, match=r"'a\.b' is an async generator; it must return, and not yield"
    ):
        task("a.b")(run)


@pytest.mark.parametrize(
    ("options", "function", "problem"),
    [
        ("concurrent=True", "async def", "concurrent=True needs exclusive=True"),
        ("exclusive=True, concurrent=True", "def", "concurrent=True is for async functions"),
    ],
    ids=["not-exclusive", "plain-function"],
)
def test_concurrent_task_is_exclusive_and_async(
    tmp_path: Path, options: str, function: str, problem: str
) -> None:
    text = f"@task('a.one', {options})\n{function} run(job, effects): ...\n"
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(BadTask, match=rf"bad\.py:1: .*{problem}"):
        declared(tmp_path, local=False)
    with pytest.raises(BadTask, match=problem):
        exec(text, {"task": task})
