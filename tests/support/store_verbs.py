"""Every verb of every store: what comes before it, how it is called, and where it writes."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.clock import system_clock
from mayfly.core.ids import hash_secret, new_nonce
from mayfly.counters import CounterStore
from mayfly.counters.model import Step
from mayfly.jobs.group_commit import Member
from mayfly.jobs.items import new_items
from mayfly.jobs.model import Job, Status, Unreadable, Window
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.routing.outbox import Outbox
from mayfly.jobs.routing.stranded import StrandedSearch
from mayfly.jobs.store import Claim, JobStore
from mayfly.limits import Algorithm, Limit, LimitStore
from mayfly.schedules import Schedule, ScheduleStore
from mayfly.schedules.wire import read_definition
from mayfly.sessions.model import Session, Token
from mayfly.tenants.model import ApiKey
from mayfly.tenants.store import TenantStore
from mayfly.webhooks.store import Endpoints, SlowReceivers

from tests.support.clients import make_client
from tests.support.fakes import FixedClock, Names
from tests.support.faults import Faults, Plan
from tests.support.jobs import LEASE, NOW, a_job, one_increment
from tests.support.sessions import Sessions
from tests.support.stage import Counting

__all__ = ["FAULTS", "VERBS", "Act", "Tables", "Verb", "World"]

#: Faults by the headings of their columns.
FAULTS = {
    "plain write meets a transaction": "conflict",
    "transaction meets a transaction": "conflict",
    "throttled": "throttle",
    "answer lost": "after",
    "idle connection cut": "cut",
}
TABLES = ("CountersTable", "SessionsTable", "JobsTable", "EndpointsTable", "TenantsTable")
WITHOUT_SORT_KEY = ("EndpointsTable", "TenantsTable")
_PLAIN = ("PutItem", "UpdateItem", "DeleteItem", "BatchExecuteStatement")
_READS = ("GetItem", "BatchGetItem", "Query", "Scan")
_TRANSACTION = ("TransactWriteItems",)
MAILS = Limit("mails", 10, 60, Algorithm.FIXED)
DAILY = Limit("daily", 10, 86_400, Algorithm.FIXED)
SECRET = "s" * 43


class Cut:
    """The socket of a connection that ended without a sign while it was idle."""

    def __init__(self) -> None:
        self._reads, self._writes = os.pipe()
        #: True if a request used it, or if its client closed it because it was idle for long.
        self.is_met = False

    def fileno(self) -> int:
        """Returns a descriptor on which nothing arrives."""
        return self._reads

    def settimeout(self, seconds: float) -> None:
        """Does nothing."""

    def sendall(self, data: bytes) -> None:
        """Fails, as after a reset."""
        self.is_met = True
        raise ConnectionResetError

    def close(self) -> None:
        """Closes the descriptors."""
        self.is_met = True
        os.close(self._reads)
        os.close(self._writes)


class Tables:
    """The tables of all worlds, whose names begin with `prefix`, and a client that reads them."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self._client = make_client("dynamodb")
        #: Items by their tables, as they were read last; None if a call may have changed them.
        self._read: list[tuple[str, dict[str, Any]]] | None = None

    def items(self) -> list[dict[str, Any]]:
        """Returns every item."""
        self._read = [
            (table, item)
            for table in TABLES
            for item in self._call("Scan", table, ConsistentRead=True)["Items"]
        ]
        return [item for _, item in self._read]

    def close(self) -> None:
        """Closes the connections of its client."""
        self._client.lean.close()

    def wipe(self) -> None:
        """Deletes every item. The test that ran before has read them, unless it failed."""
        if self._read is None:
            self.items()
        for table, item in self._read or ():
            names = ("pk",) if table in WITHOUT_SORT_KEY else ("pk", "sk")
            self._call("DeleteItem", table, Key={name: item[name] for name in names})
        self._read = None

    def _call(self, operation: str, table: str, **request: Any) -> dict[str, Any]:
        reply: dict[str, Any] = self._client.call(
            operation, {"TableName": f"{self.prefix}{table}", **request}
        )
        return reply


