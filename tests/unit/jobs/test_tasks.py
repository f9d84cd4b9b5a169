"""Tasks are found by name, from their files."""

import sys
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
from mayfly import resources
from mayfly.core.errors import ConfigError
from mayfly.jobs.authoring.built_in import BUILT_IN
from mayfly.jobs.authoring.discovery import declared, imported, places
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


def test_async_function_is_not_a_task() -> None:
    async def run(job: object, effects: object) -> None: ...

    with pytest.raises(BadTask, match="async function"):
        task("a.b")(run)


SHOP = "mayfly_test_shop"
TASK = "from mayfly import task\n\n\n@task({0!r})\ndef run(job, effects): ...\n"


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Path]]:
    """Returns a function that writes files of an application's package, which can be imported."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(**files: str) -> Path:
        for name, text in files.items():
            path = tmp_path.joinpath(SHOP, *name.split("__")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / SHOP

    (tmp_path / SHOP).mkdir()
    (tmp_path / SHOP / "__init__.py").touch()
    yield write
    for name in [name for name in sys.modules if name.startswith(SHOP)]:
        del sys.modules[name]


def both(named: str) -> Mapping[str, Declaration]:
    """Returns the tasks that an application adds: what the API reads is what the worker imports."""
    function = "functions.run_jobs.deps"
    read = resources.declared_tasks(function, named, local=False)
    run = resources.imported_tasks(function, named, local=False)
    assert {**{name: known.declaration for name, known in run.items()}, **BUILT_IN} == read
    own = declared(ROOT / "functions" / "tasks", local=False)
    assert set(own) <= set(read)
    return {name: read[name] for name in set(read) - set(own) - set(BUILT_IN)}


def test_package_of_an_application_comes_next_to_the_tasks_of_the_functions(
    shop: Callable[..., Path],
) -> None:
    shop(tasks__one=TASK.format("shop.one"), tasks__two=TASK.format("shop.two"))
    assert set(both(f"{SHOP}.tasks")) == {"shop.one", "shop.two"}


def test_module_of_an_application_may_have_the_tasks(shop: Callable[..., Path]) -> None:
    shop(tasks=TASK.format("shop.one"), other=TASK.format("shop.other"))
    assert set(both(f"{SHOP}.tasks")) == {"shop.one"}


def test_tasks_of_the_package_itself_and_of_packages_within_it_are_found(
    shop: Callable[..., Path],
) -> None:
    folder = shop(tasks__inner__deep=TASK.format("shop.deep"), tasks__loose__gone="1 / 0")
    (folder / "tasks" / "__init__.py").write_text(TASK.format("shop.itself"))
    (folder / "tasks" / "inner" / "__init__.py").touch()
    assert set(both(f"{SHOP}.tasks")) == {"shop.deep", "shop.itself"}


def test_functions_without_tasks_of_their_own_need_a_name() -> None:
    with pytest.raises(ConfigError, match="MAYFLY_TASKS is missing, and there is no package"):
        places("alone.run_jobs.deps", "")


@pytest.mark.parametrize(
    "named",
    [f"{SHOP}.tasc", "shop/tasks", "../tasks", f"{SHOP}.", ".", "tasks.py", " "],
    ids=["misspelled", "path", "parent", "dot at the end", "dot", "file", "blank"],
)
@pytest.mark.parametrize("find", [resources.declared_tasks, resources.imported_tasks])
def test_name_without_a_package_is_an_error_that_names_it(
    shop: Callable[..., Path], named: str, find: Callable[..., object]
) -> None:
    shop(tasks__one=TASK.format("shop.one"))
    with pytest.raises(ConfigError, match=r"MAYFLY_TASKS=.* is neither a package nor a module"):
        find("functions.run_jobs.deps", named, local=False)


@pytest.mark.parametrize("find", [resources.declared_tasks, resources.imported_tasks])
def test_task_of_an_application_cannot_take_the_name_of_another(
    shop: Callable[..., Path], find: Callable[..., object]
) -> None:
    shop(tasks__one=TASK.format("counter.add"))
    with pytest.raises(BadTask, match=r"two tasks are called 'counter\.add'"):
        find("functions.run_jobs.deps", f"{SHOP}.tasks", local=False)


def test_package_that_fails_to_import_shows_its_own_error(shop: Callable[..., Path]) -> None:
    shop(tasks__one="import mayfly_test_absent")
    with pytest.raises(ModuleNotFoundError, match="mayfly_test_absent"):
        resources.imported_tasks("functions.run_jobs.deps", f"{SHOP}.tasks", local=False)


@pytest.mark.parametrize("function", ["run_jobs", "jobs", "schedules", "sweep_jobs", "bury_jobs"])
def test_every_function_that_knows_tasks_reads_the_variable(function: str) -> None:
    """The handlers of the API and of the worker use one setting."""
    settings = import_module(f"functions.{function}.deps").Settings
    assert settings.__dataclass_fields__["mayfly_tasks"].default == ""
