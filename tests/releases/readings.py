"""Readings of a release: everything that it has stored.

All are read through the library's stores, on one set of tables.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any, Final

from boto3.dynamodb.types import TypeSerializer
from mayfly import counters, jobs, schedules, sessions
from mayfly.aws.dynamodb import DynamoDB
from mayfly.aws.parameters import Parameters
from mayfly.core.errors import MayflyError
from mayfly.core.observability import Observer
from mayfly.counters import CounterStore
from mayfly.imports import Objects, import_csv
from mayfly.imports.model import Source
from mayfly.imports.wire import read_uploads
from mayfly.jobs import Effects, Job, JobOperations, JobStore
from mayfly.jobs.authoring.built_in import BUILT_IN
from mayfly.jobs.authoring.task import Declaration
from mayfly.jobs.model import Attempt, Status
from mayfly.jobs.routing.outbox import announcement
from mayfly.jobs.routing.search import SEARCH_KEY, read_search
from mayfly.jobs.wire import read_message, read_stream_gap, read_submission
from mayfly.limits import Algorithm, Decision, Limit, LimitStore
from mayfly.schedules import Deps as ScheduleDeps
from mayfly.schedules import Schedule, ScheduleStore
from mayfly.schedules.rules import handed_out_after
from mayfly.schedules.rules import job_id as tick_job_id
from mayfly.sessions import Session, SessionStore
from mayfly.tenants import ApiKey, TenantStore, authenticate
from mayfly.webhooks.store import Endpoints, Secrets

from functions.tasks.counter_add import add as counter_add
from tests.support.clients import make_client
from tests.support.fakes import FixedClock

__all__ = [
    "BUCKET",
    "READINGS",
    "SECRETS_PREFIX",
    "SUBJECT_KEY",
    "TASKS",
    "Numbered",
    "Quiet",
    "Stores",
    "Watched",
    "read",
    "stores",
    "upload",
]

BUCKET: Final = "imports"
SECRETS_PREFIX: Final = "/mayfly/release/webhooks"
SUBJECT_KEY: Final = "release"


class Numbered:
    """Texts of one length: a prefix and a number that grows."""

    def __init__(self, prefix: str, length: int) -> None:
        self._prefix = prefix
        self._length = length
        self._numbers = count(1)

    def __call__(self) -> str:
        return self._prefix + str(next(self._numbers)).zfill(self._length - len(self._prefix))


class Quiet(Observer):
    """An observer that prints nothing."""

    def count(self, name: str, by: int = 1) -> None:
        """Counts nothing."""


@dataclass(frozen=True)
class Stores:
    """The library's stores, with the clients and the clock that they share."""

    client: Any
    s3: Any
    tables: Mapping[str, str]
    clock: FixedClock
    jobs: JobStore
    operations: JobOperations
    schedules: ScheduleDeps
    sessions: SessionStore
    counters: CounterStore
    limits: LimitStore
    tenants: TenantStore
    endpoints: Endpoints
    secrets: Secrets
    messages: Mapping[str, Any]


#: The tasks of the release's own jobs, by their declarations.
TASKS: Final = {
    **BUILT_IN,
    counter_add.declaration.name: counter_add.declaration,
    **{task.name: task for task in (
        Declaration("note", max_attempts=3),
        Declaration("call", max_attempts=3, exclusive=True),
        Declaration("csv.import", max_attempts=20, exclusive=True),
    )},
}  # fmt: skip


