"""Runs one task in this process, and returns what a worker would write for it."""

from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from mayfly.aws.values import serialize
from mayfly.core.clock import Clock, system_clock
from mayfly.jobs import Effects, Job
from mayfly.jobs.authoring.effects import Effect
from mayfly.jobs.authoring.task import Task
from mayfly.jobs.model import Status
from mayfly.jobs.worker.event_loop import process_loop

__all__ = ["Ran", "RunTask", "Submitted", "run_task"]

#: The name that the counters' table has in the effects.
COUNTERS: Final = "counters"


@dataclass(frozen=True)
class Submitted:
    """A follow-up job. `max_attempts` is None if its task decides."""

    task: str
    payload: Any
    max_attempts: int | None
    delay_seconds: float


@dataclass(frozen=True)
class Ran:
    """The result of a task, and what it has collected.

    `increments` are the steps of counters by name. `effects` are all writes in the form of
    DynamoDB's transactions, with increments and without follow-up jobs; `submitted` are those.
    `progress` are the arguments of its checkpoints.
    """

    result: Any
    increments: dict[str, int]
    effects: list[Effect]
    submitted: list[Submitted] = field(default_factory=list)
    progress: list[Any] = field(default_factory=list)


class RunTask(Protocol):
    """The form of `run_task`."""

    def __call__(
        self,
        task: Task,
        payload: Any = None,
        *,
        attempt: int = 1,
        max_attempts: int | None = None,
        progress: Any = None,
        tenant: str = "default",
        seconds_left: float = 60.0,
        clock: Clock = system_clock,
    ) -> Ran:
        """Runs a task."""


def run_task(
    task: Task,
    payload: Any = None,
    *,
    attempt: int = 1,
    max_attempts: int | None = None,
    progress: Any = None,
    tenant: str = "default",
    seconds_left: float = 60.0,
    clock: Clock = system_clock,
) -> Ran:
    """Runs a task with a payload, as the attempt of a new job. Nothing is written.

    `progress` is what an earlier attempt has saved. Raises TypeError if `task` is not declared, and
    what the task raises: `Permanent`, `Retry`, `Continue`, TooManyEffects, InvalidRequest.
    """
    if not isinstance(task, Task):
        raise TypeError(f"{task!r} is not a task; declare it with @task(...)")
    declaration, submitted, saved = task.declaration, list[Submitted](), list[Any]()

    def follow_up(
        name: str, body: Any, attempts: int | None, delay_seconds: float, ordinal: int
    ) -> list[dict[str, Any]]:
        submitted.append(Submitted(name, body, attempts, delay_seconds))
        return []

    effects = Effects(
        tenant,
        counters_table=COUNTERS,
        serialize=serialize,
        follow_up=follow_up,
        checkpoint=lambda *values: saved.extend(values),
        seconds_left=lambda: seconds_left,
        clock=clock,
    )
    job = Job(
        id="job",
        tenant=tenant,
        task=declaration.name,
        payload=payload,
        status=Status.INPROGRESS,
        max_attempts=declaration.max_attempts if max_attempts is None else max_attempts,
        created_at_ms=clock(),
        fingerprint="",
        attempt=attempt,
        fence=attempt,
        progress=progress,
    )
    result = task.run(job, effects)
    if task.is_async:
        result = process_loop.run(result, seconds_left=lambda: seconds_left)
    collected = effects.collected()
    return Ran(result, _increments(collected), collected, submitted, saved)


def _increments(effects: list[Effect]) -> dict[str, int]:
    """Returns the steps of counters by name."""
    return {
        str(effect.write["Update"]["Key"]["pk"]["S"]).partition("/")[2]: effect.adds
        for effect in effects
        if effect.adds is not None
    }
