"""Good webhooks behind a thousand to receivers that do not answer: a model of queue and workers.

The model has a queue in the order of sending, processes that each work on one batch at a time, and
a virtual clock. The rules are the product's own: `Receivers` of each process, the pauses between
attempts, and the batch size of the template. Good webhooks are sent all the time, and the model
measures from the time at which each one is sent to the time at which it is answered.

Run as a program, it prints the table of docs/webhooks.md.
"""

import heapq
import itertools
import random  # noqa: TID251  # seeded, to be played again
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from mayfly.jobs.rules import waits_by_message
from mayfly.webhooks import Receivers
from mayfly.webhooks.receivers import Note
from mayfly.webhooks.rules import pause_seconds

ROOT = Path(__file__).parent.parent.parent
TEMPLATE = (ROOT / "template.yaml").read_text()
(BATCH,) = map(
    int, re.findall(r"Queue: !GetAtt WebhooksQueue.Arn\n.*\n +BatchSize: (\d+)", TEMPLATE)
)
PAUSES = (5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
TIMEOUT = 15.0
#: The work on a batch next to its deliveries: reads, claims, commits, visibility.
OVERHEAD = 0.1
QUICK = 0.2
SECONDS = 900
HOUR = 3600
#: Receivers of the good webhooks.
GOOD = 50


Wait = AbstractContextManager[None]


@dataclass(eq=False)
class Message:
    """A message, its delivery, and the time that the receiver takes to answer.

    From `recovers` on the receiver is quick.
    """

    number: int
    tenant: str
    origin: str
    sent: float
    takes: float
    recovers: float = float("inf")
    attempts: int = 0
    #: The receives of the present message: after a long pause, a job has a new one.
    receives: int = 0
    most_receives: int = 0
    answered: float | None = None
    name: str = field(init=False)

    def __post_init__(self) -> None:
        self.name = f"{self.tenant}-{self.number}"


class Shared:
    """The notes of all processes."""

    def __init__(self) -> None:
        self.now = 0.0
        self.processes = 0
        self.answers: dict[tuple[str, str], tuple[bool, float, float | None]] = {}
        self.turned: dict[str, set[str]] = {}
        self.turned_until: dict[str, float] = {}

    def read(self, tenant: str, origin: str) -> Note | None:
        if (tenant, origin) not in self.answers:
            return None
        is_quick, noted_at, late_seconds = self.answers[tenant, origin]
        return Note(is_quick, max(0.0, self.now - noted_at), late_seconds)

    def write(
        self, tenant: str, origin: str, *, is_quick: bool, late_seconds: float | None = None
    ) -> None:
        self.answers[tenant, origin] = is_quick, self.now, late_seconds

    def note_turned(self, tenant: str, origin: str) -> None:
        if not self.count_turned(tenant):
            self.turned[tenant] = set()
        self.turned[tenant].add(origin)
        self.turned_until[tenant] = self.now + 60

    def count_turned(self, tenant: str) -> int:
        is_valid = self.now <= self.turned_until.get(tenant, -1.0)
        return len(self.turned[tenant]) if is_valid else 0


class Lost(Shared):
    """Notes that are all lost."""

    def write(
        self, tenant: str, origin: str, *, is_quick: bool, late_seconds: float | None = None
    ) -> None:
        pass

    def note_turned(self, tenant: str, origin: str) -> None:
        pass


class Process:
    """One execution environment with its knowledge of receivers, and a clock of its own."""

    def __init__(self, chance: random.Random, notes: "Shared") -> None:
        self.now = 0.0
        self.notes = notes
        # A clock of its own that began at another time.
        self.begun = 1.7 * notes.processes
        notes.processes += 1
        self.receivers = Receivers(lambda: self.now + self.begun, chance.random, notes)

    def deliver(self, messages: list[Message], start: float) -> dict[Message, float]:
        """Works on a batch. Returns the time at which each message comes back; others are done."""
        self.now = self.notes.now = start + OVERHEAD / 2
        back: dict[Message, float] = {}
        waiting: list[tuple[float, int, Message, Wait]] = []
        for message in messages:
            if self.now >= message.recovers:
                message.takes = QUICK
            rest = self.receivers.rest_seconds(message.tenant, message.origin, message.receives)
            if rest:
                back[message] = self.now + rest
                continue
            context: Wait = self.receivers.waiting(message.tenant, message.origin)
            context.__enter__()
            waiting.append((self.now + message.takes, message.number, message, context))
        for ends, _, message, context in sorted(waiting):
            self.now = self.notes.now = ends
            if message.takes < TIMEOUT:
                context.__exit__(None, None, None)
            else:  # the context raises it again
                with suppress(TimeoutError):
                    context.__exit__(TimeoutError, TimeoutError(), None)
            self.answer(message, back)
        self.now += OVERHEAD / 2
        return back

    def answer(self, message: Message, back: dict[Message, float]) -> None:
        """Ends one attempt: a delivery that took the whole timeout has failed."""
        message.attempts += 1
        if message.takes < TIMEOUT:
            message.answered = self.now
        elif message.attempts < 10:
            pause = pause_seconds(PAUSES, message.attempts, message.name, now_s=0)
            back[message] = self.now + pause
            if not waits_by_message(int(pause * 1000), 0):
                message.receives = 0


class SerialProcess(Process):
    """A process as it was in 0.2.0: second attempts run one after another; nothing rests."""

    def deliver(self, messages: list[Message], start: float) -> dict[Message, float]:
        self.now = start + OVERHEAD / 2
        back: dict[Message, float] = {}
        first = [message for message in messages if message.receives == 1]
        begun = self.now
        for message in sorted(first, key=lambda message: message.takes):
            self.now = begun + message.takes
            self.answer(message, back)
        for message in messages:
            if message.receives > 1:
                self.now += message.takes
                self.answer(message, back)
        self.now += OVERHEAD / 2
        return back


class KnowingProcess(Process):
    """A process that has delivered to the good receivers of both tenants before."""

    def __init__(self, chance: random.Random, notes: "Shared") -> None:
        super().__init__(chance, notes)
        for tenant in ("loud", "quiet"):
            for number in range(GOOD):
                with self.receivers.waiting(tenant, f"good-{number}"):
                    pass


class NewProcess(Process):
    """A process that starts again every half minute, and knows nothing then.

    Other processes have delivered to the good receivers of both tenants before.
    """

    def __init__(self, chance: random.Random, notes: "Shared") -> None:
        super().__init__(chance, notes)
        self.jitter, self.started = chance.random, 0.0
        for tenant in ("loud", "quiet"):
            for number in range(GOOD):
                notes.write(tenant, f"good-{number}", is_quick=True)

    def deliver(self, messages: list[Message], start: float) -> dict[Message, float]:
        if start >= self.started + 30:
            self.started = start
            self.receivers = Receivers(lambda: self.now + self.begun, self.jitter, self.notes)
        return super().deliver(messages, start)


@dataclass(frozen=True)
class Outcome:
    """The delays of good webhooks in seconds, sorted, and the attempts at the others."""

    delays: list[float]
    attempts: int
    receives: int

    @property
    def worst(self) -> float:
        return self.delays[-1]

    @property
    def median(self) -> float:
        return self.delays[len(self.delays) // 2]


def play(
    bad: list[Message],
    *,
    processes: int,
    make: Callable[[random.Random, Shared], Process] = Process,
    batch: int = BATCH,
    good_tenant: str = "quiet",
    notes: Shared | None = None,
    seconds: int = SECONDS,
    seed: int = 19,
) -> Outcome:
    """Plays a quarter of an hour. A good webhook is sent every second, to a receiver of its own."""
    chance = random.Random(seed)
    good = [
        Message(100_000 + n, good_tenant, f"good-{n % GOOD}", 1.0 + n, QUICK)
        for n in range(seconds - 60)
    ]
    # Visible messages are received in the order in which they were sent: those that come back are
    # the first again.
    hidden = [(message.sent, message.number, message) for message in (*bad, *good)]
    heapq.heapify(hidden)
    visible: list[tuple[float, int, Message]] = []
    notes = notes or Shared()
    free = [(0.0, number, make(chance, notes)) for number in range(processes)]
    heapq.heapify(free)
    while True:
        now, number, process = heapq.heappop(free)
        if not visible and hidden:
            now = max(now, hidden[0][0])
        if now > seconds:
            break
        while hidden and hidden[0][0] <= now:
            _, order, message = heapq.heappop(hidden)
            heapq.heappush(visible, (message.sent, order, message))
        received = [heapq.heappop(visible)[2] for _ in range(min(batch, len(visible)))]
        for message in received:
            message.receives += 1
            message.most_receives = max(message.most_receives, message.receives)
        back = process.deliver(received, now)
        for message, at in back.items():
            heapq.heappush(hidden, (max(at, process.now), message.number, message))
        heapq.heappush(free, (process.now, number, process))
    # One that was never answered has waited until the end at least.
    delays = sorted((message.answered or seconds) - message.sent for message in good)
    return Outcome(
        delays,
        sum(message.attempts for message in bad),
        max((message.most_receives for message in bad), default=0),
    )


def hanging(origins: Iterator[str], *, count: int = 1000, takes: float = TIMEOUT) -> list[Message]:
    """Returns webhooks of one tenant that are sent in the first second."""
    return [
        Message(n, "loud", origin, n / count, takes)
        for n, origin in zip(range(count), origins, strict=False)
    ]


def of_many(
    tenants: int, receivers: int = 1, *, count: int = 1000, takes: float = TIMEOUT
) -> list[Message]:
    """Returns webhooks of many tenants, as if a provider were down; sent in the first second."""
    return [
        Message(n, f"loud-{n % tenants}", f"bad-{n // tenants % receivers}", n / count, takes)
        for n in range(count)
    ]


def warmed_of_many(tenants: int) -> list[Message]:
    """Returns webhooks of many tenants whose receivers answer once, and then no more."""
    first = [Message(n, f"loud-{n}", "bad-0", 0.0, QUICK) for n in range(tenants)]
    return first + [
        replace(message, number=tenants + message.number, sent=2.0 + message.sent)
        for message in of_many(tenants)
    ]


def streaming(tenants: int, *, rate: int, takes: float = TIMEOUT) -> list[Message]:
    """Returns webhooks of many tenants with a slow receiver each, sent for most of an hour."""
    return [
        Message(n, f"loud-{n % tenants}", "bad", n / rate, takes) for n in range(HOUR * rate - 60)
    ]


def answering(takes: float, *, count: int = 60, every: float = 0.0) -> list[Message]:
    """Returns webhooks of one more tenant, to a receiver that answers late."""
    return [Message(50_000 + n, "late", "late", 0.5 + n * every, takes) for n in range(count)]


def recovering(at: float) -> list[Message]:
    """Returns ten webhooks of one more tenant, to a receiver that answers from a time on."""
    return [
        Message(60_000 + n, "back", "back", 2.0 + n / 10, TIMEOUT, recovers=at) for n in range(10)
    ]


def slowest(messages: list[Message], *, since: float = 0.0) -> float:
    """Returns the longest time to an answer, after both its sending and `since`."""
    return max((m.answered or float("inf")) - max(m.sent, since) for m in messages)


def in_turn(receivers: int) -> Iterator[str]:
    """Returns origins that take turns."""
    return (f"bad-{n % receivers}" for n in itertools.count())


def in_rows(length: int) -> Iterator[str]:
    """Returns origins of which each is used for a whole batch, so that each batch has a new one."""
    return (f"bad-{n // length}" for n in itertools.count())


def warmed(count: int = 1000) -> list[Message]:
    """Returns webhooks to receivers that answer once, and then no more."""
    first = [Message(n, "loud", f"bad-{n}", 0.0, QUICK) for n in range(100)]
    return first + [
        Message(100 + n, "loud", f"bad-{n // BATCH}", 2.0 + n / count, TIMEOUT)
        for n in range(count)
    ]


SCENES: dict[str, Callable[[], list[Message]]] = {
    "none": list,
    "1,000 to one receiver that never answers": lambda: hanging(in_turn(1)),
    "1,000 to one receiver that answers after 14 s": lambda: hanging(in_turn(1), takes=14),
    "1,000 to 100 receivers that never answer": lambda: hanging(in_turn(100)),
    "1,000 to 1,000 receivers that never answer": lambda: hanging(in_turn(1000)),
    "1,000, each batch with a receiver of its own": lambda: hanging(in_rows(BATCH)),
    "1,000 to receivers that answer once, then never": warmed,
}


ONE_TIMEOUT, TWO = (n * (TIMEOUT + 2.5) for n in (1, 2))


@pytest.mark.parametrize("processes", [4, 10])
@pytest.mark.parametrize(
    ("scene", "most"),
    [
        ("none", 1.0),
        ("1,000 to one receiver that never answers", ONE_TIMEOUT),
        ("1,000 to one receiver that answers after 14 s", ONE_TIMEOUT),
        ("1,000 to 100 receivers that never answer", ONE_TIMEOUT),
        ("1,000 to 1,000 receivers that never answer", ONE_TIMEOUT),
        ("1,000, each batch with a receiver of its own", ONE_TIMEOUT + 2),
        ("1,000 to receivers that answer once, then never", TWO),
    ],
)
def test_good_webhook_of_another_tenant_waits_for_a_few_timeouts_at_most(
    scene: str, most: float, processes: int
) -> None:
    """Not even a tenant that makes up receivers in order to hold up others has more."""
    outcome = play(SCENES[scene](), processes=processes)
    assert outcome.worst <= most
    assert outcome.median <= 1


@pytest.mark.parametrize("processes", [4, 10])
@pytest.mark.parametrize(
    "scene",
    [
        "1,000 to one receiver that never answers",
        "1,000 to one receiver that answers after 14 s",
    ],
)
def test_slow_receiver_does_not_hold_up_the_others_of_its_tenant(
    scene: str, processes: int
) -> None:
    outcome = play(SCENES[scene](), processes=processes, good_tenant="loud")
    assert outcome.worst <= 1.5 * TIMEOUT
    assert outcome.median <= 1


@pytest.mark.parametrize("processes", [4, 10])
@pytest.mark.parametrize(
    ("scene", "most"),
    [
        ("1,000 to one receiver that never answers", ONE_TIMEOUT),
        ("1,000 to one receiver that answers after 14 s", ONE_TIMEOUT),
        ("1,000 to 100 receivers that never answer", ONE_TIMEOUT),
        ("1,000 to 1,000 receivers that never answer", ONE_TIMEOUT),
        ("1,000, each batch with a receiver of its own", ONE_TIMEOUT + 2),
    ],
)
def test_dead_receivers_do_not_hold_up_those_of_their_tenant_that_were_quick(
    scene: str, most: float, processes: int
) -> None:
    """The bound for a tenant itself is that for other tenants, whatever the number of dead ones."""
    outcome = play(SCENES[scene](), processes=processes, good_tenant="loud", make=KnowingProcess)
    assert outcome.worst <= most
    assert outcome.median <= 1


@pytest.mark.parametrize("processes", [4, 10])
@pytest.mark.parametrize("scene", list(SCENES)[1:-1])
def test_processes_that_start_know_which_receivers_were_quick_to_others(
    scene: str, processes: int
) -> None:
    """They start again every half minute, in which they wait for a dead receiver once more."""
    outcome = play(SCENES[scene](), processes=processes, good_tenant="loud", make=NewProcess)
    assert outcome.worst <= TWO


@pytest.mark.parametrize(("processes", "most"), [(4, 240), (10, 45)])
def test_first_webhook_to_a_receiver_waits_for_as_many_dead_ones_as_are_new(
    processes: int, most: float
) -> None:
    """Nothing tells it from them. Processes tell each other which are dead, so it comes to an end.

    Each process finds out about ten receivers at a time, in 15 of 45 s, and twice at first.
    """
    scene = SCENES["1,000 to 100 receivers that never answer"]
    outcome = play(scene(), processes=processes, good_tenant="loud")
    assert outcome.worst <= most
    assert outcome.median <= 1


@pytest.mark.parametrize("scene", list(SCENES)[1:])
def test_lost_notes_only_delay_webhooks(scene: str) -> None:
    """Each process finds out by itself. No webhook is lost, and others wait for three timeouts."""
    outcome = play(SCENES[scene](), processes=10, notes=Lost())
    assert outcome.worst <= 3 * (TIMEOUT + 2.5)
    assert outcome.attempts >= 10 * SECONDS / (3 * TIMEOUT)
    own = play(SCENES[scene](), processes=10, good_tenant="loud", make=KnowingProcess, notes=Lost())
    assert (own.median <= 1, own.receives < 200) == (True, True)


@pytest.mark.parametrize("scene", list(SCENES)[1:])
def test_webhooks_to_slow_receivers_are_still_attempted(scene: str) -> None:
    """They have at least a third of the time of each process, which is ten at a time."""
    outcome = play(SCENES[scene](), processes=10)
    assert outcome.attempts >= 10 * SECONDS / (3 * TIMEOUT)
    assert outcome.receives < 200, "messages of live jobs must not become dead letters"


# ---------------------------------------------------------------- slow receivers of many tenants

MANY = [(3, 1), (3, 10), (3, 100), (10, 1), (10, 10), (50, 1), (50, 4)]
#: A message of a slow receiver is received so often in an hour at most, by the rule of its rests.
RECEIVES_IN_AN_HOUR = 90


@pytest.mark.parametrize("processes", [4, 10])
@pytest.mark.parametrize(("tenants", "receivers"), MANY)
def test_dead_receivers_of_many_tenants_hold_up_another_for_two_timeouts_at_most(
    tenants: int, receivers: int, processes: int
) -> None:
    """Of a thousand webhooks, each tenant has a part, and each of its receivers."""
    outcome = play(of_many(tenants, receivers), processes=processes)
    assert outcome.worst <= 33
    assert outcome.median <= 1
    assert outcome.attempts >= processes * SECONDS / (2 * TIMEOUT), "ten at a time in half the time"


@pytest.mark.parametrize("processes", [4, 10])
@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: of_many(3, takes=14), id="3 that answer after 14 s"),
        pytest.param(lambda: of_many(50, takes=14), id="50 that answer after 14 s"),
        pytest.param(lambda: warmed_of_many(10), id="10 that answer once, then never"),
        pytest.param(lambda: warmed_of_many(50), id="50 that answer once, then never"),
    ],
)
def test_other_slow_receivers_of_many_tenants_hold_up_another_for_two_timeouts_at_most(
    make: Callable[[], list[Message]], processes: int
) -> None:
    outcome = play(make(), processes=processes)
    assert outcome.worst <= 33
    assert outcome.median <= 1