def stores(
    client: Any,
    tables: Mapping[str, str],
    clock: FixedClock,
    messages: Mapping[str, Any] | None = None,
) -> Stores:
    """Returns stores on a DynamoDB client, and on moto's S3 and Parameter Store."""
    db = DynamoDB(client, pause=lambda _: None)
    operations = JobOperations(
        JobStore(db, tables["JobsTable"], clock=clock, new_id=Numbered("b", 32))
    )
    return Stores(
        client=client,
        s3=make_client("s3"),
        tables=tables,
        clock=clock,
        jobs=operations.store,
        operations=operations,
        schedules=ScheduleDeps(
            ScheduleStore(db, tables["JobsTable"]), operations, TASKS, clock, Numbered("e", 32)
        ),
        sessions=SessionStore(
            db,
            tables["SessionsTable"],
            subject_key=SUBJECT_KEY,
            clock=clock,
            new_id=Numbered("a", 32),
            new_secret=Numbered("S", 43),
            new_nonce=Numbered("c", 16),
        ),
        counters=CounterStore(
            db,
            lambda: db,
            tables["CountersTable"],
            clock=clock,
            new_nonce=Numbered("d", 16),
            pick=lambda shards: shards - 1,
        ),
        limits=LimitStore(db, tables["CountersTable"], clock=clock),
        tenants=TenantStore(db, tables["TenantsTable"], clock=clock),
        endpoints=Endpoints(db, tables["EndpointsTable"], clock),
        secrets=Secrets(Parameters(make_client("ssm"), clock), SECRETS_PREFIX),
        messages=messages or {},
    )


class Watched(Objects):
    """Objects whose reads are recorded, and announced to a function."""

    def __init__(self, client: Any, bucket: str, after: Callable[[], None] = lambda: None) -> None:
        super().__init__(client, bucket)
        self.starts: list[int] = []
        self._after = after

    def read(self, source: Source, start: int, size: int) -> bytes:
        """Records the first byte of each read."""
        self.starts.append(start)
        piece = super().read(source, start, size)
        self._after()
        return piece


def upload(s3: Any, tenant: str, key: str, csv: Mapping[str, Any]) -> None:
    """Puts the object of an import into the bucket."""
    lines = [csv["header"], csv["bad"], *[csv["row"]] * csv["rows"]]
    s3.put_object(Bucket=BUCKET, Key=f"{tenant}/{key}", Body=("\n".join(lines) + "\n").encode())


def read(found: Stores, kind: str, of: Mapping[str, Any]) -> Any:
    """Reads one thing through the library.

    Returns its value as JSON, or the code of the error.
    """
    try:
        value = READINGS[kind](found, **of)
    except MayflyError as problem:
        value = {"error": problem.code}
    return json.loads(json.dumps(value))


def _job(found: Stores, tenant: str, job_id: str) -> Any:
    return _job_facts(found.jobs.read(tenant, job_id, now_ms=found.clock()))


def _job_facts(job: Job) -> dict[str, Any]:
    names = (
        "id", "tenant", "task", "payload", "max_attempts", "created_at_ms", "fingerprint", "run",
        "attempt", "fence", "owner", "lease_until_ms", "not_before_ms", "resent_at_ms", "result",
        "error", "expires_at_s", "progress",
    )  # fmt: skip
    return {
        **{name: getattr(job, name) for name in names},
        "status": job.status.value,
        "history": [_attempt_facts(attempt) for attempt in job.history],
        "tick": None if job.tick is None else [job.tick.schedule, job.tick.at_ms, job.tick.missed],
        # Releases before 0.3.0 do not have it.
        **({"omitted": dict(job.omitted)} if job.omitted else {}),
    }


def _attempt_facts(attempt: Attempt) -> list[Any]:
    outcome = None if attempt.outcome is None else attempt.outcome.value
    return [attempt.started_at_ms, attempt.ended_at_ms, outcome, attempt.error]


def _jobs_together(found: Stores, ids: Sequence[Sequence[str]]) -> Any:
    jobs_by_id = found.jobs.read_many([(tenant, each) for tenant, each in ids])
    return {each: [job.status.value, job.payload] for (_, each), job in sorted(jobs_by_id.items())}


def _jobs_listed(found: Stores, tenant: str, status: str) -> Any:
    page = found.operations.list(
        tenant, Status(status), limit=100, after=None, now_ms=found.clock()
    )
    return sorted(job.id for job in page.jobs)


