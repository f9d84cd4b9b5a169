"""Whole batches under random faults.

Commits are lost, late, repeated or in conflict, and workers are killed. Each run draws its jobs,
their effects, which calls fail and how, and whether another worker gets the same batch meanwhile.
Then the faults end, and every job must end with its effects applied exactly once. A failure prints
its seed.
"""

import itertools
import random  # noqa: TID251  # seeded, to be played again
from contextlib import suppress
from typing import Any

import pytest
from mayfly.jobs.authoring.outcomes import Permanent
from mayfly.jobs.model import Job, Status, Wake

from tests.conftest import make_tables
from tests.support.clients import make_client
from tests.support.counting import counted
from tests.support.faults import Faults, Killed
from tests.support.stage import Stage, a_record

KINDS = ["before", "after", "late", "throttle", "error", "conflict", "kill", "kill after"]
CALLS = [
    "TransactWriteItems",
    "TransactWriteItems",
    "TransactWriteItems",
    "UpdateItem",
    "BatchExecuteStatement",
    "BatchGetItem",
]
_names = (f"sim{number}" for number in itertools.count())


class World:
    """Two workers over the same tables, each with its own faults."""

    def __init__(self, tables: dict[str, str], clients: list[Any], faults: list[Faults]) -> None:
        self.tables, self.clients, self.faults = tables, clients, faults

    def play(self, seed: int) -> "Play":
        return Play(self, random.Random(seed))


class Play:
    """One run with its jobs, workers and faults."""

    def __init__(self, world: World, chance: random.Random) -> None:
        self.world, self.chance, self.name = world, chance, next(_names)
        self.workers = [
            Stage(client, world.tables, exclusive=chance.random() < 0.3) for client in world.clients
        ]
        for worker in self.workers:
            worker.clock = self.workers[0].clock
            worker.declare(**worker.options)
            worker.body = self._body
        self.jobs = [f"{self.name}-{number}" for number in range(chance.randint(1, 6))]
        self.what = {
            name: chance.choice(
                [
                    "add",
                    "add",
                    "add",
                    "add own",
                    "refused",
                    "raises once",
                    "never",
                    "follow-up",
                    "many",
                ]
            )
            for name in self.jobs
        }
        self.nested = chance.random() < 0.4
        for name in self.jobs:
            self.workers[0].submit(id=name, payload=name, max_attempts=20)

    def _body(self, job: Job, effects: Any) -> None:
        if self.nested and job.payload in self.jobs:
            self.nested = False
            self.deliver(1, receives=self.chance.choice([1, 2]))
        effects.increment(self.name)
        match self.what.get(job.payload, "add"):
            case "add own":
                effects.increment(job.id)
            case "refused":
                effects.check(
                    self.world.tables["CountersTable"],
                    {"pk": "acme/nothing", "sk": "shard/0"},
                    "attribute_exists(pk)",
                )
            case "raises once" if job.attempt == 1:
                raise RuntimeError("boom")
            case "never":
                raise Permanent("never")
            case "many":
                for number in range(60):
                    effects.increment(f"{job.id}-{number}")
            case "follow-up":
                effects.submit("t", f"child of {job.id}")

    def deliver(self, worker: int, *, receives: int) -> None:
        """Delivers the batch to one of the workers; its process may die."""
        stage = self.workers[worker]
        records = [
            a_record(Wake("acme", name), f"m-{name}-{receives}", receives).raw_event
            for name in self.jobs
        ]
        if self.chance.random() < 0.2:
            records += records[:2]  # copies
        with suppress(Killed):
            stage.handle_records(records)

    def break_things(self) -> None:
        """Plans faults for the next deliveries: for some calls of each worker."""
        for faults in self.world.faults:
            faults.pick = self.chance.randrange
            struck = {
                self.chance.randint(1, 8) + len(faults.requests): self.chance.choice(KINDS)
                for _ in range(self.chance.randint(0, 3))
            }
            wanted = self.chance.choice(CALLS)
            silent = self.chance.random() < 0.15

            def plan(
                operation: str,
                number: int,
                struck: Any = struck,
                wanted: str = wanted,
                silent: bool = silent,
            ) -> str | None:
                if silent and operation == "TransactWriteItems":
                    return self.chance.choice(["before", "after", "late"])
                kind = struck.get(number)
                if kind == "conflict" and operation != "TransactWriteItems":
                    return None
                return (
                    kind if kind and (operation == wanted or self.chance.random() < 0.5) else None
                )

            faults.plan = plan

    def mend(self) -> None:
        for faults in self.world.faults:
            faults.plan = lambda operation, number: None

    def run(self) -> None:
        self.break_things()
        self.deliver(0, receives=1)
        for receives in (2, 3):
            if self.chance.random() < 0.5:
                self.break_things()
            self.workers[0].clock.advance(self.chance.choice([0, 1, 16, 400]))
            self.deliver(self.chance.randrange(2), receives=receives)
            if self.chance.random() < 0.5:
                for faults in self.world.faults:
                    faults.arrive()
        self.mend()
        for receives in range(4, 30):
            self.workers[0].clock.advance(400)
            self.deliver(0, receives=receives)
            if receives == 5:
                for faults in self.world.faults:
                    faults.arrive()  # all requests that were in flight until now
            if (
                all(self.status(name) in (Status.COMPLETED, Status.DEAD) for name in self.jobs)
                and receives > 5
            ):
                return

    def status(self, name: str) -> Status:
        return self.workers[0].job(name).status

    def count(self, name: str) -> int:
        return counted(self.world.clients[0], self.world.tables["CountersTable"], name)

    def children(self) -> list[str]:
        items = self.world.clients[0].scan(
            TableName=self.world.tables["JobsTable"], ConsistentRead=True
        )["Items"]
        return [
            item["payload"]["S"]
            for item in items
            if f"child of {self.name}-" in item.get("payload", {}).get("S", "")
        ]


