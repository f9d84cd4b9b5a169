"""A whole run: quiet phases, the storm itself, the wait for its end, and the comparison."""

import base64
import random
import secrets
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import requests
from botocore.exceptions import BotoCoreError, ClientError
from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.clock import system_clock
from mayfly.core.ids import new_secret
from mayfly.tenants import ALL_SCOPES, TenantStore, mint
from mayfly.webhooks.rules import DEFAULT_SECRET
from mayfly.webhooks.store import parameter

from mayfly_lab.chaos.application import copy_application
from mayfly_lab.chaos.callers import Callers, repeat_open_requests
from mayfly_lab.chaos.conflicts import Conflicts
from mayfly_lab.chaos.differences import differences
from mayfly_lab.chaos.ledger import Ledger
from mayfly_lab.chaos.present import Present, jobs_by_tenant, messages_left, present
from mayfly_lab.chaos.quiet import Latency, breaches, measure
from mayfly_lab.chaos.receiver import receiving
from mayfly_lab.chaos.site import DEFAULT_TENANT, Site
from mayfly_lab.chaos.strikes import Strikes
from mayfly_local.iam.transactions import TRANSACTION_SECONDS
from mayfly_testing.stack import Stack

__all__ = ["TENANTS", "Outcome", "run"]

#: Tenants of the storm; the first one owns the messages of the queue's producers.
TENANTS: Final = (DEFAULT_TENANT, "acme", "globex")
#: Seconds without progress after which what is left counts as stranded: more than a clock was
#: wrong, with a lease, a visibility timeout and the pauses of retries.
_STALLED_SECONDS: Final = 180.0
_PROGRESS_SECONDS: Final = 10.0
_POLL_SECONDS: Final = 0.5
#: Acknowledged changes between two strikes, at most; and the seconds to wait for them.
_MOST_BETWEEN: Final = 60
_BETWEEN_SECONDS: Final = 2.0
#: Accepted jobs of each tenant that a comparison needs: on a busy machine, a short storm is
#: longer until it has them, or a tenant without work would not be noticed.
_LEAST_JOBS: Final = 10
#: The measurement of latency takes a fifth of the storm's time, within these bounds, in seconds.
_LATENCY_SECONDS: Final = (30.0, 120.0)


@dataclass
class Outcome:
    """The findings of a run, by tenant if they belong to one."""

    ledgers: dict[str, Ledger]
    present: dict[str, Present]
    #: Messages that are left, by queue.
    messages: dict[str, int]
    strikes: Counter[str]
    conflicts: Conflicts
    latencies: dict[str, Latency] = field(default_factory=dict)

    @property
    def problems(self) -> list[str]:
        """A sentence for each difference and each bound that was exceeded."""
        return [
            *(
                text
                for tenant, ledger in self.ledgers.items()
                for text in differences(ledger, self.present.get(tenant, Present()))
            ),
            *(f"{count} messages are left on {name}" for name, count in self.messages.items()),
            *breaches(self.latencies),
        ]


def run(
    root: Path,
    *,
    seconds: float,
    seed: int,
    measures_latency: bool,
    say: Callable[[str], None],
    transaction_seconds: float = TRANSACTION_SECONDS,
    after_storm: Callable[[Stack], None] = lambda stack: None,
    before_count: Callable[[Stack], None] = lambda stack: None,
) -> Outcome:
    """Runs the application in `root` through a storm of this length, and counts.

    Transactions hold their items for `transaction_seconds`. `say` gets a line of progress.
    `after_storm` gets the stack after the last strike, and `before_count` at rest: for a test that
    damages it. Raises LocalError if a stack does not come
    up, or if it cannot be compared. Whatever happens, no process and no file is left.
    """
    with (
        _interruptible(),
        receiving() as receiver,
        tempfile.TemporaryDirectory(prefix="mayfly-chaos-") as name,
    ):
        template, clocks = copy_application(root, Path(name, "app"))
        site = Site(Path(name), template, transaction_seconds=transaction_seconds)
        try:
            say("starting the stack")
            site.start()
            keys = {tenant: _new_key(site.stack, tenant) for tenant in (*TENANTS, "quiet", "flood")}
            latencies = {}
            if measures_latency:
                least, most = _LATENCY_SECONDS
                latencies = measure(
                    site,
                    keys["quiet"],
                    keys["flood"],
                    seconds=min(most, max(least, seconds / 5)),
                    say=say,
                )
            for tenant in TENANTS:
                _make_secret(site.stack, tenant)
            ledgers = {tenant: Ledger(tenant) for tenant in TENANTS}
            callers = partial(Callers, site, ledgers, keys, webhooks_to=receiver.url, seed=seed)
            strikes = Strikes(site, clocks, seed=seed, seconds=seconds)
            _rage(site, ledgers, callers, strikes, seconds=seconds, seed=seed, say=say)
            after_storm(site.stack)
            clocks.correct()
            # Those that no call has met yet would strike the reads of the comparison.
            site.clear_faults()
            say("the storm is over; waiting until everything has ended")
            _settle(site, ledgers, keys, say)
            site.note_conflicts()
            before_count(site.stack)
            return Outcome(
                ledgers,
                present(site.stack, ledgers, keys, receiver.jobs),
                messages_left(site.stack),
                strikes.counts,
                site.conflicts,
                latencies,
            )
        finally:
            site.kill()