class World:
    """All stores on some tables, which are empty at first."""

    def __init__(self, tables: Tables) -> None:
        tables.wipe()
        self._tables, prefix = tables, tables.prefix
        self.repeats, self.once = make_client("dynamodb"), make_client("dynamodb", attempts=1)
        self._faults = [Faults(each, on_moto=False) for each in (self.repeats, self.once)]
        self.prefix = prefix
        self.cuts: list[Cut] = []
        #: Differs from world to world, since the token of a commit is made of it.
        self.worker = f"w{new_nonce()}"
        self.clock, self.nonces = FixedClock(NOW), Names("n")
        db = DynamoDB(self.repeats, self._pause)
        once = DynamoDB(self.once, self._pause, sends_once=True)
        self.counters = CounterStore(
            once, lambda: db, f"{prefix}CountersTable",
            clock=self.clock, new_nonce=self.nonces, pick=lambda _: 1,
        )  # fmt: skip
        self.limits = LimitStore(db, f"{prefix}CountersTable", clock=self.clock)
        self.sessions = Sessions(self.repeats, f"{prefix}SessionsTable", clock=self.clock)
        self.jobs = JobStore(db, f"{prefix}JobsTable", clock=self.clock, new_id=Names("id"))
        self.operations = JobOperations(self.jobs, threads=1)
        self.schedules = ScheduleStore(db, f"{prefix}JobsTable")
        self.endpoints = Endpoints(db, f"{prefix}EndpointsTable", self.clock)
        self.slow = SlowReceivers(db, f"{prefix}EndpointsTable", self.clock)
        self.tenants = TenantStore(db, f"{prefix}TenantsTable", clock=self.clock)
        self.search = StrandedSearch(
            operations=self.operations,
            outbox=Outbox(lambda bodies, delays: set(), {}),
            observe=Counting([]),
            clock=self.clock,
            pause=lambda seconds: None,
            new_nonce=Names("receive"),
        )

    def close(self) -> None:
        """Closes the connections of its clients."""
        for client in (self.repeats, self.once):
            client.lean.close()

    def strike(self, fault: str, operations: tuple[str, ...], *, times: int) -> None:
        """Makes the next requests of some operations meet a fault.

        `cut` is for the first of them, and `cut first` for the first request of any operation.
        """
        if fault == "cut first":
            for client in (self.repeats, self.once):
                self._cut(client)
            return
        if fault == "cut":
            for client, faults in zip((self.repeats, self.once), self._faults, strict=True):
                faults.plan = self._cut_before(operations, client)
            return
        left = [times]

        def plan(operation: str, number: int) -> str | None:
            if operation not in operations or not left[0]:
                return None
            left[0] -= 1
            return fault

        for faults in self._faults:
            faults.plan = plan

    def _cut(self, client: Any) -> None:
        """Makes the next request of a client meet an idle connection that was cut."""
        idle_since = system_clock() - 30_000
        client.lean._connections.close()
        self.cuts.append(Cut())
        client.lean._connections._idle.append((self.cuts[-1], idle_since, os.getpid()))

    def _cut_before(self, operations: tuple[str, ...], client: Any) -> Plan:
        """Returns a plan that cuts the connection of a client's first request of operations."""
        is_cut = False

        def plan(operation: str, number: int) -> None:
            nonlocal is_cut
            if operation in operations and not is_cut:
                is_cut = True
                self._cut(client)

        return plan

    def heal(self) -> None:
        """Ends the faults."""
        for faults in self._faults:
            faults.plan = lambda operation, number: None
            faults.requests.clear()

    def requests(self) -> list[str]:
        """Returns the operations that were sent since the faults ended."""
        return [request for faults in self._faults for request in faults.requests]

    def items(self) -> list[str]:
        """Returns every item of the tables, without what tells two writers apart."""
        return sorted(
            self.plain(
                json.dumps(
                    {name: item[name] for name in sorted(item) if name != "last"}, default=str
                )
            )
            for item in self._tables.items()
        )

    def plain(self, text: str) -> str:
        """Returns a text without the name of this world's worker."""
        return text.replace(self.worker, "worker")

    def job(self, **changes: Any) -> Job:
        """Stores a job, and returns it as it is read."""
        job = a_job(**{"max_attempts": 3, **changes})
        for item in new_items(job):
            self.repeats.call("PutItem", {"TableName": self.jobs.table, "Item": item})
        return self.jobs.read(job.tenant, job.id, now_ms=NOW)

    def claimed(self, *ids: str) -> list[Job]:
        """Stores jobs, and claims them."""
        return [
            self.jobs.claim(
                "acme", self.job(id=job_id).id, nonce=self.worker, now_ms=NOW, lease_ms=LEASE
            )
            for job_id in ids or ("j1",)
        ]

    def session(self, **changes: Any) -> Session:
        """Stores a session of a subject, and returns it."""
        partition = self.sessions.partition("acme", "ada")
        made = Session(
            tenant="acme", partition=partition, id="0" * 32, subject="ada", data={}, version=1,
            generation=0, secret_hash=hash_secret(SECRET), created_at_ms=NOW, idle_ms=600_000,
            absolute_ms=6_000_000, idle_expires_at_ms=NOW + 600_000,
            absolute_expires_at_ms=NOW + 6_000_000, nonce="first",
        )  # fmt: skip
        made = replace(made, **changes)
        self.sessions.create(made)
        return made

    def schedule(self) -> Schedule:
        """Stores a schedule, and returns it."""
        definition = read_definition({"every_seconds": 60, "task": "t"})
        made = Schedule("acme", "nightly", definition, "e1", NOW, NOW + 60_000)
        self.schedules.create(made)
        return made

    def key(self) -> ApiKey:
        """Stores an API key, and returns it."""
        made = ApiKey("k1", "acme", frozenset({"jobs:read"}), "hash", NOW)
        self.tenants.add_key(made)
        return made

    def _pause(self, attempt: int) -> None:
        """Does nothing: conflicts are gone by the next try."""


