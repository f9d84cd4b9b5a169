"""Random histories of counters by two processes on one virtual clock, against a plain model."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from mayfly import counters
from mayfly.core.errors import IdempotencyKeyReused
from mayfly.counters.errors import CounterExists, CounterIsSharded, CounterLimit

from tests.conftest import make_tables
from tests.support.clients import make_client
from tests.support.counting import Counting
from tests.support.mocked import MockedAws

NAMES = st.sampled_from(["a", "b"])
BY = st.integers(-3, 3)
PROCESS = st.integers(0, 1)


@dataclass
class Modelled:
    """The expected state of a counter; an absent one has value 0, no shards and no end."""

    value: int = 0
    exists: bool = False
    shards: int | None = None
    ends_at: int | None = None
    keys: dict[str, tuple[Any, int]] = field(default_factory=dict)


class CounterHistory(RuleBasedStateMachine):
    """Draws increments of every kind, shards, deletions, time and deletions by TTL.

    Checks each answer immediately.
    """

    def __init__(self) -> None:
        super().__init__()
        self.aws = MockedAws()
        self.aws.start()
        self.client = make_client("dynamodb")
        make_tables(self.client)
        once = make_client("dynamodb", attempts=1)
        draws = iter(range(10**9))
        self.processes = [
            Counting(once, self.client, prefix=prefix, pick=lambda shards: next(draws) % shards)
            for prefix in "AB"
        ]
        self.models: dict[str, Modelled] = {"a": Modelled(), "b": Modelled()}

    def teardown(self) -> None:
        self.aws.stop()

    @property
    def now(self) -> int:
        return self.processes[0].time.now_ms // 1000

    def model(self, name: str) -> Modelled:
        found = self.models[name]
        if found.ends_at is not None and self.now >= found.ends_at:
            found.value, found.ends_at, found.exists = 0, None, False
        return found

    @rule(
        name=NAMES, by=BY,
        bound=st.none() | st.sampled_from([("floor", 0), ("ceiling", 4), ("floor", -5)]),
        ttl=st.none() | st.sampled_from([5, 50]), key=st.none() | st.sampled_from("xyz"),
        process=PROCESS,
    )  # fmt: skip
    def increment(
        self,
        name: str,
        by: int,
        bound: tuple[str, int] | None,
        ttl: int | None,
        key: str | None,
        process: int,
    ) -> None:
        model = self.model(name)
        bounds: dict[str, Any] = dict([bound]) if bound else {}
        asked = (by, bound, ttl)

        def act() -> int:
            return counters.increment(
                self.processes[process],
                tenant="t",
                name=name,
                by=by,
                ttl_seconds=ttl,
                idempotency_key=key,
                **bounds,
            ).value

        if key in model.keys and self.now < model.keys[key][1]:
            if model.keys[key][0] == asked:
                assert act() == model.value
            else:
                with pytest.raises(IdempotencyKeyReused):
                    act()
        elif model.shards and (bound or ttl):
            with pytest.raises(CounterIsSharded):
                act()
        elif not bounds.get("floor", -99) <= model.value + by <= bounds.get("ceiling", 99):
            with pytest.raises(CounterLimit):
                act()
        else:
            model.value += by
            if ttl:
                model.ends_at = self.now + ttl
            if key:
                model.keys[key] = (asked, self.now + 24 * 3600)
            model.exists = True
            assert act() == model.value

    @rule(name=NAMES, by=BY, process=PROCESS)
    def increment_approximately(self, name: str, by: int, process: int) -> None:
        model = self.model(name)
        model.value += by
        model.exists = True
        assert (
            counters.increment(
                self.processes[process], tenant="t", name=name, by=by, approximate=True
            ).value
            == model.value
        )

    @rule(name=NAMES, process=PROCESS)
    def read(self, name: str, process: int) -> None:
        assert (
            counters.read(self.processes[process], tenant="t", name=name).value
            == self.model(name).value
        )
        found = counters.read_many(self.processes[process], tenant="t", names=["a", "b"])
        assert [each.value for each in found] == [self.model("a").value, self.model("b").value]

    @rule(name=NAMES, shards=st.sampled_from([2, 3]), process=PROCESS)
    def create(self, name: str, shards: int, process: int) -> None:
        model = self.model(name)
        if model.shards == shards or not model.exists:
            counters.create_sharded(self.processes[process], tenant="t", name=name, shards=shards)
            model.shards, model.exists = shards, True
        else:
            with pytest.raises(CounterExists):
                counters.create_sharded(
                    self.processes[process], tenant="t", name=name, shards=shards
                )

    @rule(name=NAMES, process=PROCESS)
    def delete(self, name: str, process: int) -> None:
        counters.delete(self.processes[process], tenant="t", name=name)
        self.models[name] = Modelled(keys=self.models[name].keys)

    @rule(seconds=st.sampled_from([1, 5, 50, 24 * 3600]))
    def advance(self, seconds: int) -> None:
        for each in self.processes:
            each.time.advance(seconds)

    @rule()
    def delete_by_ttl(self) -> None:
        for item in self.client.scan(TableName="CountersTable")["Items"]:
            if "expires_at" in item and int(item["expires_at"]["N"]) <= self.now:
                self.client.delete_item(
                    TableName="CountersTable", Key={"pk": item["pk"], "sk": item["sk"]}
                )


def test_random_histories_agree_with_a_plain_model(searches: int) -> None:
    profile = settings(
        max_examples=searches // 2,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    run_state_machine_as_test(CounterHistory, settings=profile)
