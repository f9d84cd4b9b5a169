"""A job, and the verbs of its store that most tests begin with."""

from dataclasses import replace
from typing import Any

from mayfly.core.clock import Clock
from mayfly.jobs.authoring.effects import Effect, Effects
from mayfly.jobs.model import Job, Status
from mayfly.jobs.store import JobStore

from tests.support.counting import counted
from tests.support.fakes import FixedClock

NOW = 1_800_000_000_000
LEASE = 15_000


def a_job(**changes: Any) -> Job:
    """Returns a queued job that was made now."""
    job = Job(
        "j1",
        "acme",
        "counter.add",
        {"name": "n"},
        Status.QUEUED,
        max_attempts=3,
        created_at_ms=NOW,
        fingerprint="f",
    )
    return replace(job, **changes)


def claim(store: JobStore, nonce: str = "w1", now_ms: int = NOW, new: Job | None = None) -> Job:
    """Claims the job for a worker."""
    return store.claim("acme", "j1", nonce=nonce, now_ms=now_ms, lease_ms=LEASE, new=new)


def read(store: JobStore) -> Job:
    """Returns the job as it is stored."""
    return store.read("acme", "j1", now_ms=NOW)


def increments(dynamodb: Any, name: str = "n") -> int:
    """Returns the value of a counter."""
    return counted(dynamodb, "CountersTable", name)


def new_effects(clock: Clock | None = None) -> Effects:
    """Returns the effects of a task that has not begun."""
    return Effects(
        "acme",
        counters_table="CountersTable",
        serialize=dict,
        follow_up=lambda *_: [],
        checkpoint=lambda *_: None,
        seconds_left=lambda: 60.0,
        clock=clock or FixedClock(),
    )


def one_increment(name: str = "n") -> list[Effect]:
    """Returns the effects of a task that counts once."""
    effects = new_effects()
    effects.increment(name)
    return effects.collected()