#: A call that is ready to be made.
Act = Callable[[], Any]


@dataclass(frozen=True)
class Verb:
    """A verb. `begin` makes what it needs, and returns the call."""

    begin: Callable[[World], Act]

    @staticmethod
    def operations_of(requests: list[str], column: str) -> tuple[str, ...]:
        """Returns the operations on which a column's fault strikes; none if there are none."""
        sent = set(requests)
        if column.startswith("plain"):
            return tuple(sent & set(_PLAIN))
        if column.startswith("transaction"):
            return tuple(sent & set(_TRANSACTION))
        writes = sent & {*_PLAIN, *_TRANSACTION}
        return tuple(writes or sent & set(_READS))


def _with(make: Callable[[World], Any], act: Callable[[World, Any], Any]) -> Verb:
    def begin(world: World) -> Act:
        made = make(world)
        return lambda: act(world, made)

    return Verb(begin)


def _alone(act: Callable[[World], Any]) -> Verb:
    return Verb(lambda world: lambda: act(world))


def _listed(things: Iterator[Any]) -> list[Any]:
    return list(islice(things, 100))


def _commit(world: World, job: Job) -> Any:
    completion = world.jobs.completion(job, result="{}", now_ms=NOW)
    member = Member("acme", job.id, job.owner or "", completion, one_increment())
    member.effects[0].write["Update"]["TableName"] = f"{world.prefix}CountersTable"
    return world.jobs.commit_many([member])


def _seen(world: World) -> tuple[Job, Job]:
    from mayfly.jobs import lifecycle

    seen = world.job()
    return seen, lifecycle.claimed(seen, nonce="w1", now_ms=NOW, lease_ms=LEASE)


def _later(session: Session) -> Session:
    return replace(session, version=2, data={"a": 1}, nonce="second")


def _token(session: Session) -> Token:
    return Token(session.partition, session.id, SECRET)


