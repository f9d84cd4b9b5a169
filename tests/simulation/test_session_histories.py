"""Random and concurrent histories of sessions.

Random histories run on a virtual clock, concurrent ones on 8 threads in 4 processes. The random
ones are compared with a plain model. The concurrent ones run on the emulator, whose operations
exclude each other as DynamoDB's do; a search decides whether they could have run in sequence
(linearizability.py).
"""

import json
import os
import subprocess
import sys
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    rule,
    run_state_machine_as_test,
)
from mayfly import resources, sessions
from mayfly.sessions.errors import SessionNotFound

from mayfly_testing.stack import ROOT
from tests.conftest import make_tables
from tests.simulation.linearizability import Call, is_linearizable
from tests.support.clients import make_client
from tests.support.fakes import FixedClock
from tests.support.mocked import MockedAws
from tests.support.sessions import Sessions

# ---------------------------------------------------------------- in sequence, against a model

SUBJECTS = [None, "ada", "grace"]


@dataclass
class Modelled:
    """The expected state of a session. Deadlines in milliseconds."""

    subject: str | None
    token: str
    data: dict[str, Any]
    idle_ms: int
    absolute_ms: int
    idle_at: int
    absolute_at: int
    version: int = 1
    is_ended: bool = False
    former: list[str] = field(default_factory=list)


