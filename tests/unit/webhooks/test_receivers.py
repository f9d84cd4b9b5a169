"""The rest of slow receivers, on a virtual clock."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mayfly.aws.dynamodb import DynamoDB
from mayfly.webhooks import Receivers
from mayfly.webhooks.receivers import _REMEMBERED
from mayfly.webhooks.store import Endpoints, SlowReceivers

from tests.support.fakes import FixedClock
from tests.support.faults import Faults

TIMEOUT = 15.0


class Shared:
    """Notes that a test can read."""

    def __init__(self) -> None:
        self.slow: set[tuple[str, str]] = set()
        self.asked: list[str] = []
        self.noted: list[str] = []
        self.turned: list[str] = []
        self.counted = 0

    def is_slow(self, tenant: str, origin: str) -> bool:
        self.asked.append(origin)
        return (tenant, origin) in self.slow

    def note_slow(self, tenant: str, origin: str) -> None:
        self.noted.append(origin)
        self.slow.add((tenant, origin))

    def note_turned(self, tenant: str, origin: str) -> None:
        self.turned.append(origin)

    def count_turned(self, tenant: str) -> int:
        self.counted += 1
        return len(set(self.turned))


class Process:
    """Receivers as one process knows them, and its clock."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.jitter = 0.5
        self.notes = Shared()
        self.receivers = Receivers(lambda: self.now, lambda: self.jitter, self.notes)

    def deliver(self, origin: str, takes: float, tenant: str = "acme") -> None:
        with self.receivers.waiting(tenant, origin):
            self.now += takes

    def deliver_together(self, origins: list[str], takes: float) -> None:
        contexts = [self.receivers.waiting("acme", origin) for origin in origins]
        for context in contexts:
            context.__enter__()
        self.now += takes
        for context in contexts:
            context.__exit__(None, None, None)

    def rest(self, origin: str, tenant: str = "acme") -> float:
        return self.receivers.rest_seconds(tenant, origin)


def test_unknown_receiver_does_not_rest() -> None:
    assert Process().rest("a") == 0


def test_quick_receiver_never_rests() -> None:
    process = Process()
    for _ in range(1000):
        process.deliver("a", 1.9)
        assert process.rest("a") == 0


def test_one_slow_answer_causes_no_rest() -> None:
    process = Process()
    process.deliver("a", 4.9)
    assert process.rest("a") == 0


def test_receiver_that_did_not_answer_rests_and_then_may_be_asked_again() -> None:
    process = Process()
    process.deliver("a", TIMEOUT)
    assert 20 <= process.rest("a") <= 40
    process.now += 19.9
    assert process.rest("a") > 0
    process.now += 0.2
    assert process.rest("a") == 0


def test_delivery_that_fails_counts_like_any_other() -> None:
    process = Process()
    with pytest.raises(OSError, match="no answer"), process.receivers.waiting("acme", "a"):
        process.now += TIMEOUT
        raise OSError("no answer")
    assert process.rest("a") > 0


def test_rest_is_ten_seconds_at_least_and_is_spread() -> None:
    rests = []
    for jitter in (0.0, 1.0):
        process = Process()
        process.deliver("a", TIMEOUT)
        process.now += 19
        process.jitter = jitter
        rests.append(process.rest("a"))
    assert rests == [10, 20]


def test_deliveries_that_wait_at_the_same_time_count_once() -> None:
    one, ten = Process(), Process()
    one.deliver("a", TIMEOUT)
    ten.deliver_together(["a"] * 10, TIMEOUT)
    assert one.rest("a") == ten.rest("a")


def test_tenant_cannot_make_the_receiver_of_another_tenant_rest() -> None:
    process = Process()
    for number in range(100):
        process.deliver("a", TIMEOUT, tenant="loud")
        process.deliver(f"b{number}", TIMEOUT, tenant="loud")
    assert process.rest("a", tenant="loud") > 0
    assert process.rest("a", tenant="quiet") == 0
    assert process.notes.asked == []


@pytest.mark.parametrize("takes", [5.0, 14.0, TIMEOUT])
def test_one_slow_receiver_does_not_make_the_others_of_its_tenant_rest(takes: float) -> None:
    process = Process()
    for _ in range(50):
        while process.rest("a"):
            process.now += 1
        process.deliver("a", takes)
        process.notes.slow.clear()  # the process knows it by itself
        assert process.rest("b") == 0