_STEP = Step(2)
#: The verbs by class and name.
VERBS: dict[str, Verb] = {
    "CounterStore.increment": _alone(lambda w: w.counters.increment("acme", "n", _STEP)),
    "CounterStore.increment_approximately": _alone(
        lambda w: w.counters.increment_approximately("acme", "n", _STEP)
    ),
    "CounterStore.increment_once": _alone(
        lambda w: w.counters.increment_once("acme", "n", _STEP, "key")
    ),
    "CounterStore.read": _alone(lambda w: w.counters.read("acme", "n")),
    "CounterStore.read_many": _alone(lambda w: w.counters.read_many("acme", ["n", "m"])),
    "CounterStore.create": _alone(lambda w: w.counters.create("acme", "n", 2)),
    "CounterStore.delete": _with(
        lambda w: w.counters.create("acme", "n", 2), lambda w, _: w.counters.delete("acme", "n")
    ),
    "CounterStore.ping": _alone(lambda w: w.counters.ping()),
    "LimitStore.take": _alone(lambda w: w.limits.take("acme", MAILS, "ada", 1)),
    "LimitStore.read": _alone(lambda w: w.limits.read("acme", MAILS, "ada", 1)),
    "LimitStore.reset": _with(
        lambda w: w.limits.take("acme", MAILS, "ada", 1),
        lambda w, _: w.limits.reset("acme", MAILS, "ada"),
    ),
    "LimitStore.take_all": _alone(lambda w: w.limits.take_all("acme", [MAILS, DAILY], "ada", 1)),
    "SessionStore.generation": _with(
        lambda w: w.session(), lambda w, s: w.sessions.generation("acme", s.partition)
    ),
    "SessionStore.create": _alone(lambda w: w.session()),
    "SessionStore.find": _with(
        lambda w: w.session(), lambda w, s: w.sessions.find("acme", _token(s), now_ms=NOW)
    ),
    "SessionStore.touch": _with(
        lambda w: w.session(), lambda w, s: w.sessions.touch(s, now_ms=NOW + 300_000)
    ),
    "SessionStore.replace": _with(
        lambda w: w.session(), lambda w, s: w.sessions.replace(s, _later(s), now_ms=NOW)
    ),
    "SessionStore.end": _with(
        lambda w: w.session(), lambda w, s: w.sessions.end("acme", _token(s), now_ms=NOW)
    ),
    "SessionStore.end_by_id": _with(
        lambda w: w.session(),
        lambda w, s: w.sessions.end_by_id("acme", s.partition, s.id, now_ms=NOW),
    ),
    "SessionStore.end_all": _with(
        lambda w: w.session(), lambda w, s: w.sessions.end_all("acme", s.partition)
    ),
    "SessionStore.page": _with(
        lambda w: w.session(),
        lambda w, s: w.sessions.page("acme", s.partition, limit=5, after=None, now_ms=NOW),
    ),
    "JobStore.create": _alone(lambda w: w.jobs.create(a_job(payload="x" * 200_000))),
    "JobStore.read": _with(lambda w: w.job(), lambda w, j: w.jobs.read("acme", j.id, now_ms=NOW)),
    "JobStore.read_many": _with(lambda w: w.job(), lambda w, j: w.jobs.read_many([("acme", j.id)])),
    "JobStore.claim": _with(
        lambda w: w.job(),
        lambda w, j: w.jobs.claim("acme", j.id, nonce="w1", now_ms=NOW, lease_ms=LEASE),
    ),
    "JobStore.claim_many": _with(
        lambda w: [w.job(id="j1"), w.job(id="j2")],
        lambda w, js: w.jobs.claim_many(
            [Claim(job, "w1") for job in js], now_ms=NOW, lease_ms=LEASE
        ),
    ),
    "JobStore.renew": _with(
        lambda w: w.claimed("j1", "j2"),
        lambda w, js: w.jobs.renew(js, now_ms=NOW + 5000, lease_ms=LEASE),
    ),
    "JobStore.commit_many": _with(lambda w: w.claimed()[0], _commit),
    "JobStore.claim_late": _with(
        _seen, lambda w, pair: w.jobs.claim_late(pair[0], pair[1], is_new=False)
    ),
    "JobStore.fail_unclaimed": _with(
        _seen,
        lambda w, pair: w.jobs.fail_unclaimed(
            pair[0], pair[1], is_new=False, error="e", retry_at_ms=NOW, now_ms=NOW
        ),
    ),
    "JobStore.fail": _with(
        lambda w: w.claimed()[0],
        lambda w, j: w.jobs.fail(j, error="e", retry_at_ms=NOW, now_ms=NOW),
    ),
    "JobStore.bury": _with(lambda w: w.job(), lambda w, j: w.jobs.bury(j, now_ms=NOW, error="e")),
    "JobStore.shorten": _with(lambda w: w.job(), lambda w, j: w.jobs.shorten(j)),
    "JobStore.release": _with(lambda w: w.claimed()[0], lambda w, j: w.jobs.release(j, now_ms=NOW)),
    "JobStore.continue_later": _with(
        lambda w: w.claimed()[0], lambda w, j: w.jobs.continue_later(j, now_ms=NOW)
    ),
    "JobStore.save": _with(lambda w: w.claimed()[0], lambda w, j: w.jobs.save(j, progress="{}")),
    "JobOperations.cancel": _with(
        lambda w: w.job(), lambda w, j: w.operations.cancel("acme", j.id, now_ms=NOW)
    ),
    "JobOperations.cancel_scheduled": _with(
        lambda w: w.job(status=Status.SCHEDULED, not_before_ms=NOW + 10**7),
        lambda w, j: w.operations.cancel_scheduled("acme", j.id, now_ms=NOW),
    ),
    "JobOperations.redrive": _with(
        lambda w: w.jobs.bury(w.job(), now_ms=NOW, error="e"),
        lambda w, _: w.operations.redrive("acme", "j1", now_ms=NOW),
    ),
    "JobOperations.resend": _with(
        lambda w: w.job(), lambda w, j: w.operations.resend("acme", j.id, now_ms=NOW)
    ),
    "JobOperations.resend_seen": _with(
        lambda w: w.job(), lambda w, j: w.operations.resend_seen(j, now_ms=NOW)
    ),
    "JobOperations.list": _with(
        lambda w: w.jobs.bury(w.job(), now_ms=NOW, error="e"),
        lambda w, _: w.operations.list("acme", Status.DEAD, limit=5, after=None, now_ms=NOW),
    ),
    "JobOperations.stranded": _with(
        lambda w: w.job(), lambda w, _: _listed(w.operations.stranded(before_ms=NOW + 1))
    ),
    "JobOperations.unfinished": _with(
        lambda w: w.job(), lambda w, _: w.operations.unfinished(after=None)
    ),
    "JobOperations.release_due": _with(
        lambda w: [
            w.job(id=name, status=Status.SCHEDULED, not_before_ms=NOW + 10**7) for name in "ab"
        ],
        lambda w, _: w.operations.release_due(before_ms=NOW + 10**8, limit=9),
    ),
    "JobOperations.keep_unreadable": _alone(
        lambda w: w.operations.keep_unreadable(Unreadable("m1", "body", "problem", NOW))
    ),
    "JobOperations.unreadable": _with(
        lambda w: w.operations.keep_unreadable(Unreadable("m1", "body", "problem", NOW)),
        lambda w, _: _listed(w.operations.unreadable(now_ms=NOW)),
    ),
    "JobOperations.forget_unreadable": _with(
        lambda w: w.operations.keep_unreadable(Unreadable("m1", "body", "problem", NOW)),
        lambda w, _: w.operations.forget_unreadable("m1"),
    ),
    "ScheduleStore.read": _with(
        lambda w: w.schedule(), lambda w, s: w.schedules.read("acme", s.name)
    ),
    "ScheduleStore.list": _with(
        lambda w: w.schedule(), lambda w, _: w.schedules.list("acme", limit=5, after=None)
    ),
    "ScheduleStore.due": _with(
        lambda w: w.schedule(), lambda w, _: w.schedules.due(before_ms=NOW + 10**6, limit=5)
    ),
    "ScheduleStore.create": _alone(lambda w: w.schedule()),
    "ScheduleStore.set": _with(
        lambda w: w.schedule(), lambda w, s: w.schedules.set(s, replace(s, is_paused=True))
    ),
    "ScheduleStore.delete": _with(lambda w: w.schedule(), lambda w, s: w.schedules.delete(s)),
    "ScheduleStore.advance": _with(
        lambda w: w.schedule(),
        lambda w, s: w.schedules.advance(s, [a_job()], made_ms=NOW + 60_000, next_ms=NOW + 120_000),
    ),
    "Endpoints.is_gone": _alone(lambda w: w.endpoints.is_gone("acme", "https://a.example/")),
    "Endpoints.end": _alone(lambda w: w.endpoints.end("acme", "https://a.example/")),
    "Endpoints.reopen": _with(
        lambda w: w.endpoints.end("acme", "https://a.example/"),
        lambda w, _: w.endpoints.reopen("acme", "https://a.example/"),
    ),
    "SlowReceivers.is_slow": _with(
        lambda w: w.slow.note_slow("acme", "a:1"), lambda w, _: w.slow.is_slow("acme", "a:1")
    ),
    "SlowReceivers.note_slow": _alone(lambda w: w.slow.note_slow("acme", "a:1")),
    "SlowReceivers.note_turned": _with(
        lambda w: w.slow.note_turned("acme", "a:1"), lambda w, _: w.slow.note_turned("acme", "b:1")
    ),
    "SlowReceivers.count_turned": _with(
        lambda w: w.slow.note_turned("acme", "a:1"), lambda w, _: w.slow.count_turned("acme")
    ),
    "TenantStore.add_key": _alone(lambda w: w.key()),
    "TenantStore.find_key": _with(lambda w: w.key(), lambda w, _: w.tenants.find_key("k1")),
    "TenantStore.list_keys": _with(lambda w: w.key(), lambda w, _: w.tenants.list_keys("acme")),
    "TenantStore.revoke_key": _with(
        lambda w: w.key(), lambda w, _: w.tenants.revoke_key("k1", "acme")
    ),
    "TenantStore.end_key": _with(
        lambda w: w.key(), lambda w, _: w.tenants.end_key("k1", "acme", NOW + 1000)
    ),
    "TenantStore.note_use": _with(
        lambda w: w.key(), lambda w, _: w.tenants.note_use("k1", NOW, unless_after_ms=NOW)
    ),
    "StrandedSearch.read": _alone(lambda w: w.search.read()),
    "StrandedSearch.work": _with(
        lambda w: w.job(),
        lambda w, _: w.search.work(w.search.read(), Window(0, NOW), is_over=lambda: False),
    ),
}
