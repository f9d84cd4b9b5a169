"""The rest of slow receivers, on a virtual clock."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mayfly.aws.dynamodb import DynamoDB
from mayfly.webhooks import Receivers
from mayfly.webhooks.receivers import _REMEMBERED, Note, least_return_seconds
from mayfly.webhooks.store import Endpoints, ReceiverNotes

from tests.support.fakes import FixedClock
from tests.support.faults import Faults

TEMPLATE = (Path(__file__).parent.parent.parent.parent / "template.yaml").read_text()
TIMEOUT = 15.0


class Shared:
    """Notes that a test can read."""

    def __init__(self) -> None:
        self.answers: dict[str, Note] = {}
        self.asked: list[str] = []
        self.written: list[tuple[str, bool]] = []
        self.late: dict[str, float | None] = {}
        self.turned: list[str] = []
        self.counted = 0

    def read(self, tenant: str, origin: str) -> Note | None:
        self.asked.append(origin)
        return self.answers.get(origin)

    def write(
        self, tenant: str, origin: str, *, is_quick: bool, late_seconds: float | None = None
    ) -> None:
        self.late[origin] = late_seconds
        self.written.append((origin, is_quick))

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
def test_waiting_for_a_tenant_has_a_third_of_the_time_at_most(
    deliveries: list[tuple[str, int, int]],
) -> None:
    """Whatever its receivers do.

    Beyond it are the credits of the two accounts, and one delivery that begins within each.
    """
    process, waited = Process(), 0.0
    start = process.now
    for origin, takes, pause in deliveries:
        if not process.rest(origin):
            process.deliver(origin, takes)
            waited += takes if takes >= 2 else 0
        process.now += pause
    credit = 2 / 3 * (24 + 24)
    assert waited <= (process.now - start) / 3 + credit + 2 * 30 + 1e-6


def test_receivers_that_are_known_to_be_slow_leave_room_for_unknown_ones() -> None:
    process = Process()
    process.deliver("slow", TIMEOUT)
    process.now += 300
    for _ in range(20):
        while process.rest("slow"):
            process.now += 1
        process.deliver("slow", TIMEOUT)
        process.now += 6
        process.notes.turned = ["a", "b", "c"]  # even while many turn slow
        assert process.rest("unknown") == 0


def test_unknown_receivers_leave_no_time_to_those_that_are_known_to_be_slow() -> None:
    """So they have time only if all waiting is made up for."""
    process = Process()
    process.deliver("slow", TIMEOUT)
    process.now += 300
    for number in range(20):
        while process.rest(f"unknown{number}"):
            process.now += 1
        process.deliver(f"unknown{number}", TIMEOUT)
        assert process.rest("slow") > 0


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


@pytest.mark.parametrize("kind", ["quick", "unknown"])
def test_gap_after_waiting_while_many_turn_slow_is_six_seconds(kind: str) -> None:
    process = Process()
    origins = ["a", "b", "c"]
    if kind == "quick":
        for origin in ["quick", *origins]:
            process.deliver(origin, 0.1)
    process.deliver_together(origins, TIMEOUT)
    process.now += 5.9
    assert process.rest(kind) > 0
    process.now += 0.2
    assert process.rest(kind) == 0


def test_receivers_that_turned_slow_in_other_processes_count() -> None:
    process = Process()
    process.notes.turned += ["a", "b"]
    process.deliver("c", TIMEOUT)
    assert process.rest("unknown") > 0


def test_receiver_turns_slow_once_until_it_is_quick_again() -> None:
    process = Process()
    process.notes.answers["noted"] = Note(is_quick=False, age=60)
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
    assert process.rest("first") == 0
    assert len(process.receivers._receivers) <= _REMEMBERED


# ---------------------------------------------------------------- slow receivers of many tenants


class Busy(Process):
    """A process that has waited for a dead receiver of each of some tenants, one after another."""

    def __init__(self, tenants: int = 3) -> None:
        super().__init__()
        for number in range(tenants):
            self.die("dead", f"loud{number}")

    def die(self, origin: str, tenant: str, takes: float = TIMEOUT) -> None:
        with pytest.raises(TimeoutError), self.receivers.waiting(tenant, origin):
            self.now += takes
            raise TimeoutError


@pytest.mark.parametrize(("tenants", "rests"), [(1, False), (2, False), (3, True), (50, True)])
def test_slow_receivers_rest_for_those_of_other_tenants_if_these_are_many(
    tenants: int, rests: bool
) -> None:
    process = Busy()
    process.now += 10_000  # all is made up for, and no tenant has slow ones any more
    for number in range(tenants - 1):
        process.die("dead", f"other{number}")
    process.die("dead", "loud0")
    process.now += 10  # more than the gap
    process.notes.answers["noted"] = Note(is_quick=False, age=60)
    process.notes.turned = ["noted"]
    assert (process.rest("noted", tenant="acme") > 0) is rests


@pytest.mark.parametrize("known", ["quick", "unknown"])
def test_tenant_without_slow_receivers_does_not_rest_for_many_others(known: str) -> None:
    process = Busy(tenants=50)
    if known == "quick":
        process.deliver(known, 0.1, tenant="quiet")
    process.notes.turned.clear()  # those of the tenant
    assert process.rest(known, tenant="quiet") == 0


@pytest.mark.parametrize("is_quick", [True, False])
def test_receiver_that_was_quick_rests_for_many_tenants_if_another_process_knows_it_is_slow(
    is_quick: bool,
) -> None:
    """So not each process has to find out about each tenant if a provider is down."""
    process = Busy()
    process.deliver("a", 0.1)
    process.die("dead", "loud9")
    process.die("dead", "loud8")
    process.notes.answers["a"] = Note(is_quick=is_quick, age=5)
    assert (process.rest("a") == 0) is is_quick


def test_quick_receiver_is_not_asked_about_within_half_a_minute_of_its_answer() -> None:
    process = Busy()
    process.deliver("a", 0.1)
    process.rest("a")
    assert process.notes.asked == []


@given(
    st.lists(
        st.tuples(st.sampled_from("abcdefghij"), st.booleans(), st.integers(2, 15)), max_size=200
    )
)
def test_waiting_for_many_tenants_has_half_and_a_quarter_of_the_time_at_most(
    deliveries: list[tuple[str, bool, int]],
) -> None:
    """Half for those that do not answer, a quarter for those that do, whatever they do.

    Beyond it are the credits, and one delivery that begins within each. A tenant has two receivers,
    of which each is dead or late for good.
    """
    process = Busy(tenants=10)
    for tenant in "abcdefghij":
        process.die("dead", tenant)
        process.deliver("late", 3, tenant=tenant)
    start, waited = process.now, {True: 0.0, False: 0.0}
    for tenant, is_late, takes in deliveries:
        origin = "late" if is_late else "dead"
        if process.rest(origin, tenant=tenant):
            process.now += 1
        elif is_late:
            process.deliver(origin, takes, tenant=tenant)
            waited[True] += takes
        else:
            process.die(origin, tenant, takes)
            waited[False] += takes
        process.now += 1.01  # not the same batch
    for is_late, share in ((True, 4 * 0.75), (False, 2 * 0.75)):
        assert waited[is_late] <= (process.now - start) / share + 13 + 2 * 15


def test_receivers_that_answer_late_do_not_rest_for_dead_ones_of_others() -> None:
    process = Busy()
    process.deliver("late", 3)
    process.now += 60
    for number in range(10):
        process.die("dead", f"loud{number}")
    assert process.rest("late") == 0


def test_dead_receivers_do_not_rest_for_those_of_others_that_answer_late() -> None:
    process = Busy()
    process.die("dead", "acme")
    process.now += 300
    for number in range(10):
        process.deliver("late", 14, tenant=f"other{number}")
    assert process.rest("dead") == 0


def test_receivers_that_answer_sooner_rest_for_a_shorter_time() -> None:
    process = Busy()
    for origin, takes in (("sooner", 3.0), ("later", 12.0)):
        process.deliver(origin, takes, tenant=origin)
    process.now += 120
    process.deliver("other", 12, tenant="other")
    process.now += 10
    assert (process.rest("sooner", "sooner"), process.rest("later", "later") > 0) == (0, True)


def test_tenant_that_was_not_asked_for_five_minutes_has_its_turn() -> None:
    """Others use up all the time meanwhile."""
    process = Busy()
    process.die("dead", "acme")
    asked, start = process.now, process.now
    while process.now < start + 3000:
        for number in range(50):
            if not process.rest("dead", f"loud{number}"):
                process.die("dead", f"loud{number}")
        if not process.rest("dead"):
            assert process.now - asked <= 330
            process.die("dead", "acme")
            asked = process.now
        process.now += 1.01


def test_slow_receivers_of_a_batch_wait_together_whatever_their_turns_are() -> None:
    process = Busy()
    process.die("dead", "acme")
    process.now += 320
    process.die("dead", "loud0")
    process.die("dead", "loud1")
    process.now += 40  # so both have no rest of their own
    process.die("dead", "loud2")
    process.now += 4
    assert process.rest("dead", "loud1") > 0
    assert process.rest("dead") == 0
    assert process.rest("dead", "loud1") == 0
    process.now += 1.1
    assert process.rest("dead", "loud1") > 0


def test_deliveries_that_rest_for_many_tenants_come_back_at_the_same_times() -> None:
    process = Busy(tenants=10)
    for number in range(100):
        process.jitter = number / 100
        seconds = process.rest("dead", f"loud{number % 10}")
        assert seconds >= 10
        assert (process.now + seconds) % 5 == pytest.approx(0, abs=1e-6)
        process.now += 0.037


def test_note_says_how_late_a_receiver_answers_and_nothing_if_it_does_not() -> None:
    process = Busy()
    process.deliver("late", 3)
    process.deliver("quick", 0.1)
    assert process.notes.late == {"dead": None, "late": pytest.approx(3), "quick": None}


# ---------------------------------------------------------------- the receives of a message


def test_message_that_rests_cannot_use_up_its_receives_within_two_days() -> None:
    """The queue makes it a dead letter after `maxReceiveCount` receives."""
    (most,) = map(
        int, re.findall(r"WebhooksDeadLetters.Arn\n.*\n +maxReceiveCount: (\d+)", TEMPLATE)
    )
    process, rested = Busy(), 0.0
    process.jitter = 0.0  # the shortest rests
    for receives in range(1, most + 1):
        for number in range(3):
            process.die("dead", f"loud{number}")
        rest = process.receivers.rest_seconds("loud0", "dead", receives)
        assert rest >= least_return_seconds(receives)
        rested += rest
        process.now += rest
    assert rested >= 2 * 24 * 3600


def test_rest_that_grows_is_20_seconds_or_an_eighth_of_the_rests_before_at_most() -> None:
    """So a webhook is not delayed for much longer than its receiver does not answer."""
    before = 0.0
    for receives in range(1, 201):
        longest = 2 * least_return_seconds(receives)
        assert longest <= max(20.0, before / 8)
        before += least_return_seconds(receives)


def test_rests_of_a_message_do_not_grow_in_the_first_minutes() -> None:
    assert {least_return_seconds(receives) for receives in range(1, 44)} == {10.0}
    assert least_return_seconds(44) > 10


# ---------------------------------------------------------------- batches of those that rest


def test_deliveries_to_different_receivers_that_rest_come_back_together() -> None:
    """Their next batch is full, so a process finds out about all of them in one timeout."""
    process = Process()
    draws = iter([0.5, 0.1, 0.9, 0.3])
    process.deliver_together(["a", "b", "c"], TIMEOUT)
    process.jitter = next(draws)
    together = []
    for number in range(9):
        together.append(process.now + process.rest(f"unknown{number}"))
        process.now += 0.1
        process.jitter = next(draws, 0.7)
    assert max(together) - min(together) < 1
    process.now += 0.2
    process.jitter = 1.0
    assert process.rest("later") == 20


def test_deliveries_to_the_same_receiver_that_rest_come_back_apart() -> None:
    """Their next batches have several receivers."""
    process = Process()
    process.deliver_together(["a", "b", "c"], TIMEOUT)
    rests = []
    for jitter in (0.1, 0.5, 0.9):
        process.jitter = jitter
        rests.append((process.rest("unknown"), process.rest("other")))
    assert rests == [(11, 11), (15, 15), (19, 19)]


# ---------------------------------------------------------------- what processes tell each other


def test_processes_tell_each_other_about_slow_receivers_but_not_all_the_time() -> None:
    process = Process()
    process.deliver_together(["a"] * 10, TIMEOUT)
    assert process.notes.written == [("a", False)]
    process.deliver("a", TIMEOUT)
    assert process.notes.written == [("a", False)]
    process.now += 20
    process.deliver("a", TIMEOUT)
    assert process.notes.written == [("a", False)] * 2


def test_quick_receiver_is_noted_once_in_half_an_hour() -> None:
    process = Process()
    for _ in range(200):
        process.deliver("a", 0.1)
        process.now += 20
    assert process.notes.written == [("a", True)] * 3


@pytest.mark.parametrize(("first", "then"), [(TIMEOUT, 0.1), (0.1, TIMEOUT)])
def test_receiver_that_has_changed_is_noted_after_half_a_minute(first: float, then: float) -> None:
    process = Process()
    process.deliver("a", first)
    process.now += 10
    process.deliver("a", then)
    assert process.notes.written == [("a", first < 2)]
    process.now += 30
    process.deliver("a", then)
    assert process.notes.written == [("a", first < 2), ("a", then < 2)]


def test_note_of_another_process_that_is_out_of_date_is_replaced() -> None:
    process = Process()
    for origin in ("a", "dead"):
        process.deliver(origin, 0.1)
    process.notes.answers["a"] = Note(is_quick=False, age=60)
    process.now += 30
    process.deliver("a", 0.1)
    assert process.notes.written[-1] == ("dead", True)
    process.deliver("dead", TIMEOUT)
    assert process.rest("a") == 0  # reads the note; its own answer is later
    process.deliver("a", 0.1)
    assert process.notes.written[-1] == ("a", True)


def test_notes_are_not_read_while_no_receiver_of_the_tenant_is_slow() -> None:
    process = Process()
    process.deliver("a", 0.1)
    process.deliver("b", 4.0)
    process.deliver("slow", TIMEOUT, tenant="other")
    assert (process.rest("a"), process.rest("c"), process.notes.asked) == (0, 0, [])


def test_unknown_receiver_that_was_slow_in_another_process_rests() -> None:
    process = Process()
    process.notes.answers["noted"] = Note(is_quick=False, age=60)
    process.deliver("slow", TIMEOUT)
    assert (process.rest("noted") > 0, process.rest("unknown")) == (True, 0)
    process.rest("noted")
    assert process.notes.asked == ["noted", "unknown"]


def test_unknown_receiver_that_was_quick_in_another_process_does_not_rest() -> None:
    """However many dead ones this process has waited for."""
    process = Process()
    process.notes.answers["noted"] = Note(is_quick=True, age=1800)
    for number in range(50):
        process.deliver(f"dead{number}", TIMEOUT)
    assert (process.rest("noted"), process.rest("unknown") > 0) == (0, True)


def test_receiver_that_was_quick_and_has_died_since_is_not_asked_by_all_processes() -> None:
    process = Process()
    for origin in ("a", "b"):
        process.deliver(origin, 0.1)
    process.now += 60
    process.deliver("a", TIMEOUT)
    process.notes.answers["b"] = Note(is_quick=False, age=5)
    assert process.rest("b") > 0


@pytest.mark.parametrize("is_quick", [True, False])
def test_later_answer_counts_for_more_than_a_note(is_quick: bool) -> None:
    process = Process()
    process.notes.answers["a"] = Note(is_quick=not is_quick, age=60)
    process.deliver("a", 0.1 if is_quick else TIMEOUT)
    process.deliver("b", 0.1)
    process.deliver("b", TIMEOUT)  # so that notes on quick ones are read
    process.deliver("slow", TIMEOUT)
    assert (process.rest("a") == 0) is is_quick


@pytest.fixture
def notes(dynamodb: Any) -> tuple[ReceiverNotes, FixedClock]:
    clock = FixedClock()
    return ReceiverNotes(DynamoDB(dynamodb, lambda _: None), "EndpointsTable", clock), clock


def test_note_keeps_how_late_a_receiver_answers(notes: tuple[ReceiverNotes, FixedClock]) -> None:
    kept, _ = notes
    kept.write("acme", "https://a", is_quick=False, late_seconds=3.25)
    assert kept.read("acme", "https://a") == Note(is_quick=False, age=0, late_seconds=3.25)
    kept.write("acme", "https://a", is_quick=False)
    assert kept.read("acme", "https://a") == Note(is_quick=False, age=0)


@pytest.mark.parametrize("is_quick", [True, False])
def test_note_is_kept_for_an_hour_and_for_its_tenant(
    notes: tuple[ReceiverNotes, FixedClock], is_quick: bool
) -> None:
    kept, clock = notes
    kept.write("acme", "https://a", is_quick=is_quick)
    clock.advance(3600)
    assert kept.read("acme", "https://a") == Note(is_quick, age=3600)
    assert kept.read("other", "https://a") is None
    clock.advance(2)
    assert kept.read("acme", "https://a") is None


def test_last_note_on_a_receiver_counts(notes: tuple[ReceiverNotes, FixedClock]) -> None:
    kept, clock = notes
    for is_quick in (True, False, True):
        clock.advance(60)
        kept.write("acme", "https://a", is_quick=is_quick)
        assert kept.read("acme", "https://a") == Note(is_quick, age=0)


def test_note_of_a_process_whose_clock_is_ahead_is_as_good_as_new(
    notes: tuple[ReceiverNotes, FixedClock],
) -> None:
    kept, clock = notes
    kept.write("acme", "https://a", is_quick=True)
    clock.advance(-3)
    assert kept.read("acme", "https://a") == Note(is_quick=True, age=0)


def test_notes_stay_small_however_many_receivers_and_however_long_their_names(
    dynamodb: Any, notes: tuple[ReceiverNotes, FixedClock]
) -> None:
    """A unit of DynamoDB is 1 KB for a write, so each of the calls takes one."""
    kept, _ = notes
    for number in range(300):
        kept.write("acme", f"https://{'a' * 200}{number}.example", is_quick=True)
        kept.note_turned("acme", f"https://{number}.example")
    items = dynamodb.scan(TableName="EndpointsTable")["Items"]
    assert len(items) == 301
    assert max(len(str(item)) for item in items if "quick" in item) < 300
    (turned,) = [item for item in items if "origins" in item]
    assert len(turned["origins"]["SS"]) <= 256


def test_note_does_not_end_an_endpoint(
    dynamodb: Any, notes: tuple[ReceiverNotes, FixedClock]
) -> None:
    kept, clock = notes
    kept.write("acme", "https://a", is_quick=False)
    endpoints = Endpoints(DynamoDB(dynamodb, lambda _: None), "EndpointsTable", clock)
    assert not endpoints.is_gone("acme", "https://a")


def test_notes_that_cannot_be_kept_are_done_without(
    dynamodb: Any, notes: tuple[ReceiverNotes, FixedClock]
) -> None:
    kept, _ = notes
    kept.write("acme", "a", is_quick=False)
    Faults(dynamodb).plan = lambda operation, number: "error"
    kept.write("acme", "b", is_quick=False)
    assert kept.read("acme", "a") is None


def test_receivers_of_a_tenant_that_turned_slow_are_counted_once_each(
    notes: tuple[ReceiverNotes, FixedClock],
) -> None:
    slow, _ = notes
    for origin in ("https://a", "https://b", "https://a", "https://c"):
        slow.note_turned("acme", origin)
    slow.note_turned("other", "https://d")
    assert [slow.count_turned(tenant) for tenant in ("acme", "other", "quiet")] == [3, 1, 0]


def test_receivers_that_turned_slow_count_as_long_as_each_comes_within_a_minute(
    notes: tuple[ReceiverNotes, FixedClock],
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
    dynamodb: Any, notes: tuple[ReceiverNotes, FixedClock]
) -> None:
    slow, _ = notes
    slow.note_turned("acme", "a")
    Faults(dynamodb).plan = lambda operation, number: "error"
    slow.note_turned("acme", "b")
    assert slow.count_turned("acme") == 0