def _jobs_stranded(found: Stores) -> Any:
    stranded = found.operations.stranded(before_ms=found.clock() - 300_000)
    return sorted(job.id for job in stranded if job is not None)


def _jobs_due(found: Stores, before_ms: int) -> Any:
    return found.operations.release_due(before_ms=before_ms, limit=100)


def _search(found: Stores) -> Any:
    store = found.operations.store
    item = store.db.get("search", store.table, SEARCH_KEY)
    assert item is not None
    return asdict(read_search(item))


def _submitted_again(found: Stores, tenant: str, body: dict[str, Any], key: str) -> Any:
    job, is_new = jobs.submit(
        found.operations,
        read_submission(body, idempotency_key=key),
        tenant=tenant,
        tasks=TASKS,
    )
    return [job.id, is_new]


def _announcement(found: Stores, tenant: str, job_id: str) -> Any:
    item = found.client.get_item(
        TableName=found.tables["JobsTable"],
        Key={"pk": {"S": f"{tenant}/{job_id}"}, "sk": {"S": "job"}},
    )["Item"]
    made = announcement(item, found.clock())
    return None if made is None else [made.task, made.body, made.delay_seconds]


def _unreadable(found: Stores) -> Any:
    kept = sorted(
        found.operations.unreadable(now_ms=found.clock()), key=lambda each: each.message_id
    )
    return [
        [message.message_id, _digest(message.body), message.problem, message.kept_at_ms]
        for message in kept
    ]


def _digest(text: str) -> str:
    """Returns a text, or the length and the hash of one that is too long to show."""
    data = text.encode("utf-8", "surrogatepass")
    is_long = len(data) > 200
    return f"{len(data)} bytes, {hashlib.sha256(data).hexdigest()}" if is_long else text


def _import(found: Stores, tenant: str, job_id: str, csv: Mapping[str, Any]) -> Any:
    """Resumes an import that was begun; returns the first byte that it read."""
    job = found.jobs.read(tenant, job_id, now_ms=found.clock())
    upload(found.s3, tenant, job.payload["key"], csv)
    objects = Watched(found.s3, BUCKET)
    effects = Effects(
        tenant,
        counters_table=found.tables["CountersTable"],
        serialize=TypeSerializer().serialize,
        follow_up=lambda *_: [],
        checkpoint=lambda *_: None,
        seconds_left=lambda: 60.0,
        clock=found.clock,
    )
    return {"result": import_csv(job, effects, objects), "first_byte": objects.starts[0]}


def _schedule(found: Stores, tenant: str, name: str) -> Any:
    return _schedule_facts(schedules.read(found.schedules, name, tenant=tenant), found.clock())


def _schedule_facts(schedule: Schedule, now_ms: int) -> dict[str, Any]:
    names = (
        "tenant", "name", "edition", "anchor_ms", "next_ms", "made_ms", "version", "is_paused",
    )  # fmt: skip
    fields = ("task", "payload", "max_attempts", "cron", "every_seconds", "timezone")
    ahead = handed_out_after(schedule, now_ms)
    return {
        **{name: getattr(schedule, name) for name in names},
        **{name: getattr(schedule.definition, name) for name in fields},
        "jobs_ahead": [tick_job_id(schedule, tick_ms) for tick_ms in ahead],
    }


def _schedules_listed(found: Stores, tenant: str) -> Any:
    return [
        schedule.name for schedule in found.schedules.store.list(tenant, limit=50, after=None)[0]
    ]


def _schedules_due(found: Stores, before_ms: int) -> Any:
    return [
        [tenant, name] for tenant, name in found.schedules.store.due(before_ms=before_ms, limit=100)
    ]


def _counter(found: Stores, tenant: str, name: str) -> Any:
    return counters.read(found.counters, tenant=tenant, name=name).value