@pytest.mark.parametrize(("processes", "most"), [(4, 120), (10, 45)])
def test_two_hundred_tenants_hold_up_another_until_each_was_asked_once(
    processes: int, most: float
) -> None:
    """Nothing tells them from a quiet one, and a process finds out about ten in one timeout."""
    assert play(of_many(200), processes=processes).worst <= most


@pytest.mark.parametrize("processes", [4, 10])
def test_dead_receivers_of_many_tenants_that_send_all_the_time_hold_up_no_other(
    processes: int,
) -> None:
    """Ten tenants send more than can be attempted, for an hour."""
    late = answering(3)
    outcome = play(streaming(10, rate=1) + late, processes=processes, seconds=HOUR)
    assert outcome.worst <= 33
    assert slowest(late) <= 33
    assert outcome.receives <= RECEIVES_IN_AN_HOUR


@pytest.mark.parametrize(("takes", "most_of_4", "most_of_10"), [(3, 60, 35), (14, 480, 60)])
@pytest.mark.parametrize(("tenants", "receivers"), [(3, 1), (10, 1), (50, 1), (50, 4)])
def test_receivers_that_answer_late_make_progress_beside_dead_ones_of_many_tenants(
    tenants: int, receivers: int, takes: float, most_of_4: float, most_of_10: float
) -> None:
    """Sixty webhooks to one that answers late, next to a thousand to dead ones of other tenants."""
    for processes, most in ((4, most_of_4), (10, most_of_10)):
        late = answering(takes)
        outcome = play(of_many(tenants, receivers) + late, processes=processes, seconds=HOUR)
        assert slowest(late) <= most
        assert outcome.worst <= 37 + 2 * takes, "one tenant more, whose receiver is not dead"
        assert outcome.receives <= RECEIVES_IN_AN_HOUR