class SessionHistory(RuleBasedStateMachine):
    """Draws operations, time and deletions by TTL; checks every operation immediately."""

    made = Bundle("made")

    def __init__(self) -> None:
        super().__init__()
        self.aws = MockedAws()
        self.aws.start()
        self.client = make_client("dynamodb")
        make_tables(self.client)
        self.clock = FixedClock()
        # Two processes with one store: neither holds any part of a session.
        self.stores = [
            Sessions(self.client, clock=self.clock, prefix=prefix) for prefix in ("A", "B")
        ]
        self.models: list[Modelled] = []

    def teardown(self) -> None:
        self.aws.stop()

    def alive(self, model: Modelled) -> bool:
        return not model.is_ended and self.clock.now_ms < model.idle_at

    def used(self, model: Modelled) -> None:
        model.idle_at = min(self.clock.now_ms + model.idle_ms, model.absolute_at)

    def touched(self, model: Modelled) -> None:
        later = min(self.clock.now_ms + model.idle_ms, model.absolute_at)
        if later - model.idle_at >= model.idle_ms / 10:
            model.idle_at = later

    @initialize(target=made, subject=st.sampled_from(SUBJECTS))
    def begin(self, subject: str | None) -> Any:
        return self.create(subject, 100, 1000, 0)

    @rule(
        target=made,
        subject=st.sampled_from(SUBJECTS),
        idle=st.integers(1, 200),
        absolute=st.integers(1, 1000),
        by=st.integers(0, 1),
    )
    def create(self, subject: str | None, idle: int, absolute: int, by: int) -> Any:
        token, session = sessions.create(
            self.stores[by],
            tenant="acme",
            subject=subject,
            data={"n": 0},
            idle_seconds=idle,
            absolute_seconds=absolute,
        )
        now = self.clock.now_ms
        model = Modelled(
            subject,
            token,
            {"n": 0},
            idle * 1000,
            absolute * 1000,
            now + min(idle, absolute) * 1000,
            now + absolute * 1000,
        )
        assert (session.data, session.version) == (model.data, 1)
        self.models.append(model)
        return model

    @rule(model=made, by=st.integers(0, 1))
    def read(self, model: Modelled, by: int) -> None:
        if not self.alive(model):
            self.refused(lambda: sessions.read(self.stores[by], model.token, tenant="acme"))
            return
        found = sessions.read(self.stores[by], model.token, tenant="acme")
        self.touched(model)
        assert (found.data, found.version, found.subject) == (
            model.data,
            model.version,
            model.subject,
        )
        assert (found.idle_expires_at_ms, found.absolute_expires_at_ms) == (
            model.idle_at,
            model.absolute_at,
        )

    @rule(
        model=made,
        key=st.sampled_from("ab"),
        value=st.none() | st.integers(0, 2),
        by=st.integers(0, 1),
    )
    def patch(self, model: Modelled, key: str, value: int | None, by: int) -> None:
        if not self.alive(model):
            self.refused(
                lambda: sessions.patch(self.stores[by], model.token, {key: value}, tenant="acme")
            )
            return
        before = dict(model.data)
        model.data = {name: old for name, old in {**before, key: value}.items() if old is not None}
        if model.data != before:
            model.version += 1
            self.used(model)
        else:
            self.touched(model)
        assert (
            sessions.patch(self.stores[by], model.token, {key: value}, tenant="acme").data
            == model.data
        )

    @rule(model=made, subject=st.sampled_from(SUBJECTS), by=st.integers(0, 1))
    def rotate(self, model: Modelled, subject: str | None, by: int) -> None:
        if not self.alive(model):
            self.refused(
                lambda: sessions.rotate(
                    self.stores[by], model.token, tenant="acme", subject=subject
                )
            )
            return
        model.former.append(model.token)
        model.token, _ = sessions.rotate(
            self.stores[by], model.token, tenant="acme", subject=subject
        )
        model.version += 1
        if subject not in (None, model.subject):
            model.subject, model.absolute_at = subject, self.clock.now_ms + model.absolute_ms
        self.used(model)

    @rule(model=made, by=st.integers(0, 1))
    def use_a_former_token(self, model: Modelled, by: int) -> None:
        for token in model.former[-2:]:
            self.refused(lambda token=token: sessions.read(self.stores[by], token, tenant="acme"))

    @rule(model=consumes(made), by=st.integers(0, 1))
    def end(self, model: Modelled, by: int) -> None:
        if self.alive(model):
            sessions.end(self.stores[by], model.token, tenant="acme")
            model.is_ended = True
        self.refused(lambda: sessions.read(self.stores[by], model.token, tenant="acme"))

    @rule(model=made, by=st.integers(0, 1))
    def end_by_id(self, model: Modelled, by: int) -> None:
        if model.subject is not None and self.alive(model):
            sessions.end_one(
                self.stores[by], tenant="acme", subject=model.subject, session_id=self.id_of(model)
            )
            model.is_ended = True
            self.refused(lambda: sessions.read(self.stores[by], model.token, tenant="acme"))

    @rule(subject=st.sampled_from(SUBJECTS[1:]), by=st.integers(0, 1))
    def end_all(self, subject: str, by: int) -> None:
        sessions.end_all(self.stores[by], tenant="acme", subject=subject)
        for model in self.models:
            model.is_ended |= model.subject == subject
        assert (
            sessions.list_by_subject(self.stores[by], tenant="acme", subject=subject).sessions == []
        )

    @rule(subject=st.sampled_from(SUBJECTS[1:]), by=st.integers(0, 1))
    def list_them(self, subject: str, by: int) -> None:
        found = sessions.list_by_subject(self.stores[by], tenant="acme", subject=subject).sessions
        wanted = [each for each in self.models if each.subject == subject and self.alive(each)]
        assert sorted(each.id for each in found) == sorted(self.id_of(each) for each in wanted)

    @rule(seconds=st.sampled_from([0.001, 1, 9, 10, 50, 99, 100, 300, 1000]))
    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(seconds=st.sampled_from([1, 100, 1000]))
    def set_the_clock_back(self, seconds: int) -> None:
        """Checks operations under clocks that differ.

        An ended session stays ended. A session that expired by one clock may be open by another,
        and is left out.
        """
        for model in self.models:
            model.is_ended |= not self.alive(model)
        ended = [each for each in self.models if each.is_ended and self.clock.now_ms < each.idle_at]
        self.clock.advance(-seconds)
        for model in ended:
            self.refused(
                lambda model=model: sessions.read(self.stores[0], model.token, tenant="acme")
            )
        self.clock.advance(seconds)

    @rule(lag_days=st.sampled_from([0, 2]))
    def delete_by_ttl(self, lag_days: int) -> None:
        for item in self.client.scan(TableName="SessionsTable")["Items"]:
            if (
                "expires_at" in item
                and int(item["expires_at"]["N"]) <= self.clock.now_ms // 1000 - lag_days * 86_400
            ):
                self.client.delete_item(
                    TableName="SessionsTable", Key={"pk": item["pk"], "sk": item["sk"]}
                )

    @staticmethod
    def id_of(model: Modelled) -> str:
        return model.token.split("_")[1][-32:]

    @staticmethod
    def refused(act: Any) -> None:
        with pytest.raises(SessionNotFound):
            act()


def test_random_histories_agree_with_a_plain_model(searches: int) -> None:
    profile = settings(
        max_examples=searches // 2,
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        derandomize=True,
    )
    run_state_machine_as_test(SessionHistory, settings=profile)


# ---------------------------------------------------------------- 8 threads in 4 processes

ROUNDS = 60
#: Calls of a thread in one phase; between phases every process learns the tokens that the others
#: have received.
CALLS, PHASES = 2, 4


@pytest.fixture(scope="module")
def processes(endpoint: str) -> Iterator[list["subprocess.Popen[str]"]]:
    env = {
        **os.environ,
        "AWS_ENDPOINT_URL": endpoint,
        "SESSIONS_TABLE": "histories-SessionsTable",
        "SUBJECT_KEY": "test",
        "PYTHONPATH": str(ROOT / "layers" / "mayfly"),
    }
    command = [sys.executable, str(ROOT / "tests" / "simulation" / "session_process.py")]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        for _ in range(4)
    ]
    try:
        yield started
    finally:
        for each in started:
            each.communicate(timeout=30)


