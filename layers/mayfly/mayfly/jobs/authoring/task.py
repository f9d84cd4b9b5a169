"""Tasks: the functions that jobs run, and how they are found by name.

A task is a function under functions/tasks/, declared with `@task("name", ...)`. The worker imports
those files. The API only reads their declarations, so it can accept a job without importing the
code that runs it.
"""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from mayfly.core.errors import MayflyError
from mayfly.core.json_input import NAME
from mayfly.jobs.authoring.effects import Effects
from mayfly.jobs.errors import BadTask
from mayfly.jobs.model import Job
from mayfly.jobs.rules import DEFAULT_MAX_ATTEMPTS, MAX_MAX_ATTEMPTS

__all__ = ["Continue", "Declaration", "Permanent", "Retry", "Task", "declared", "imported", "task"]


class Permanent(MayflyError):
    """Raised by a task whose job can never succeed.

    The job ends as dead immediately, with `reason`, even if it has attempts left.
    """

    code = "permanent-failure"
    retryable = False

    def __init__(self, reason: str) -> None:
        super().__init__(reason)


class Retry(MayflyError):
    """Raised by a task to be tried again, `after_seconds` from now or after the usual backoff."""

    code = "retry"

    def __init__(self, reason: str, after_seconds: float | None = None) -> None:
        self.after_seconds = after_seconds
        super().__init__(reason)


class Continue(MayflyError):
    """Raised by a task shortly before the deadline; the job continues in another invocation.

    It continues immediately, from its last checkpoint. The attempt does not count if it saved a
    checkpoint; otherwise it is a failure like any other.
    """

    code = "continue"

    def __init__(self) -> None:
        super().__init__("out of time before the first checkpoint")


@dataclass(frozen=True)
class Declaration:
    """The arguments of `@task`."""

    name: str
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    exclusive: bool = False
    retry_refused: bool = False
    local: bool = False

    def __post_init__(self) -> None:
        """Raises BadTask if a value is invalid."""
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise BadTask([f"task name {self.name!r} must match {NAME.pattern}"])
        if not isinstance(self.max_attempts, int) or not 1 <= self.max_attempts <= MAX_MAX_ATTEMPTS:
            raise BadTask(
                [
                    f"task {self.name!r}: max_attempts must be a whole number from 1 to "
                    f"{MAX_MAX_ATTEMPTS}"
                ]
            )


@dataclass(frozen=True)
class Task:
    """A declared function."""

    declaration: Declaration
    run: Callable[[Job, Effects], Any]


def task(
    name: str,
    *,
    max_attempts: int = DEFAULT_MAX_ATTEMPTS,
    exclusive: bool = False,
    retry_refused: bool = False,
    local: bool = False,
) -> Callable[[Callable[[Job, Effects], Any]], Task]:
    """Declares a task. Arguments must be literals, since the API reads them without an import.

    `max_attempts` is for jobs that do not set it.

    `exclusive` is for tasks that do more than collect effects, such as call another system. Their
    jobs are claimed before they run, so that no two workers run one at the same time. Those of one
    batch run at the same time, in threads.

    Other tasks run without a claim the first time, one after another. Two workers may run the same
    job, and one commits.

    If the condition of an effect is false, the job is dead. With `retry_refused` it is retried like
    after any other failure. A `local` task exists only if AWS_SAM_LOCAL is true.
    """
    declaration = Declaration(name, max_attempts, exclusive, retry_refused, local)

    def declare(run: Callable[[Job, Effects], Any]) -> Task:
        if inspect.iscoroutinefunction(run):
            raise BadTask([f"task {name!r} is an async function; it must be a plain function"])
        return Task(declaration, run)

    return declare


def imported(package: ModuleType, *, local: bool) -> Mapping[str, Task]:
    """Returns the tasks of a package by name; imports each of its modules.

    Raises BadTask if two share a name.
    """
    tasks: dict[str, Task] = {}
    for module in pkgutil.iter_modules(package.__path__):
        for value in vars(importlib.import_module(f"{package.__name__}.{module.name}")).values():
            is_task = isinstance(value, Task) and (local or not value.declaration.local)
            if is_task and tasks.setdefault(value.declaration.name, value) is not value:
                raise BadTask([f"two tasks are called {value.declaration.name!r}"])
    return tasks


def declared(folder: Path, *, local: bool) -> Mapping[str, Declaration]:
    """Returns the declarations in a folder of tasks by name; reads each file without an import.

    Raises BadTask with file and line.
    """
    declarations: dict[str, Declaration] = {}
    for path in sorted(folder.glob("*.py")):
        try:
            tree = ast.parse(path.read_text(), path)
        except SyntaxError as problem:
            raise BadTask([f"{path}:{problem.lineno}: {problem.msg}"]) from None
        for function in ast.walk(tree):
            for call in getattr(function, "decorator_list", ()):
                if isinstance(call, ast.Call) and _is_task(call.func):
                    declaration = _declaration(call, path)
                    if declaration.name in declarations:
                        raise BadTask(
                            [f"{path}:{call.lineno}: two tasks are called {declaration.name!r}"]
                        )
                    declarations[declaration.name] = declaration
    return {name: one for name, one in declarations.items() if local or not one.local}


def _is_task(decorator: ast.expr) -> bool:
    """Returns True if a decorator is `task` or `jobs.task`."""
    name = (
        decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", None)
    )
    return name == "task"


def _declaration(call: ast.Call, path: Path) -> Declaration:
    try:
        arguments = [ast.literal_eval(value) for value in call.args]
        options = {option.arg or "": ast.literal_eval(option.value) for option in call.keywords}
        return Declaration(*arguments, **options)
    except (ValueError, TypeError):
        raise BadTask(
            [f"{path}:{call.lineno}: the arguments of @task must be literals of the right types"]
        ) from None
    except BadTask as problem:
        raise BadTask([f"{path}:{call.lineno}: {text}" for text in problem.problems]) from None