@pytest.mark.parametrize("processes", [4, 10])
@pytest.mark.parametrize("tenants", [3, 10, 50])
def test_late_receiver_that_is_known_waits_for_a_timeout_at_most_beside_dead_ones(
    tenants: int, processes: int
) -> None:
    """A webhook is sent to it every ten seconds, and each answer takes three."""
    late = answering(3, count=100, every=10)
    play(of_many(tenants) + late, processes=processes, seconds=HOUR)
    assert slowest(late) <= 35
    assert slowest(late[4:]) <= 3 + TIMEOUT


@pytest.mark.parametrize("processes", [4, 10])
@pytest.mark.parametrize("takes", [5, 9, 14])
def test_receivers_that_answer_sooner_make_progress_beside_those_that_take_longer(
    takes: float, processes: int
) -> None:
    late = answering(3)
    outcome = play(of_many(10, takes=takes) + late, processes=processes, seconds=HOUR)
    assert slowest(late) <= 360
    assert outcome.worst <= 33


def test_receivers_that_take_long_have_their_turn_beside_many_that_answer_sooner() -> None:
    """Three tenants use up the time of late receivers for an hour, with answers after 3 s."""
    late = answering(14)
    play(streaming(3, rate=3, takes=3) + late, processes=4, seconds=HOUR)
    assert slowest(late) <= 1500


