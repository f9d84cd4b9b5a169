"""Tasks are found by name, from their files."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from mayfly.errors import ConfigError
from mayfly.jobs.tasks import Declaration, declared, imported, task

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    import importlib

    folder = tmp_path / "some_tasks"
    folder.mkdir()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    (folder / "one.py").write_text(
        "from mayfly.jobs import task\n\n@task('a.one', max_attempts=2)\ndef one(job, effects): ...\n"
        "@task('a.nap', local=True)\ndef nap(job, effects): ...\n"
    )
    request.addfinalizer(lambda: [sys.modules.pop(name) for name in list(sys.modules) if name.startswith("some_tasks")])
    return importlib.import_module("some_tasks")


def test_importing_and_reading_find_the_same_tasks(package: ModuleType) -> None:
    for local, names in ((True, {"a.one", "a.nap"}), (False, {"a.one"})):
        read = declared(Path(package.__path__[0]), local=local)
        assert set(read) == names
        assert {name: each.declaration for name, each in imported(package, local=local).items()} == read
    assert read["a.one"] == Declaration("a.one", max_attempts=2)


def test_the_stacks_own_tasks_can_be_read(package: ModuleType) -> None:
    assert "counter.add" in declared(ROOT / "functions" / "run_jobs" / "tasks", local=False)


def test_arguments_that_are_no_literals_are_refused_with_file_and_line(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("N = 3\n\n@task('x', max_attempts=N)\ndef x(job, effects): ...\n")
    with pytest.raises(ConfigError, match=r"bad\.py:3: the arguments of @task must be literals"):
        declared(tmp_path, local=False)


def test_two_tasks_of_one_name_are_refused(package: ModuleType) -> None:
    (Path(package.__path__[0]) / "two.py").write_text("from mayfly.jobs import task\n@task('a.one')\ndef other(job, effects): ...\n")
    with pytest.raises(ConfigError, match=r"two tasks are called 'a\.one'"):
        imported(package, local=False)


def test_a_name_outside_the_alphabet_is_refused() -> None:
    with pytest.raises(ConfigError, match="must match"):
        task("no spaces")