def _counters_together(found: Stores, tenant: str, names: Sequence[str]) -> Any:
    together = counters.read_many(found.counters, tenant=tenant, names=names)
    return {counter.name: counter.value for counter in together}


def _counted_again(found: Stores, tenant: str, name: str, key: str, step: Mapping[str, Any]) -> Any:
    """Retries an increment under its key, which adds nothing.

    Returns the value before and after.
    """
    before = counters.read(found.counters, tenant=tenant, name=name).value
    after = counters.increment(
        found.counters, tenant=tenant, name=name, idempotency_key=key, **step
    )
    return [before, after.value]


def _limit(found: Stores, tenant: str, limit: Mapping[str, Any], key: str, cost: int) -> Any:
    wanted = Limit(**{**limit, "algorithm": Algorithm(limit["algorithm"])})
    return _decision(found.limits.take(tenant, wanted, key, cost))


def _decision(decision: Decision) -> Any:
    return {
        "is_allowed": decision.is_allowed,
        "remaining": decision.remaining,
        "reset_ms": decision.reset_ms,
    }


def _session(found: Stores, tenant: str, token: str) -> Any:
    return _session_facts(sessions.read(found.sessions, token, tenant=tenant))


def _session_facts(session: Session) -> dict[str, Any]:
    names = (
        "tenant", "id", "subject", "data", "version", "generation", "created_at_ms", "idle_ms",
        "absolute_ms", "idle_expires_at_ms", "absolute_expires_at_ms", "rotated_at_ms",
    )  # fmt: skip
    return {name: getattr(session, name) for name in names}


def _sessions_listed(found: Stores, tenant: str, subject: str) -> Any:
    page = sessions.list_by_subject(found.sessions, tenant=tenant, subject=subject)
    return [session.id for session in page.sessions]


def _key(found: Stores, credential: str) -> Any:
    bearer = f"Bearer {credential}"
    return _key_facts(authenticate(found.tenants, bearer))


def _keys_listed(found: Stores, tenant: str) -> Any:
    return [_key_facts(key) for key in found.tenants.list_keys(tenant)]


def _key_facts(key: ApiKey) -> dict[str, Any]:
    names = ("key_id", "tenant", "created_at_ms", "expires_at_ms", "last_used_at_ms")
    return {**{name: getattr(key, name) for name in names}, "scopes": sorted(key.scopes)}


def _endpoint(found: Stores, tenant: str, url: str) -> Any:
    return {"is_gone": found.endpoints.is_gone(tenant, url)}


def _secret(found: Stores, tenant: str, name: str) -> Any:
    return [each.hex() for each in found.secrets.read(tenant, name)]


def _message(found: Stores, name: str) -> Any:
    message = found.messages[name]
    body = message["body"]
    if message["queue"] == "UploadsQueue":
        return [vars(upload) if upload else None for upload in read_uploads(body, BUCKET)]
    return vars(
        read_stream_gap(body) if message["queue"] == "RelayFailures" else read_message(body)
    )


#: The readings of each kind, by the public stores and readers of the library.
READINGS: Final[Mapping[str, Callable[..., Any]]] = {
    "job": _job,
    "jobs together": _jobs_together,
    "jobs by status": _jobs_listed,
    "stranded jobs": _jobs_stranded,
    "due jobs": _jobs_due,
    "search": _search,
    "submission again": _submitted_again,
    "announcement": _announcement,
    "unreadable messages": _unreadable,
    "import": _import,
    "schedule": _schedule,
    "schedules of a tenant": _schedules_listed,
    "due schedules": _schedules_due,
    "counter": _counter,
    "counters together": _counters_together,
    "increment again": _counted_again,
    "limit": _limit,
    "session": _session,
    "sessions of a subject": _sessions_listed,
    "key": _key,
    "keys of a tenant": _keys_listed,
    "endpoint": _endpoint,
    "secret": _secret,
    "message": _message,
}