@pytest.mark.parametrize("processes", [4, 10])
@pytest.mark.parametrize("at", [60, 300])
@pytest.mark.parametrize("tenants", [0, 3, 10, 50])
def test_receiver_that_answers_again_gets_its_webhooks_soon(
    tenants: int, at: float, processes: int
) -> None:
    """It takes as long next to dead ones as alone: the pause of five minutes, and a rest."""
    back = recovering(at)
    bad = of_many(tenants) if tenants else []
    play(bad + back, processes=processes, seconds=HOUR)
    assert slowest(back, since=at) <= 360


def _print_many() -> None:
    """Prints the same for many tenants, with the slowest webhook to a receiver that answers."""
    columns = ("quiet", "3 s next to them", "14 s next to them", "most receives in an hour")
    sys.stdout.write(f"{'':50}" + "".join(f"{column:>26}" for column in columns) + "\n")
    for tenants, receivers in MANY:
        sys.stdout.write(f"{f'{tenants} tenants, {receivers} dead receivers each':50}")
        received = {4: 0, 10: 0}
        for count in (10, 4):
            worst = play(of_many(tenants, receivers), processes=count).worst
            sys.stdout.write(f"{worst:13.1f}")
        for takes in (3, 14):
            for count in (10, 4):
                late = answering(takes)
                outcome = play(of_many(tenants, receivers) + late, processes=count, seconds=HOUR)
                received[count] = max(received[count], outcome.receives)
                sys.stdout.write(f"{slowest(late):13.1f}")
        sys.stdout.write(f"{received[10]:13}{received[4]:13}\n")