def _rage(
    site: Site,
    ledgers: dict[str, Ledger],
    start_callers: Callable[[], Callers],
    strikes: Strikes,
    *,
    seconds: float,
    seed: int,
    say: Callable[[str], None],
) -> None:
    """Puts load on the stack and strikes it until the time is over and each tenant has work."""
    dice = random.Random(f"{seed}/pace")  # noqa: S311 - a seed
    callers = start_callers()
    started = said = time.monotonic()
    ends = started + seconds
    try:
        while time.monotonic() < ends or (
            not _have_work(ledgers) and time.monotonic() < ends + _STALLED_SECONDS
        ):
            _await_more(ledgers, dice.randrange(1, _MOST_BETWEEN))
            site.note_conflicts()
            strikes.next()
            if time.monotonic() - said > _PROGRESS_SECONDS:
                said = time.monotonic()
                say(
                    f"{said - started:.0f} of {seconds:.0f} s: {strikes.counts.total()} strikes, "
                    f"{site.starts} starts, {_acknowledged(ledgers)} changes acknowledged"
                )
    finally:
        callers.stop()


def _await_more(ledgers: dict[str, Ledger], more: int) -> None:
    """Waits for this many more acknowledged changes, which is a random moment of the load.

    Returns after some seconds in any case.
    """
    target, ends = _acknowledged(ledgers) + more, time.monotonic() + _BETWEEN_SECONDS
    while _acknowledged(ledgers) < target and time.monotonic() < ends:
        time.sleep(0.02)


def _have_work(ledgers: dict[str, Ledger]) -> bool:
    """Returns whether each tenant has jobs and sessions to compare."""
    return all(len(each.jobs) >= _LEAST_JOBS and each.sessions for each in ledgers.values())


def _acknowledged(ledgers: dict[str, Ledger]) -> int:
    return sum(ledger.acknowledged for ledger in ledgers.values())


def _settle(
    site: Site, ledgers: dict[str, Ledger], keys: dict[str, str], say: Callable[[str], None]
) -> None:
    """Waits until every request is answered, every job has ended and the queues are empty.

    Returns as well if nothing changes for some minutes: the comparison then names what is left.
    Raises LocalError if the stack ends.
    """
    last: Any = None
    changed = said = time.monotonic()
    while time.monotonic() < changed + _STALLED_SECONDS:
        site.check()
        try:
            left = (repeat_open_requests(site, ledgers, keys), _open_work(site.stack))
        except (BotoCoreError, ClientError, requests.RequestException) as problem:
            left = (0, {f"no answer: {type(problem).__name__}": 1})
        if left == (0, {}):
            return
        if left != last:
            last, changed = left, time.monotonic()
        if time.monotonic() - said > _PROGRESS_SECONDS:
            said = time.monotonic()
            work = ", ".join(f"{count} on {name}" for name, count in left[1].items())
            say(f"left: {left[0]} requests; {work or 'no messages'}")
        time.sleep(_POLL_SECONDS)


def _open_work(stack: Stack) -> dict[str, int]:
    """Returns the messages that are left by queue, or else the jobs that have not ended.

    Reading all jobs would slow down the work on those that have messages.
    """
    if messages := messages_left(stack):
        return messages
    jobs = [job for of in jobs_by_tenant(stack).values() for job in of.values()]
    count = sum(not job.is_ended for job in jobs)
    return {"jobs": count} if count else {}


def _make_secret(stack: Stack, tenant: str) -> None:
    """Stores a secret that signs the webhooks of a tenant."""
    name = f"/mayfly/{stack.facts['name']}/webhooks/{parameter(tenant, DEFAULT_SECRET)}"
    secret = base64.b64encode(secrets.token_bytes(32)).decode()
    stack.client("ssm").put_parameter(Name=name, Value=f"whsec_{secret}", Type="SecureString")


def _new_key(stack: Stack, tenant: str) -> str:
    """Stores an API key of a tenant, and returns it."""
    text, key = mint("dev", tenant, ALL_SCOPES, now_ms=system_clock(), new_secret=new_secret)
    db = DynamoDB(stack.client("dynamodb"), pause=lambda attempt: None)
    TenantStore(db, stack.facts["resources"]["TenantsTable"]).add_key(key)
    return text


@contextmanager
def _interruptible() -> Iterator[None]:
    """Makes SIGTERM end the block as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