@pytest.fixture
def world(embedded: Any) -> World:
    clients = [make_client("dynamodb"), make_client("dynamodb")]
    return World(
        make_tables(clients[0], "sim-"),
        clients,
        [Faults(client, on_moto=False) for client in clients],
    )


@pytest.mark.timeout(900)
def test_no_fault_in_a_batch_loses_or_doubles_an_effect(world: World, searches: int) -> None:
    for seed in range(searches):
        if seed % 50 == 0:
            world.tables = make_tables(world.clients[0], f"sim{seed}-")
        play = world.play(seed)
        play.run()
        expected = {
            name: Status.DEAD if play.what[name] in ("refused", "never") else Status.COMPLETED
            for name in play.jobs
        }
        assert {name: play.status(name) for name in play.jobs} == expected, f"seed {seed}"
        done = [name for name in play.jobs if expected[name] is Status.COMPLETED]
        assert play.count(play.name) == len(done), f"seed {seed}: {play.what}"
        assert all(play.count(name) == (play.what[name] == "add own") for name in play.jobs), (
            f"seed {seed}: {play.what}"
        )
        assert all(play.count(f"{name}-59") == (play.what[name] == "many") for name in play.jobs), (
            f"seed {seed}: {play.what}"
        )
        assert len(play.children()) == sum(play.what[name] == "follow-up" for name in play.jobs), (
            f"seed {seed}: {play.what}"
        )


@pytest.mark.parametrize("percent", [1, 5, 20, 50])
@pytest.mark.parametrize("exclusive", [False, True])
def test_conflicts_at_any_rate_lose_and_double_no_effect(
    embedded: Any, percent: int, exclusive: bool
) -> None:
    chance, name = random.Random(percent), next(_names)
    stage = Stage(embedded, make_tables(embedded, f"{name}-"), exclusive=exclusive)
    faults = Faults(embedded, on_moto=False)
    faults.pick = chance.randrange
    conflicts = [0]

    def plan(operation: str, number: int) -> str | None:
        if operation != "TransactWriteItems" or chance.random() * 100 >= percent:
            return None
        conflicts[0] += 1
        return "conflict"

    def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        effects.increment(f"n{job.payload}")

    stage.body = body
    jobs = [f"j{number}" for number in range(150)]
    for number, job in enumerate(jobs):
        stage.submit(id=job, payload=number % 3, max_attempts=1)
    faults.plan = plan
    left, receives = jobs, 1
    while left:
        again: list[str] = []
        for start in range(0, len(left), 10):
            some = left[start : start + 10]
            reply = stage.handle(*(Wake("acme", job) for job in some), receives=receives)
            again += [some[int(each["itemIdentifier"][1:])] for each in reply["batchItemFailures"]]
        left, receives = again, receives + 1
        stage.clock.advance(20)
        assert receives < 50
    faults.plan = lambda operation, number: None
    assert conflicts[0] > 0
    assert (
        stage.count(),
        {stage.job(job).status for job in jobs},
        {stage.job(job).attempt for job in jobs},
    ) == (
        150,
        {Status.COMPLETED},
        {1},
    )
    assert [counted(embedded, stage.tables["CountersTable"], f"n{each}") for each in range(3)] == [
        50,
        50,
        50,
    ]