def test_tenant_with_many_slow_receivers_rests_except_for_those_that_are_quick() -> None:
    process = Process()
    process.deliver("quick", 0.1)
    for number in range(2):
        process.deliver(f"slow{number}", TIMEOUT)
    assert (process.rest("unknown") > 0, process.rest("quick")) == (True, 0)


def test_not_even_quick_receivers_are_asked_without_end_if_they_become_slow() -> None:
    process = Process()
    for number in range(20):
        process.deliver(f"a{number}", 0.1)
    asked = 0
    for number in range(20):
        if not process.rest(f"a{number}"):
            process.deliver(f"a{number}", TIMEOUT)
            asked += 1
    assert 2 <= asked <= 6


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 30), st.integers(0, 20))))
def test_waiting_for_a_tenant_has_two_thirds_of_the_time_at_most(
    deliveries: list[tuple[str, int, int]],
) -> None:
    """Whatever its receivers do: a third each for those that were quick, and for all others.

    Beyond it are the credit, and one delivery that begins within it.
    """
    process, waited = Process(), 0.0
    start = process.now
    for origin, takes, pause in deliveries:
        if not process.rest(origin):
            process.deliver(origin, takes)
            waited += takes if takes >= 2 else 0
        process.now += pause
    assert waited <= 2 * ((process.now - start) / 3 + 2 / 3 * 24 + 30) + 1e-6


# ---------------------------------------------------------------- many receivers that turn slow


def test_dead_receivers_never_make_those_rest_that_were_quick() -> None:
    process = Process()
    process.deliver("quick", 0.1)
    for number in range(50):
        process.deliver(f"dead{number}", TIMEOUT)
        assert process.rest("quick") == 0


@pytest.mark.parametrize(("turned", "rests"), [(1, False), (2, False), (3, True), (10, True)])
def test_unknown_receivers_rest_after_one_timeout_if_many_others_have_turned_slow(
    turned: int, rests: bool
) -> None:
    process = Process()
    process.deliver_together([f"dead{number}" for number in range(turned)], TIMEOUT)
    assert (process.rest("unknown") > 0) is rests


@pytest.mark.parametrize(("turned", "rests"), [(1, False), (2, False), (3, True), (10, True)])
def test_quick_receivers_rest_after_one_timeout_if_many_that_were_quick_have_turned_slow(
    turned: int, rests: bool
) -> None:
    process = Process()
    origins = [f"a{number}" for number in range(turned)]
    for origin in ["quick", *origins]:
        process.deliver(origin, 0.1)
    process.deliver_together(origins, TIMEOUT)
    assert (process.rest("quick") > 0) is rests


def test_receivers_that_turned_slow_in_other_processes_count() -> None:
    process = Process()
    process.notes.turned += ["a", "b"]
    process.deliver("c", TIMEOUT)
    assert process.rest("unknown") > 0


def test_receiver_turns_slow_once_until_it_is_quick_again() -> None:
    process = Process()
    process.notes.slow.add(("acme", "noted"))
    process.deliver("a", TIMEOUT)
    process.rest("noted")
    for origin in ("a", "noted"):
        process.deliver(origin, TIMEOUT)
    assert process.notes.turned == ["a"]
    process.deliver("a", 0.1)
    process.deliver("a", TIMEOUT)
    assert process.notes.turned == ["a", "a"]


def test_turned_receivers_are_counted_only_if_their_number_decides() -> None:
    process = Process()
    for origin in ("a", "b"):
        process.rest(origin)
        process.deliver(origin, 0.1)
        process.rest(origin)
    process.deliver("slow", TIMEOUT, tenant="other")
    process.rest("a")
    process.deliver("slow", TIMEOUT)
    process.rest("slow")
    assert process.notes.counted == 0
    process.rest("unknown")
    assert process.notes.counted == 1


@pytest.mark.parametrize("jitter", [0.0, 1.0])
def test_receiver_that_is_not_known_to_be_slow_rests_for_ten_to_twenty_seconds(
    jitter: float,
) -> None:
    process = Process()
    process.jitter = jitter
    for number in range(4):
        process.deliver(f"dead{number}", TIMEOUT)
    assert process.rest("unknown") == 10 * (1 + jitter)
    assert process.rest("dead0") >= 80


def test_receivers_that_were_not_used_for_long_are_forgotten() -> None:
    process = Process()
    process.deliver("first", TIMEOUT)
    for number in range(_REMEMBERED):
        process.deliver(f"a{number}", 0.0)
    process.notes.slow.clear()
    assert process.rest("first") == 0
    assert len(process.receivers._receivers) <= _REMEMBERED


