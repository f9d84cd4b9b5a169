"""Tasks: the functions that jobs run, declared with `@task("name", ...)`.

They are under functions/tasks/. `discovery` finds them by name.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

from mayfly.core.json_input import NAME, NAME_PROBLEM
from mayfly.jobs.authoring.effects import Effects
from mayfly.jobs.errors import BadTask
from mayfly.jobs.model import Job
from mayfly.jobs.rules import DEFAULT_MAX_ATTEMPTS, MAX_MAX_ATTEMPTS

__all__ = ["Declaration", "Task", "task"]


@dataclass(frozen=True)
class Declaration:
    """The arguments of `@task`."""

    name: str
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    exclusive: bool = False
    retry_refused: bool = False
    local: bool = False
    concurrent: bool = False
    #: The JSON Schema of payloads, None if the task takes any. It is not an argument of `@task`.
    payload: Mapping[str, Any] | None = field(default=None, hash=False, kw_only=True)

    def __post_init__(self) -> None:
        """Raises BadTask if a value is invalid."""
        if not isinstance(self.name, str) or not NAME.fullmatch(self.name):
            raise BadTask([f"task name {self.name!r} {NAME_PROBLEM}"])
        is_whole = isinstance(self.max_attempts, int) and not isinstance(self.max_attempts, bool)
        if not is_whole or not 1 <= self.max_attempts <= MAX_MAX_ATTEMPTS:
            raise BadTask(
                [
                    f"task {self.name!r}: max_attempts must be a whole number from 1 to "
                    f"{MAX_MAX_ATTEMPTS}"
                ]
            )
        if self.concurrent and not self.exclusive:
            raise BadTask(
                [
                    f"task {self.name!r}: concurrent=True needs exclusive=True, since jobs that "
                    "run at the same time are claimed first"
                ]
            )

    def check_payload(self, payload: Any) -> None:
        """Raises PayloadMismatch if a payload does not fit the dataclass of the task."""
        if self.payload is not None:
            _late("payloads").check(self.payload, payload)

    def check_function(self, *, is_async: bool) -> None:
        """Raises BadTask if the declaration does not fit its function."""
        if self.concurrent and not is_async:
            raise BadTask(
                [
                    f"task {self.name!r}: concurrent=True is for async functions; exclusive jobs "
                    "of a plain function run at the same time without it"
                ]
            )


@dataclass(frozen=True)
class Task:
    """A declared function. `run` returns a coroutine if the function is async."""

    declaration: Declaration
    run: Callable[[Job, Effects], Any]
    is_async: bool = False

    @property
    def runs_beside(self) -> bool:
        """True if jobs of one batch may run at the same time."""
        is_concurrent = self.declaration.concurrent or not self.is_async
        return self.declaration.exclusive and is_concurrent


def task(
    name: str,
    *,
    max_attempts: int = DEFAULT_MAX_ATTEMPTS,
    exclusive: bool = False,
    retry_refused: bool = False,
    local: bool = False,
    concurrent: bool = False,
) -> Callable[[Callable[..., Any]], Task]:
    """Declares a task. Arguments must be literals, since the API reads them without an import.

    `max_attempts` is for jobs that do not set it.

    `exclusive` is for tasks that do more than collect effects, such as call another system. Their
    jobs are claimed before they run, so that no two workers run one at the same time. Those of one
    batch run at the same time, in threads.

    Other tasks run without a claim the first time, one after another. Two workers may run the same
    job, and one commits.

    The function takes the job and its effects. Its first parameter may be a dataclass, which is the
    payload; a third one is then the job (`payloads`).

    An async function runs in the one event loop of its process. Jobs of one batch run one after
    another, also with `exclusive`, unless `concurrent` is true: then they share the loop. It is
    cancelled a second before the deadline of its Lambda function.

    If the condition of an effect is false, the job is dead. With `retry_refused` it is retried like
    after any other failure. A `local` task exists only if AWS_SAM_LOCAL is true.
    """
    declaration = Declaration(name, max_attempts, exclusive, retry_refused, local, concurrent)

    def declare(run: Callable[..., Any]) -> Task:
        inner = inspect.unwrap(run)
        if inspect.isasyncgenfunction(inner):
            raise BadTask([f"task {name!r} is an async generator; it must return, and not yield"])
        is_async = inspect.iscoroutinefunction(inner)
        declaration.check_function(is_async=is_async)
        kind = _payload_type(inner)
        if kind is None:
            return Task(declaration, run, is_async)
        bound, schema = _late("payload_types").with_payload(run, kind)
        return Task(replace(declaration, payload=schema), bound, is_async)

    return declare


def _late(module: str) -> Any:
    """Imports a module that only tasks with a payload of a declared type need."""
    return import_module(f"mayfly.jobs.authoring.{module}")


def _payload_type(function: Any) -> Any:
    """Returns the type of a function's first parameter, None if it is the job.

    It is the job if it has no annotation, or `Any` or `object`, too. A text, as of `from __future__
    import annotations`, is looked up in the function's module.
    """
    code = getattr(function, "__code__", None)
    if code is None or not code.co_argcount:
        return None
    kind = getattr(function, "__annotations__", {}).get(code.co_varnames[0])
    if isinstance(kind, str):
        kind = function.__globals__.get(kind.strip("\"'"), Any if "." in kind else kind)
    return None if kind in (None, Any, object, Job, "Job", "Any", "object") else kind