def step(state: Any, call: Call) -> Sequence[Hashable]:
    """Returns the states after an operation on a session.

    A state is (the token that opens it, version, data), or None after its end. `data` is a sorted
    tuple of pairs.
    """
    token, answer = call.argument["token"], call.answer
    opens = state is not None and state[0] == token
    if call.operation == "end_all":
        return [None]
    if isinstance(answer, str) and answer.startswith("unknown"):
        raise AssertionError(answer)
    if answer == "not found":
        return [] if opens else [state]
    if call.operation == "end":
        # After end-all, an item that still exists is deleted, too: an ended session may be ended
        # again.
        return [None] if opens or state is None else []
    if not opens:
        return []
    if call.operation == "read":
        return [state] if (answer["version"], _frozen(answer["data"])) == state[1:] else []
    data = dict(state[2])
    if call.operation == "patch":
        patch = call.argument["patch"]
        data[patch["key"]] = patch["value"]
        after = (token, state[1] + 1, _frozen(data))
        return [after] if (answer["version"], _frozen(answer["data"])) == after[1:] else []
    after = (answer["token"], state[1] + 1, state[2])
    return [after] if (answer["version"], _frozen(answer["data"])) == after[1:] else []


def _frozen(data: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(data.items()))


def test_concurrent_histories_are_linearizable(
    endpoint: str, embedded: Any, processes: list["subprocess.Popen[str]"]
) -> None:
    make_tables(embedded, "histories-")
    store = resources.session_store(
        {"SESSIONS_TABLE": "histories-SessionsTable", "SUBJECT_KEY": "test"}
    )
    for each in processes:
        assert each.stdout is not None
        assert each.stdout.readline() == "ready\n"
    operations: dict[str, int] = {}
    for number in range(ROUNDS):
        subject = None if number % 3 == 2 else f"s{number}"
        token, _ = sessions.create(store, tenant="acme", subject=subject)
        history = _play(processes, number, subject, token)
        assert len(history) == 4 * 2 * CALLS * PHASES
        for call in history:
            kind = f"{call.operation}: {'refused' if call.answer == 'not found' else 'done'}"
            operations[kind] = operations.get(kind, 0) + 1
        assert is_linearizable(history, (token, 1, ()), step), sorted(
            history, key=lambda call: call.began
        )
    sys.stdout.write(f"{ROUNDS} histories of {4 * 2 * CALLS * PHASES} calls: {operations}\n")
    assert all(
        operations.get(f"{each}: done", 0) > 20
        for each in ("read", "patch", "rotate", "end", "end_all")
    )
    assert all(
        operations.get(f"{each}: refused", 0) > 20 for each in ("read", "patch", "rotate", "end")
    )


def _play(
    processes: list["subprocess.Popen[str]"], number: int, subject: str | None, token: str
) -> list[Call]:
    history: list[Call] = []
    tokens = [token]
    for phase in range(PHASES):
        for index, each in enumerate(processes):
            assert each.stdin is not None
            each.stdin.write(
                json.dumps([f"{number}-{phase}-{index}", "acme", subject, tokens, CALLS]) + "\n"
            )
            each.stdin.flush()
        for each in processes:
            assert each.stdout is not None
            history += [Call(*done) for done in json.loads(each.stdout.readline())]
        rotated = sorted(
            (call for call in history if call.operation == "rotate" and call.answer != "not found"),
            key=lambda call: call.ended,
        )
        tokens = [token, *(call.answer["token"] for call in rotated)]
    return history


def test_search_finds_histories_that_are_not_linearizable() -> None:
    def call(began: float, ended: float, operation: str, answer: Any, token: str = "t") -> Call:
        return Call(
            began, ended, operation, {"token": token, "patch": {"key": "a", "value": "1"}}, answer
        )

    seen = {"version": 1, "data": {}}
    patched = {"version": 2, "data": {"a": "1"}}
    start = ("t", 1, ())
    assert is_linearizable(
        [call(0, 10, "patch", patched), call(1, 2, "read", seen), call(3, 4, "read", patched)],
        start,
        step,
    )
    # A stale read.
    assert not is_linearizable(
        [call(0, 1, "patch", patched), call(2, 3, "read", seen)], start, step
    )
    # Read after its end.
    assert not is_linearizable(
        [call(0, 1, "end_all", "ended all"), call(2, 3, "read", seen)], start, step
    )
    # A lost update.
    assert not is_linearizable(
        [call(0, 1, "patch", patched), call(2, 3, "patch", patched)], start, step
    )
    rotated = {"version": 2, "data": {}, "token": "u"}
    # Two tokens at once.
    assert not is_linearizable(
        [call(0, 9, "rotate", rotated), call(0, 9, "rotate", {**rotated, "token": "v"})],
        start,
        step,
    )
    # No token at all.
    assert not is_linearizable(
        [call(0, 1, "rotate", rotated), call(2, 3, "read", "not found", "u")], start, step
    )