# ---------------------------------------------------------------- what processes tell each other


def test_processes_tell_each_other_about_slow_receivers_but_not_all_the_time() -> None:
    process = Process()
    process.deliver_together(["a"] * 10, TIMEOUT)
    assert process.notes.noted == ["a"]
    process.deliver("a", TIMEOUT)
    assert process.notes.noted == ["a"]
    process.now += 20
    process.deliver("a", TIMEOUT)
    assert process.notes.noted == ["a", "a"]


def test_notes_are_not_read_while_no_receiver_of_the_tenant_is_slow() -> None:
    process = Process()
    process.deliver("a", 0.1)
    process.deliver("b", 4.0)
    process.deliver("slow", TIMEOUT, tenant="other")
    assert (process.rest("a"), process.rest("c"), process.notes.asked) == (0, 0, [])


def test_unknown_receiver_that_another_process_has_noted_rests() -> None:
    process = Process()
    process.notes.slow.add(("acme", "noted"))
    process.deliver("slow", TIMEOUT)
    assert (process.rest("noted") > 0, process.rest("unknown")) == (True, 0)
    process.rest("noted")
    assert process.notes.asked == ["noted", "unknown"]


def test_own_experience_counts_for_more_than_a_note() -> None:
    process = Process()
    process.notes.slow.add(("acme", "a"))
    process.deliver("a", 0.1)
    process.deliver("slow", TIMEOUT)
    assert process.rest("a") == 0


@pytest.fixture
def notes(dynamodb: Any) -> tuple[SlowReceivers, FixedClock]:
    clock = FixedClock()
    return SlowReceivers(DynamoDB(dynamodb, lambda _: None), "EndpointsTable", clock), clock


def test_note_is_kept_for_five_minutes_and_for_its_tenant(
    notes: tuple[SlowReceivers, FixedClock],
) -> None:
    slow, clock = notes
    slow.note_slow("acme", "https://a")
    assert (slow.is_slow("acme", "https://a"), slow.is_slow("other", "https://a")) == (True, False)
    clock.advance(302)
    assert not slow.is_slow("acme", "https://a")


def test_note_does_not_end_an_endpoint(
    dynamodb: Any, notes: tuple[SlowReceivers, FixedClock]
) -> None:
    slow, clock = notes
    slow.note_slow("acme", "https://a")
    endpoints = Endpoints(DynamoDB(dynamodb, lambda _: None), "EndpointsTable", clock)
    assert not endpoints.is_gone("acme", "https://a")


def test_notes_that_cannot_be_kept_are_done_without(
    dynamodb: Any, notes: tuple[SlowReceivers, FixedClock]
) -> None:
    slow, _ = notes
    slow.note_slow("acme", "a")
    Faults(dynamodb).plan = lambda operation, number: "error"
    slow.note_slow("acme", "b")
    assert not slow.is_slow("acme", "a")


def test_receivers_of_a_tenant_that_turned_slow_are_counted_once_each(
    notes: tuple[SlowReceivers, FixedClock],
) -> None:
    slow, _ = notes
    for origin in ("https://a", "https://b", "https://a", "https://c"):
        slow.note_turned("acme", origin)
    slow.note_turned("other", "https://d")
    assert [slow.count_turned(tenant) for tenant in ("acme", "other", "quiet")] == [3, 1, 0]


def test_receivers_that_turned_slow_count_as_long_as_each_comes_within_a_minute(
    notes: tuple[SlowReceivers, FixedClock],
) -> None:
    slow, clock = notes
    counts = []
    for pause, origin in ((0, "a"), (50, "b"), (50, "c"), (62, "d")):
        clock.advance(pause)
        slow.note_turned("acme", origin)
        counts.append(slow.count_turned("acme"))
    assert counts == [1, 2, 3, 1]
    clock.advance(62)
    assert slow.count_turned("acme") == 0


def test_turned_receivers_that_cannot_be_noted_are_done_without(
    dynamodb: Any, notes: tuple[SlowReceivers, FixedClock]
) -> None:
    slow, _ = notes
    slow.note_turned("acme", "a")
    Faults(dynamodb).plan = lambda operation, number: "error"
    slow.note_turned("acme", "b")
    assert slow.count_turned("acme") == 0