def _print_table() -> None:
    """Prints the slowest good webhook in seconds, by scene: of 10 and of 4 processes."""
    kinds: list[tuple[str, type[Process]]] = [
        ("quiet", Process),
        ("loud", KnowingProcess),
        ("loud", NewProcess),
        ("loud", Process),
    ]
    columns = ("other tenant", "own quick", "own quick, new processes", "own unknown")
    sys.stdout.write(f"{'':50}" + "".join(f"{column:>26}" for column in columns) + "\n")
    for scene, bad in list(SCENES.items())[1:]:
        sys.stdout.write(f"{scene:50}")
        for tenant, make in kinds:
            cells = (
                f"{play(bad(), processes=count, make=make, good_tenant=tenant).worst:13.1f}"
                for count in (10, 4)
            )
            sys.stdout.write("".join(cells))
        sys.stdout.write("\n")


def _print_before_and_after() -> None:
    for scene, bad in SCENES.items():
        for count in (4, 10):
            before = play(bad(), processes=count, make=SerialProcess, batch=5)
            after = play(bad(), processes=count)
            sys.stdout.write(
                f"{scene:50} {count:2} processes: worst {before.worst:6.1f} -> {after.worst:5.1f} "
                f"median {before.median:6.1f} -> {after.median:4.1f}, "
                f"attempts {before.attempts:5} -> {after.attempts:5}, "
                f"most receives {before.receives} -> {after.receives}\n"
            )


if __name__ == "__main__":
    _print_table()
    _print_many()
    _print_before_and_after()
