"""Makes the folder of a release: its code as one archive, and everything that it stores.

::

    CHECKOUT/.venv/bin/python tests/releases/make.py CHECKOUT VERSION

The items are made by the handlers and stores of CHECKOUT, on moto, with a fixed clock and numbered ids.
Two runs give the same bytes. See README.md in this folder.
"""

import base64
import hashlib
import io
import json
import lzma
import subprocess
import sys
import tarfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from typing import Any, Final

import mayfly
from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.utilities.parameters import SSMProvider
from boto3.dynamodb.types import TypeSerializer
from flask import Flask, Response, session
from mayfly import counters, jobs, limits, schedules, sessions
from mayfly.counters import CounterStore
from mayfly.dynamodb import DynamoDB
from mayfly.errors import MayflyError
from mayfly.imports import Objects, import_csv
from mayfly.imports.model import Source
from mayfly.imports.rules import read_uploads
from mayfly.integrations.flask import MayflySessionInterface
from mayfly.jobs import Effects, Job, JobOperations, JobStore, Permanent, Retry
from mayfly.jobs.built_in import BUILT_IN, DELIVER
from mayfly.jobs.model import Attempt, Status
from mayfly.jobs.outbox import Outbox, announcement
from mayfly.jobs.rules import job_id_for, new_job, read_message, read_stream_gap, read_submission
from mayfly.jobs.tasks import Declaration, Task
from mayfly.jobs.worker import Worker
from mayfly.limits import Algorithm, Decision, Limit, LimitStore
from mayfly.observe import Observer
from mayfly.schedules import Keeper, Schedule, ScheduleStore
from mayfly.schedules.rules import handed_out_after
from mayfly.schedules.rules import job_id as tick_job_id
from mayfly.sessions import Session, SessionStore
from mayfly.sqs import Queue
from mayfly.stopping import Stopping
from mayfly.tenants import ALL_SCOPES, ApiKey, TenantStore, authenticate, mint
from mayfly.webhooks.store import Endpoints, Secrets, parameter
from mayfly.wiring import (
    AuthorizerDeps,
    AwaitDeps,
    CountersDeps,
    HelloDeps,
    ImportsDeps,
    JobsDeps,
    RelayDeps,
    RunDeps,
    SessionsDeps,
    SweepDeps,
)
from moto import mock_aws

from functions.authorizer.app import build as build_authorizer
from functions.await_job.app import build as build_await_job
from functions.counters.app import build as build_counters
from functions.hello.app import build as build_hello
from functions.jobs.app import build as build_jobs
from functions.relay_jobs.app import build as build_relay_jobs
from functions.run_jobs.app import build as build_run_jobs
from functions.run_jobs.tasks.counter_add import add as counter_add
from functions.sessions.app import build as build_sessions
from functions.start_imports.app import build as build_start_imports
from functions.sweep_jobs.app import build as build_sweep_jobs
from tests.conftest import make_client, make_tables
from tests.events import http, sqs
from tests.fakes import Context, FixedClock

__all__ = ["READINGS", "Made", "Stores", "fill", "load", "make", "members", "read", "stores"]

#: The paths of the checkout that make up a release.
CODE: Final = ("functions", "layers/mayfly/mayfly", "layers/mayfly/requirements.txt", "template.yaml")
#: Items above this many bytes of JSON go into a file of their own, which is compressed.
LARGE: Final = 20_000

#: The items that have expired by the end are made at this time; the others begin 115 days later.
LONG_BEFORE: Final = 1_790_000_000_000
START: Final = 1_800_000_000_000
LEASE_MS: Final = 15_000
BUCKET: Final = "imports"
SECRETS_PREFIX: Final = "/mayfly/release/webhooks"
SUBJECT_KEY: Final = "release"
TENANT: Final = "acme"
OTHER_TENANT: Final = "team:a@b+c"
#: A limit from which items are made in one window, and in the next.
TWO_WINDOWS: Final = Limit("quick", 50, 600, Algorithm.SLIDING)
DAY_MS: Final = 24 * 3600 * 1000
#: Jobs whose messages are kept.
RELAYED: Final = ("queued", "queued, of another tenant", "scheduled within the delay of a queue", "webhook, queued")
#: A notice of S3, in the form that AWS documents.
NOTICE: Final = {
    "Records": [
        {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "us-east-1",
            "eventTime": "2027-01-15T08:00:00.000Z",
            "eventName": "ObjectCreated:Put",
            "s3": {
                "s3SchemaVersion": "1.0",
                "bucket": {"name": BUCKET, "arn": f"arn:aws:s3:::{BUCKET}"},
                "object": {"key": f"{TENANT}/a+file+%C3%A4.csv", "size": 9, "eTag": "e1", "sequencer": "0A"},
            },
        },
        {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": BUCKET}, "object": {"key": "no-tenant.csv", "eTag": "e2"}},
        },
    ]
}
#: The report of a stream's mapping that gave up on records, in the form that AWS documents.
GIVEN_UP: Final = {
    "requestContext": {"requestId": "r-1", "condition": "RetryAttemptsExhausted", "approximateInvokeCount": 11},
    "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
    "version": "1.0",
    "timestamp": "2027-01-15T08:00:00.000Z",
    "DDBStreamBatchInfo": {
        "shardId": "shardId-00000001573689847184-864758bb",
        "startSequenceNumber": "800000000003126276362",
        "endSequenceNumber": "800000000003126276369",
        "approximateArrivalOfFirstRecord": "2027-01-15T07:00:00Z",
        "approximateArrivalOfLastRecord": "2027-01-15T07:00:01Z",
        "batchSize": 8,
        "streamArn": "arn:aws:dynamodb:us-east-1:000000000000:table/JobsTable/stream/2027-01-15T00:00:00.000",
    },
}


# ---------------------------------------------------------------- the library on one set of tables


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
    keeper: Keeper
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
    **{each.name: each for each in (
        Declaration("note", max_attempts=3),
        Declaration("call", max_attempts=3, exclusive=True),
        Declaration("csv.import", max_attempts=20, exclusive=True),
    )},
}  # fmt: skip


def stores(client: Any, tables: Mapping[str, str], clock: FixedClock, messages: Mapping[str, Any] | None = None) -> Stores:
    """Stores on a DynamoDB client, and on moto's S3 and Parameter Store."""
    db = DynamoDB(client, pause=lambda _: None)
    operations = JobOperations(db, tables["JobsTable"])
    return Stores(
        client=client,
        s3=make_client("s3"),
        tables=tables,
        clock=clock,
        jobs=JobStore(db, tables["JobsTable"]),
        operations=operations,
        keeper=Keeper(ScheduleStore(db, tables["JobsTable"]), operations, TASKS, clock, Numbered("e", 32)),
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
        tenants=TenantStore(db, tables["TenantsTable"]),
        endpoints=Endpoints(db, tables["EndpointsTable"], clock),
        secrets=Secrets(SSMProvider(boto3_client=make_client("ssm")), SECRETS_PREFIX),
        messages=messages or {},
    )


# ---------------------------------------------------------------- reading


def read(found: Stores, kind: str, of: Mapping[str, Any]) -> Any:
    """Reads one thing through the library: its value as JSON, or the code of the error."""
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
    }


def _attempt_facts(attempt: Attempt) -> list[Any]:
    outcome = None if attempt.outcome is None else attempt.outcome.value
    return [attempt.started_at_ms, attempt.ended_at_ms, outcome, attempt.error]


def _jobs_together(found: Stores, ids: Sequence[Sequence[str]]) -> Any:
    jobs_by_id = found.jobs.read_many([(tenant, each) for tenant, each in ids])
    return {each: [job.status.value, job.payload] for (_, each), job in sorted(jobs_by_id.items())}


def _jobs_listed(found: Stores, tenant: str, status: str) -> Any:
    page = found.operations.list(tenant, Status(status), limit=100, after=None, now_ms=found.clock())
    return sorted(job.id for job in page.jobs)


def _jobs_stranded(found: Stores) -> Any:
    stranded = found.operations.stranded(before_ms=found.clock() - 300_000)
    return sorted(job.id for job in stranded if job is not None)


def _jobs_due(found: Stores, before_ms: int) -> Any:
    return found.operations.release_due(before_ms=before_ms, limit=100)


def _submitted_again(found: Stores, tenant: str, body: dict[str, Any], key: str) -> Any:
    job, is_new = jobs.submit(
        read_submission(body, idempotency_key=key),
        tenant=tenant,
        store=found.jobs,
        operations=found.operations,
        tasks=TASKS,
        now_ms=found.clock(),
        new_id=Numbered("b", 32),
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
    kept = sorted(found.operations.unreadable(now_ms=found.clock()), key=lambda each: each.message_id)
    return [[each.message_id, _digest(each.body), each.problem, each.kept_at_ms] for each in kept]


def _digest(text: str) -> str:
    """A text, or the length and the hash of one that is too long to look at."""
    data = text.encode("utf-8", "surrogatepass")
    is_long = len(data) > 200
    return f"{len(data)} bytes, {hashlib.sha256(data).hexdigest()}" if is_long else text


def _import(found: Stores, tenant: str, job_id: str, csv: Mapping[str, Any]) -> Any:
    """Resumes an import that was begun; tells the first byte that it read."""
    job = found.jobs.read(tenant, job_id, now_ms=found.clock())
    _upload(found.s3, tenant, job.payload["key"], csv)
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
    return _schedule_facts(schedules.read(found.keeper, name, tenant=tenant), found.clock())


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
    return [each.name for each in found.keeper.store.list(tenant, limit=50, after=None)[0]]


def _schedules_due(found: Stores, before_ms: int) -> Any:
    return [[each.tenant, each.name] for each in found.keeper.store.due(before_ms=before_ms)]


def _counter(found: Stores, tenant: str, name: str) -> Any:
    return counters.read(found.counters, tenant=tenant, name=name).value


def _counters_together(found: Stores, tenant: str, names: Sequence[str]) -> Any:
    together = counters.read_many(found.counters, tenant=tenant, names=names)
    return {each.name: each.value for each in together}


def _counted_again(found: Stores, tenant: str, name: str, key: str, step: Mapping[str, Any]) -> Any:
    """Repeats an increment under its key, which adds nothing; the value before and after."""
    before = counters.read(found.counters, tenant=tenant, name=name).value
    after = counters.increment(found.counters, tenant=tenant, name=name, idempotency_key=key, **step)
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
    return [each.id for each in page.sessions]


def _key(found: Stores, credential: str) -> Any:
    bearer = f"Bearer {credential}"
    return _key_facts(authenticate(bearer, found.tenants, now_ms=found.clock()))


def _keys_listed(found: Stores, tenant: str) -> Any:
    return [_key_facts(each) for each in found.tenants.list_keys(tenant)]


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
        return [vars(each) if each else None for each in read_uploads(body, BUCKET)]
    return vars(read_stream_gap(body) if message["queue"] == "RelayFailures" else read_message(body))


#: The readings of each kind, by the public stores and readers of the library.
READINGS: Final[Mapping[str, Callable[..., Any]]] = {
    "job": _job,
    "jobs together": _jobs_together,
    "jobs by status": _jobs_listed,
    "stranded jobs": _jobs_stranded,
    "due jobs": _jobs_due,
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


# ---------------------------------------------------------------- making


@dataclass(frozen=True)
class Made:
    """Everything that a release has stored, sent and answered, and the readings of it."""

    items: dict[str, list[dict[str, Any]]]
    parameters: dict[str, str]
    messages: dict[str, Any]
    answers: dict[str, Any]
    cases: list[dict[str, Any]]
    read_at_ms: int


class Sent:
    """Keeps the messages that are sent to a queue."""

    def __init__(self) -> None:
        self.entries: list[dict[str, Any]] = []

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803
        """Keeps them."""
        self.entries += [{"queue": QueueUrl, **entry} for entry in Entries]
        return {}

    def change_message_visibility_batch(self, **_: Any) -> dict[str, Any]:
        """Changes nothing."""
        return {}


class Watched(Objects):
    """Objects whose reads are kept, and announced to a function."""

    def __init__(self, client: Any, bucket: str, after: Callable[[], None] = lambda: None) -> None:
        super().__init__(client, bucket)
        self.starts: list[int] = []
        self._after = after

    def read(self, source: Source, start: int, size: int) -> bytes:
        """Keeps the first byte of each read."""
        self.starts.append(start)
        piece = super().read(source, start, size)
        self._after()
        return piece


@dataclass
class Maker:
    """Drives the handlers of a release. Keeps their answers, and how to read what they stored."""

    stores: Stores
    cases: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    messages: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found, clock = self.stores, self.stores.clock
        observe = Quiet(
            log=Logger(service="release", level="CRITICAL"),
            metrics=Metrics(namespace="Mayfly", service="release"),
        )
        self.sent = Sent()
        self.body: Callable[[Job, Effects], Any] = lambda job, effects: None
        self._message_ids = Numbered("m", 8)
        self._new_id = Numbered("b", 32)
        self._named: set[str] = set()
        self._nonces = Numbered("0", 16)
        self._key_numbers = count(1)
        jobs_queue: Any = Queue(self.sent, "JobsQueue")  # type: ignore[arg-type]  # plays SQS
        webhooks_queue: Any = Queue(self.sent, "WebhooksQueue")  # type: ignore[arg-type]
        outbox = Outbox(jobs_queue.send, {DELIVER.name: webhooks_queue.send})
        nonces = Numbered("f", 16)

        def worker(tasks: Mapping[str, Task], known: Mapping[str, Declaration]) -> Worker:
            return Worker(
                store=found.jobs,
                tasks=tasks,
                known=known,
                counters_table=found.tables["CountersTable"],
                producer_tenant="default",
                observe=observe,
                clock=clock,
                new_nonce=nonces,
                jitter=lambda: 1.0,
                serialize=TypeSerializer().serialize,
                keep_unreadable=found.operations.keep_unreadable,
                lease_ms=LEASE_MS,
            )

        own = {name: Task(each, self._run) for name, each in TASKS.items() if name not in BUILT_IN}
        tasks = {**own, counter_add.declaration.name: counter_add}
        deliver = {DELIVER.name: Task(DELIVER, self._run)}
        self._run_jobs = build_run_jobs(RunDeps(worker(tasks, BUILT_IN), jobs_queue, observe))
        self._deliver = build_run_jobs(RunDeps(worker(deliver, {}), webhooks_queue, observe))
        self.sweep = build_sweep_jobs(SweepDeps(found.operations, found.keeper, observe, clock))
        self.relay = build_relay_jobs(RelayDeps(outbox, observe, clock))
        self.authorizer = build_authorizer(AuthorizerDeps(found.tenants, observe, clock))
        self._start_imports = build_start_imports(ImportsDeps(found.jobs, found.operations, TASKS, BUCKET, observe, clock, self._new_id))
        quota = limits.quota(found.limits, 600)
        self._api = {
            "jobs": build_jobs(
                JobsDeps(
                    store=found.jobs,
                    operations=found.operations,
                    tasks=TASKS,
                    schedules=found.keeper,
                    observe=observe,
                    clock=clock,
                    new_id=self._new_id,
                )
            ),
            "await_job": build_await_job(AwaitDeps(found.jobs, observe, clock, Stopping())),
            "counters": build_counters(CountersDeps(found.counters, found.limits, observe, quota)),
            "sessions": build_sessions(SessionsDeps(found.sessions, observe)),
            "hello": build_hello(
                HelloDeps(
                    counters=found.counters,
                    sessions=lambda: found.sessions,
                    limits=lambda: found.limits,
                    page_limit=600,
                    tenant="default",
                    observe=observe,
                )
            ),
        }

    # ------------------------------------------------------------ requests and messages

    def call(
        self, function: str, name: str, route: str, path: str | None = None, *, tenant: str = TENANT,
        cookies: Sequence[str] = (), **request: Any,
    ) -> dict[str, Any]:  # fmt: skip
        """Sends a request to a function, and keeps the answer under a name."""
        caller = {"tenant": tenant, "scopes": " ".join(sorted(ALL_SCOPES))}
        event = {**http(route, path, caller=caller, **request), "cookies": list(cookies)}
        reply = self._api[function](event, Context())
        kind = reply.get("headers", {}).get("Content-Type", "")
        body = json.loads(reply["body"]) if "json" in kind else reply.get("body")
        assert name not in self.answers, name
        self.answers[name] = {
            "request": {"route": route, "path": path, **request},
            "status": reply["statusCode"],
            "headers": sorted(reply.get("headers", {})),
            "body": body,
        }
        return {"body": body, "headers": reply.get("headers", {}), "status": reply["statusCode"]}

    def case(self, kind: str, name: str, /, **of: Any) -> None:
        """Keeps how to read something that is stored."""
        self.cases.append({"kind": kind, "name": name, "of": of})

    def job(self, name: str, job_id: str, tenant: str = TENANT) -> str:
        """Keeps how to read a job."""
        self._named.add(job_id)
        self.case("job", name, tenant=tenant, job_id=job_id)
        return job_id

    def submit(self, name: str, *, key: str | None = None, tenant: str = TENANT, **body: Any) -> str:
        """Submits a job by the API, and keeps how to read it."""
        headers = {} if key is None else {"Idempotency-Key": key}
        reply = self.call("jobs", f"submit: {name}", "POST /jobs", body=body, headers=headers, tenant=tenant)
        return self.job(name, reply["body"]["id"], tenant)

    def unnamed_jobs(self, name: str) -> None:
        """Keeps how to read the jobs that other jobs or schedules have made since the last call."""
        items = [each for each in self.items("JobsTable") if each["sk"] == {"S": "job"}]
        made = [each for each in items if each["id"]["S"] not in self._named]
        made.sort(key=lambda each: (each["created_at"]["N"], each["payload"]["S"] if "payload" in each else "", each["id"]["S"]))
        assert made, name
        for number, each in enumerate(made, 1):
            self.job(f"{name} {number}", each["id"]["S"], each["tenant"]["S"])

    def wake(self, job_id: str, *, receives: int = 1, tenant: str = TENANT, webhook: bool = False) -> None:
        """Gives the message of a job to its worker."""
        self.deliver({"tenant": tenant, "id": job_id}, receives=receives, webhook=webhook)

    def deliver(self, body: Any, *, receives: int = 1, webhook: bool = False, context: Context | None = None) -> str:
        """Gives a message to a worker, and returns the message's id."""
        event, message_id = self._event(body, receives)
        (self._deliver if webhook else self._run_jobs)(event, context or Context())
        return message_id

    def notice(self, body: str) -> None:
        """Gives a notice of S3 to the function that starts imports."""
        reply = self._start_imports(sqs(body), Context())
        assert not reply["batchItemFailures"]

    def items(self, table: str) -> list[dict[str, Any]]:
        """Every item of a table, by its key."""
        pages = self.stores.client.get_paginator("scan").paginate(TableName=self.stores.tables[table])
        found = [item for page in pages for item in page["Items"]]
        return sorted(found, key=lambda item: (item["pk"]["S"], item.get("sk", {}).get("S", "")))

    # ------------------------------------------------------------ one thing of each feature

    def claim(self, job_id: str, new: Job | None = None) -> Job:
        """Claims a job as a worker does, and leaves it. The claim makes the job if it is `new`."""
        nonce = self._nonces()
        return self.stores.jobs.claim(TENANT, job_id, nonce=nonce, now_ms=self.stores.clock(), lease_ms=LEASE_MS, new=new)

    def define(self, name: str, *, tenant: str = TENANT, **definition: Any) -> None:
        """Defines a schedule by the API."""
        body = {"task": "note", **definition}
        path = f"/schedules/{name}"
        self.call("jobs", f"define: {name}", "PUT /schedules/{name}", path, body=body, tenant=tenant)
        self.case("schedule", name, tenant=tenant, name=name)

    def change_schedule(self, name: str, verb: str) -> None:
        """Pauses or resumes a schedule by the API."""
        self.call("jobs", f"{verb}: {name}", f"POST /schedules/{{name}}/{verb}", f"/schedules/{name}/{verb}")

    def count(self, answer: str, name: str, *, key: str | None = None, **body: Any) -> None:
        """Increments a counter by the API."""
        headers = {} if key is None else {"Idempotency-Key": key}
        path = f"/counters/{name}/increment"
        self.call("counters", answer, "POST /counters/{name}/increment", path, body=body, headers=headers)

    def take(self, name: str, limit: Limit, key: str, cost: int, *, again: bool = False) -> None:
        """Takes from a limit by the API, and keeps how to take from it once more."""
        facts = _limit_facts(limit)
        body = {"key": key, "cost": cost, **{each: facts[each] for each in facts if each != "name" and facts[each] is not None}}
        answer = f"take: {name}, again" if again else f"take: {name}"
        self.call("counters", answer, "POST /limits/{name}/take", f"/limits/{limit.name}/take", body=body)
        if not again:
            self.case_of_limit(name, limit, key)

    def case_of_limit(self, name: str, limit: Limit, key: str, *, tenant: str = TENANT) -> None:
        """Keeps how to take from a limit."""
        self.case("limit", name, tenant=tenant, limit=_limit_facts(limit), key=key, cost=1)

    def key(
        self, name: str, *, tenant: str = TENANT, scopes: frozenset[str] = ALL_SCOPES,
        expires_at_ms: int | None = None,
    ) -> tuple[str, str]:  # fmt: skip
        """Makes an API key; returns its id and its text."""
        text, key = mint(
            "test", tenant, scopes, now_ms=self.stores.clock(), expires_at_ms=expires_at_ms,
            new_secret=lambda alphabet, length: str(next(self._key_numbers)).zfill(length),
        )  # fmt: skip
        self.stores.tenants.add_key(key)
        self.case("key", name, credential=text)
        return key.key_id, text

    def authorize(self, name: str, credential: str) -> None:
        """Shows an API key to the authorizer, and keeps the answer."""
        reply = self.authorizer({"headers": {"authorization": f"Bearer {credential}"}}, Context())
        self.answers[f"authorize: {name}"] = {"request": {"route": "authorizer"}, "status": 200, "headers": [], "body": reply}

    def session(self, name: str, *, tenant: str = TENANT, **body: Any) -> str:
        """Makes a session by the API; returns its token."""
        reply = self.call("sessions", f"create: {name}", "POST /sessions", body=body, tenant=tenant)
        token: str = reply["body"]["token"]
        self.case("session", name, tenant=tenant, token=token)
        return token

    def rotate(self, name: str, token: str, **body: Any) -> None:
        """Rotates a session by the API."""
        headers = {"Session-Token": token}
        reply = self.call("sessions", f"rotate: {name}", "POST /sessions/current/rotate", body=body, headers=headers)
        self.case("session", name, tenant=TENANT, token=reply["body"]["token"])

    def message(self, name: str, queue: str, body: str, **more: Any) -> None:
        """Keeps a message of a queue."""
        self.messages[name] = {"queue": queue, "body": body, **more}
        self.case("message", name, name=name)

    def _event(self, body: Any, receives: int) -> tuple[dict[str, Any], str]:
        text = body if isinstance(body, str) else json.dumps(body)
        (record,) = sqs(text)["Records"]
        message_id = self._message_ids()
        attributes = {"ApproximateReceiveCount": str(receives)}
        return {"Records": [{**record, "messageId": message_id, "attributes": attributes}]}, message_id

    def _run(self, job: Job, effects: Effects) -> Any:
        return self.body(job, effects)


def _limit_facts(limit: Limit) -> dict[str, Any]:
    return {
        "name": limit.name,
        "limit": limit.limit,
        "period_seconds": limit.period_seconds,
        "algorithm": limit.algorithm.value,
        "burst": limit.burst,
    }


def make(client: Any, tables: Mapping[str, str]) -> Made:
    """Makes everything that a release stores, on empty tables of moto."""
    clock = FixedClock(LONG_BEFORE)
    found = stores(client, tables, clock)
    found.s3.create_bucket(Bucket=BUCKET)
    maker = Maker(found)
    _make_expired(maker)
    clock.now_ms = START
    _make_schedules(maker)
    _make_jobs_that_wait(maker)
    clock.advance(950)
    _make_jobs_that_ran(maker)
    _make_jobs_that_were_changed(maker)
    _make_webhooks(maker)
    _make_import(maker)
    _make_unreadable(maker)
    _make_counters(maker)
    _make_limits(maker)
    _make_keys(maker)
    _make_sessions(maker)
    maker.sweep({}, Context(60_000))
    maker.unnamed_jobs("job of a schedule that a sweep made")
    _make_jobs_that_run(maker)
    _make_messages(maker)
    _list_everything(maker)
    clock.advance(1)
    return Made(
        items={table: maker.items(table) for table in tables},
        parameters=_make_parameters(maker),
        messages=maker.messages,
        answers=maker.answers,
        cases=maker.cases,
        read_at_ms=clock(),
    )


def _make_expired(m: Maker) -> None:
    """Makes items that have expired by the end. TTL has not deleted them yet."""
    found = m.stores
    m.body = lambda job, effects: {"was": "long ago"}
    m.wake(m.submit("completed and expired", task="note", key="expired"))
    cancelled = m.submit("cancelled and expired", task="note", payload="x" * 1100)
    jobs.cancel(cancelled, tenant=TENANT, operations=found.operations, now_ms=found.clock())
    m.deliver("a message that was kept for 30 days")
    found.endpoints.end(TENANT, "https://gone.example/expired")
    m.case("endpoint", "gone, expired", tenant=TENANT, url="https://gone.example/expired")
    for name in ("expired", "started-again"):
        m.count(f"increment that expires: {name}", name, by=9, ttl_seconds=60)
    m.case("counter", "expired", tenant=TENANT, name="expired")
    for subject in (None, "ada"):
        token, _ = sessions.create(found.sessions, tenant=TENANT, subject=subject, data={"n": 1})
        m.case("session", f"expired, subject {subject}", tenant=TENANT, token=token)
    m.key("expired", expires_at_ms=found.clock() + DAY_MS)
    m.take("sliding window that is over", Limit("slow", 5, 3600, Algorithm.SLIDING), "old", 2)
    m.take("gcra that is idle", Limit("bucket", 5, 3600), "old", 2)


def _make_schedules(m: Maker) -> None:
    """Makes schedules in each of their states, and the jobs of their first ticks."""
    keeper = m.stores.keeper
    m.define("nightly", cron="30 2 * * *", timezone="Europe/Berlin", payload={"n": 1}, max_attempts=4)
    m.define("minutely", every_seconds=60)
    m.define("large", every_seconds=86_400, payload="x" * 1100)
    m.define("paused", every_seconds=3600)
    m.change_schedule("paused", "pause")
    m.define("paused-cron", cron="*/5 * * * *")
    m.change_schedule("paused-cron", "pause")
    m.define("resumed", every_seconds=7200)
    m.change_schedule("resumed", "pause")
    m.change_schedule("resumed", "resume")
    m.define("changed", every_seconds=60)
    m.call(
        "jobs", "define again: changed", "PUT /schedules/{name}", "/schedules/changed",
        body={"task": "call", "cron": "0 12 1 * *"},
    )  # fmt: skip
    m.define("held", every_seconds=3600)
    seen = keeper.store.read(TENANT, "held")
    keeper.store.set(seen, replace(seen, next_ms=None))  # a change that a crash cut short
    m.define("deleted", every_seconds=3600)
    m.call("jobs", "delete a schedule", "DELETE /schedules/{name}", "/schedules/deleted")
    m.define("s:1@x+y", every_seconds=3600, tenant=OTHER_TENANT)
    m.unnamed_jobs("job of a schedule")


def _make_jobs_that_wait(m: Maker) -> None:
    """Makes jobs that no worker has claimed."""
    m.submit("queued", task="note", payload={"text": "Grüße, 世界 🌍"})
    m.submit("queued without a payload", task="note")
    m.submit("queued, of another tenant", task="note", payload=[1, 2.5, None], tenant=OTHER_TENANT)
    m.submit("queued with a large payload", task="note", payload={"text": "é" * 600})
    keyed: dict[str, Any] = {"task": "note", "payload": {"n": 1}, "max_attempts": 7}
    m.submit("queued with a key", key="order-1", **keyed)
    headers = {"Idempotency-Key": "order-1"}
    m.call("jobs", "submit again", "POST /jobs", body=keyed, headers=headers)
    m.call("jobs", "submit another job under a key", "POST /jobs", body={"task": "call"}, headers=headers)
    m.submit("scheduled within the delay of a queue", task="note", delay_seconds=600)
    m.submit("scheduled, in the due index until a sweep", task="note", delay_seconds=1000)
    m.submit("scheduled for a time", task="call", run_at="2027-02-01T12:00:00+01:00", key="later")
    later = {"task": "call", "run_at": "2027-02-01T12:00:00+01:00"}
    m.case("submission again", "scheduled for a time", tenant=TENANT, body=later, key="later")
    m.submit("scheduled with a large payload", task="note", payload="x" * 1100, delay_seconds=DAY_MS / 1000)


def _make_jobs_that_ran(m: Maker) -> None:
    """Makes jobs that have had attempts."""
    _make_completed_jobs(m)
    _make_failed_jobs(m)
    _make_dead_jobs(m)


def _make_completed_jobs(m: Maker) -> None:
    m.body = lambda job, effects: {"answer": 42, "text": "für dich"}
    m.wake(m.submit("completed", task="note", payload={"n": 2}, key="completed"))
    same = {"task": "note", "payload": {"n": 2}}
    m.case("submission again", "completed", tenant=TENANT, body=same, key="completed")
    other = {"task": "note", "payload": {"n": 3}}
    m.case("submission again", "another body", tenant=TENANT, body=other, key="completed")
    add = {"name": "by-jobs", "by": 3}
    m.wake(m.submit("completed, counter.add", task="counter.add", payload=add))
    m.wake(m.submit("completed, large payload", task="call", payload="x" * 1100))
    m.body = lambda job, effects: None
    m.wake(m.submit("completed without a result", task="note"))

    def with_progress(job: Job, effects: Effects) -> Any:
        effects.checkpoint({"step": 1})
        return [job.attempt, "done"]

    m.body = with_progress
    m.wake(m.submit("completed after progress", task="call"))
    m.wake(m.submit("completed after progress, without a claim at first", task="note"))

    def with_effects(job: Job, effects: Effects) -> Any:
        effects.increment("by-jobs", 5)
        effects.take(Limit("by-jobs", 10, 3600, Algorithm.FIXED), "k", 4)
        effects.submit("note", {"n": "now"})
        effects.submit("call", {"n": "later"}, delay_seconds=86_400, max_attempts=2)
        effects.submit("note", "large" * 300)
        return "effects"

    m.body = with_effects
    m.wake(m.submit("completed with effects", task="note"))
    m.unnamed_jobs("follow-up")
    m.case_of_limit("taken by a job", Limit("by-jobs", 10, 3600, Algorithm.FIXED), "k")
    m.case("counter", "added by jobs", tenant=TENANT, name="by-jobs")

    m.body = lambda job, effects: "produced"
    m.deliver({"task": "note", "payload": {"n": 4}})
    m.deliver({"task": "note", "payload": "large" * 300, "idempotency_key": "produced-1"})
    m.deliver({"task": "counter.add", "payload": {"name": "by-messages"}}, receives=2)
    m.unnamed_jobs("completed, from a message")
    m.case("counter", "added from a message", tenant="default", name="by-messages")


def _make_failed_jobs(m: Maker) -> None:
    clock = m.stores.clock

    def fail(job: Job, effects: Effects) -> Any:
        raise RuntimeError(f"attempt {job.attempt} failed")

    m.body = fail
    m.wake(m.submit("retry after one attempt", task="note"))
    m.wake(m.submit("retry after one attempt, claimed first", task="call"))
    twice = m.submit("retry after two attempts", task="note")
    m.wake(twice)
    second = m.submit("completed at the second attempt", task="note")
    m.wake(second)
    m.deliver({"task": "note"})
    m.unnamed_jobs("retry, from a message")
    clock.advance(2)
    m.wake(twice, receives=2)
    m.body = lambda job, effects: job.attempt
    m.wake(second, receives=2)

    def save_and_fail(job: Job, effects: Effects) -> Any:
        effects.checkpoint({"step": 2, "seen": ["a", "b"]})
        raise RuntimeError("after a checkpoint")

    m.body = save_and_fail
    m.wake(m.submit("retry with progress", task="call"))

    def busy(job: Job, effects: Effects) -> Any:
        raise Retry("busy", after_seconds=7200)

    m.body = busy
    m.wake(m.submit("retry in two hours", task="note"))
    m.wake(m.submit("retry in two hours, claimed first", task="call"))
    unstarted = m.submit("handed back before it was started", task="call")
    m.stores.jobs.hand_back(m.claim(unstarted), now_ms=clock())


def _make_dead_jobs(m: Maker) -> None:
    def give_up(job: Job, effects: Effects) -> Any:
        raise Permanent("the order does not exist")

    m.body = give_up
    m.wake(m.submit("dead at once", task="note"))
    m.wake(m.submit("dead at once, claimed first", task="call", payload="x" * 1100))
    m.deliver({"task": "note", "payload": {"n": 5}})
    m.deliver({"task": "a task that does not exist".replace(" ", "-"), "payload": {"n": 6}})
    m.unnamed_jobs("dead, from a message")

    def refused(job: Job, effects: Effects) -> Any:
        key = {"pk": "acme/absent", "sk": "absent"}
        effects.check(m.stores.tables["CountersTable"], key, "attribute_exists(pk)")

    m.body = refused
    m.wake(m.submit("dead by an effect that was refused", task="note"))

    def fail(job: Job, effects: Effects) -> Any:
        raise RuntimeError("once is enough")

    m.body = fail
    m.wake(m.submit("dead after its last attempt", task="call", max_attempts=1))
    interrupted = m.submit("dead, its last attempt interrupted", task="call", max_attempts=1)
    m.claim(interrupted)
    m.stores.clock.advance(LEASE_MS / 1000 + 1)
    m.wake(interrupted, receives=2)


def _make_jobs_that_were_changed(m: Maker) -> None:
    """Makes jobs that callers and operators have changed: redriven, cancelled, announced again."""
    operations, clock = m.stores.operations, m.stores.clock

    def give_up(job: Job, effects: Effects) -> Any:
        raise Permanent(f"run {job.run} failed")

    m.body = give_up
    for name in ("redriven", "redriven and dead again", "redriven and completed"):
        redriven = m.submit(name, task="note")
        m.wake(redriven)
        m.call("jobs", f"redrive: {name}", "POST /jobs/{id}/redrive", f"/jobs/{redriven}/redrive")
        if "and" in name:
            m.body = give_up if "dead" in name else lambda job, effects: job.run
            m.wake(redriven)
            m.body = give_up

    queued = m.submit("cancelled before it was run", task="note")
    scheduled = m.submit("cancelled before its time", task="note", delay_seconds=86_400)
    running = m.submit("cancelled while it was run", task="call")
    m.claim(running)
    for name, each in (("queued", queued), ("scheduled", scheduled), ("running", running)):
        m.call("jobs", f"cancel: {name}", "POST /jobs/{id}/cancel", f"/jobs/{each}/cancel")
    m.call("jobs", "redrive a job that is not dead", "POST /jobs/{id}/redrive", f"/jobs/{queued}/redrive")

    def fail(job: Job, effects: Effects) -> Any:
        raise RuntimeError("its message is lost")

    m.body = fail
    retry = m.submit("announced again, was in retry", task="note")
    m.wake(retry)
    abandoned = m.submit("announced again, was abandoned", task="call")
    m.claim(abandoned)
    waiting = m.submit("announced again, was queued", task="note")
    timed = m.submit("announced again, is scheduled", task="note", delay_seconds=300)
    clock.advance(LEASE_MS / 1000 + 1)
    for each in (retry, abandoned, waiting, timed):
        operations.resend(TENANT, each, now_ms=clock())


def _make_webhooks(m: Maker) -> None:
    """Makes jobs of the built-in task, and the endpoints that answered 410."""
    hook = {"url": "https://hooks.example/new", "body": {"event": "paid"}, "headers": {"X-Id": "1"}}
    m.submit("webhook, queued", task=DELIVER.name, payload=hook)
    m.body = lambda job, effects: {"status": 204}
    m.wake(m.submit("webhook, delivered", task=DELIVER.name, payload=hook), webhook=True)

    def unreachable(job: Job, effects: Effects) -> Any:
        raise Retry("https://hooks.example answered 503", after_seconds=5.4)

    m.body = unreachable
    m.wake(m.submit("webhook, in retry", task=DELIVER.name, payload=hook), webhook=True)

    def gone(job: Job, effects: Effects) -> Any:
        m.stores.endpoints.end(job.tenant, job.payload["url"])
        raise Permanent("https://hooks.example answered 410: it wants nothing more")

    m.body = gone
    wanted = {**hook, "url": "https://hooks.example/gone", "secret_name": "second"}
    m.wake(m.submit("webhook, gone", task=DELIVER.name, payload=wanted), webhook=True)
    m.case("endpoint", "gone", tenant=TENANT, url="https://hooks.example/gone")
    m.case("endpoint", "of another tenant", tenant="b", url="https://hooks.example/gone")
    m.stores.endpoints.end(TENANT, "https://hooks.example/back")
    m.stores.endpoints.reopen(TENANT, "https://hooks.example/back")
    m.case("endpoint", "open again", tenant=TENANT, url="https://hooks.example/back")


def _make_import(m: Maker) -> None:
    """Makes an import that was left after its first piece, and one that an upload starts."""
    found = m.stores
    csv = {"header": "name,amount,note", "bad": "only one field", "row": "a,1.25,", "rows": 150_000}
    _upload(found.s3, TENANT, "orders/2027.csv", csv)
    context = Context()

    def nearly_over() -> None:
        context._remaining_ms = 5_000

    m.body = lambda job, effects: import_csv(job, effects, Watched(found.s3, BUCKET, nearly_over))
    job_id = m.submit("import that goes on", task="csv.import", payload={"key": "orders/2027.csv"})
    m.deliver({"tenant": TENANT, "id": job_id}, context=context)
    m.case("import", "import that goes on", tenant=TENANT, job_id=job_id, csv=csv)
    m.message("notice of an upload", "UploadsQueue", json.dumps(NOTICE))
    m.message("notice of a test", "UploadsQueue", json.dumps({"Event": "s3:TestEvent"}))
    m.notice(json.dumps(NOTICE))
    m.unnamed_jobs("import that an upload started")


def _upload(s3: Any, tenant: str, key: str, csv: Mapping[str, Any]) -> None:
    """Puts the object of an import into the bucket."""
    lines = [csv["header"], csv["bad"], *[csv["row"]] * csv["rows"]]
    s3.put_object(Bucket=BUCKET, Key=f"{tenant}/{key}", Body=("\n".join(lines) + "\n").encode())


def _make_unreadable(m: Maker) -> None:
    """Makes messages that are not jobs, as they are kept."""
    m.deliver("this is not a job")
    m.deliver('{"task": 5}')
    m.deliver("")
    m.deliver("\ud800 is half a character")
    m.deliver("in two pieces " * 25_000)
    m.deliver({"task": "note", "payload": "another body", "idempotency_key": "produced-1"})
    m.case("unreadable messages", "all")


def _make_counters(m: Maker) -> None:
    """Makes counters of each form, and the keys of their increments."""
    m.count("increment", "plain", by=5)
    m.count("increment below zero", "negative", by=-8)
    m.count("increment by a large number", "huge", by=10**30)
    m.count("increment approximately", "approximate", by=2, approximate=True)
    m.count("increment within bounds", "bounded", by=9, floor=0, ceiling=10)
    m.count("increment beyond a bound", "bounded", by=2, ceiling=10)
    m.count("increment for a month", "lasting", by=4, ttl_seconds=30 * 86_400)
    m.count("increment after the end", "started-again", by=2, ttl_seconds=30 * 86_400)
    m.count("increment once", "keyed", key="order-1", by=7)
    m.count("increment once, again", "keyed", key="order-1", by=7)
    m.count("increment under a key of another", "keyed", key="order-1", by=8)
    m.count("increment without a key", "keyed")
    for name, shards in (("sharded", 3), ("sharded-and-empty", 2)):
        m.call("counters", f"create: {name}", "PUT /counters/{name}", f"/counters/{name}", body={"shards": shards})
    m.count("increment a shard", "sharded", by=11)
    m.count("increment a shard once", "sharded", key="order-1", by=4)
    m.count("increment before the end", "deleted", by=1)
    m.call("counters", "delete a counter", "DELETE /counters/{name}", "/counters/deleted")
    names = [
        "plain", "negative", "huge", "approximate", "bounded", "lasting", "started-again", "keyed",
        "sharded", "sharded-and-empty", "deleted", "never-made",
    ]  # fmt: skip
    names = [each.replace(" ", "-") for each in names]
    for name in names:
        m.case("counter", name, tenant=TENANT, name=name)
    m.case("counters together", "all", tenant=TENANT, names=names)
    for name, by in (("keyed", 7), ("sharded", 4)):
        m.case("increment again", name, tenant=TENANT, name=name, key="order-1", step={"by": by})
    m.case("increment again", "another step", tenant=TENANT, name="keyed", key="order-1", step={"by": 8})
    for name in ("page as text", "page as JSON"):
        accept = {"Accept": "application/json" if "JSON" in name else "text/plain"}
        reply = m.call("hello", name, "GET /", headers=accept)
    m.case("counter", "of the page", tenant="default", name="hits")
    m.case_of_limit("of the page", Limit("page", 600, 60), "127.0.0.1", tenant="default")
    cookie = reply["headers"]["Set-Cookie"].split(";")[0]
    m.call("hello", "page again", "GET /", headers=accept, cookies=[cookie])
    m.case("session", "of a visitor", tenant="default", token=cookie.partition("=")[2])
    m.call("hello", "health", "GET /health")


def _make_limits(m: Maker) -> None:
    """Makes the states of limits, by each algorithm."""
    fixed = Limit("hourly", 5, 3600, Algorithm.FIXED)
    sliding = Limit("slow", 5, 3600, Algorithm.SLIDING)
    gcra = Limit("bucket", 5, 3600)
    burst = Limit("burst", 60, 3600, burst=4)
    for limit in (fixed, sliding, gcra):
        m.take(f"{limit.algorithm}, with room", limit, "Zoë / 1", 2)
        m.take(f"{limit.algorithm}, used up", limit, "full", 5)
    m.take("gcra with a burst", burst, "k", 3)
    m.take("sliding, of two windows", TWO_WINDOWS, "k", 30)
    together = [Limit("each-second", 5, 1), Limit("each-day", 50, 86_400, Algorithm.FIXED)]
    limits.take_all(m.stores.limits, together, tenant=TENANT, key="k", cost=3)
    for limit in together:
        m.case_of_limit(f"one of two, {limit.name}", limit, "k")
    m.call("counters", "take from a full limit", "POST /limits/{name}/take", "/limits/hourly/take",
           body={"key": "full", "algorithm": "fixed", "limit": 5, "period_seconds": 3600})  # fmt: skip
    m.case_of_limit("requests of a tenant", Limit("api/requests", 600, 60), "all")


def _make_keys(m: Maker) -> None:
    """Makes API keys in each of their states."""
    store, now_ms = m.stores.tenants, m.stores.clock()
    m.key("unused")
    m.key("of two scopes", scopes=frozenset({"jobs:read", "jobs:write"}))
    m.key("that expires", expires_at_ms=now_ms + 30 * DAY_MS)
    m.key("of another tenant", tenant=OTHER_TENANT)
    _, used = m.key("used")
    m.authorize("key", used)
    m.authorize("unknown key", used[:-1] + ("0" if used[-1] != "0" else "1"))
    old, old_text = m.key("rotated, works on for a week")
    m.authorize("key that is rotated", old_text)
    m.key("successor of a rotated key")
    store.end_key(old, TENANT, now_ms + 7 * DAY_MS)
    ended, _ = m.key("rotated, ended at once")
    m.key("successor of an ended key")
    store.end_key(ended, TENANT, now_ms)
    revoked, _ = m.key("revoked")
    store.revoke_key(revoked, TENANT)
    for tenant in (TENANT, OTHER_TENANT):
        m.case("keys of a tenant", tenant, tenant=tenant)


def _make_sessions(m: Maker) -> None:
    """Makes sessions in each of their states, and the generations of subjects."""
    store, clock = m.stores.sessions, m.stores.clock
    touched = m.session("touched", data={"n": 1})
    clock.advance(200)
    m.call("sessions", "read: touched", "GET /sessions/current", headers={"Session-Token": touched})
    m.session("anonymous", data={"cart": [{"id": "ä", "n": 2}], "none": None, "yes": True})
    m.session("of a subject", subject="ada@example.org", data={})
    m.session("of another tenant", subject="ada@example.org", tenant=OTHER_TENANT)
    m.session("that nearly nothing ends", subject="ada@example.org", idle_seconds=34_560_000, absolute_seconds=34_560_000)
    m.session("that ends soon", idle_seconds=1, absolute_seconds=2)
    changed = m.session("changed", subject="bob", data={"a": 1, "b": {"c": 2}})
    m.call(
        "sessions", "patch", "PATCH /sessions/current", body={"a": None, "b": {"d": 3}},
        headers={"Session-Token": changed, "If-Match": '"1"'},
    )  # fmt: skip
    m.call(
        "sessions", "patch another version", "PATCH /sessions/current", body={"a": 1},
        headers={"Session-Token": changed, "If-Match": '"1"'},
    )  # fmt: skip
    lasting = m.session("with other deadlines", data={"n": 1})
    sessions.change(store, lasting, lambda data: {"n": 2}, tenant=TENANT, lifetime=(3600, 7200))
    m.rotate("rotated", m.session("before it was rotated", data={"n": 1}))
    m.rotate("logged in", m.session("before the login", data={"n": 1}), subject="bob")
    m.rotate("of the next subject", m.session("of the first subject", subject="cyd"), subject="bob")
    ended = m.session("ended")
    m.call("sessions", "end", "DELETE /sessions/current", headers={"Session-Token": ended})
    m.session("ended with all of its subject", subject="eve")
    path = "/subjects/eve/sessions"
    m.call("sessions", "end all", "DELETE /subjects/{subject}/sessions", path)
    m.session("after all of its subject were ended", subject="eve")
    m.session("ended by its id", subject="kim")
    listed = m.call("sessions", "list before the end", "GET /subjects/{subject}/sessions", "/subjects/kim/sessions")
    one = listed["body"]["items"][0]["id"]
    m.call("sessions", "end one", "DELETE /subjects/{subject}/sessions/{id}", f"/subjects/kim/sessions/{one}")
    _make_flask_session(m)
    for subject in ("ada@example.org", "bob", "cyd", "eve", "kim"):
        m.case("sessions of a subject", subject, tenant=TENANT, subject=subject)
        m.call("sessions", f"list: {subject}", "GET /subjects/{subject}/sessions", f"/subjects/{subject}/sessions")


def _make_flask_session(m: Maker) -> None:
    app = Flask("release")
    app.session_interface = MayflySessionInterface(m.stores.sessions, tenant=TENANT)

    @app.get("/")
    def page() -> Response:
        session.permanent = True
        session["pair"] = (1, "two")
        session["bytes"] = b"\x00\xff"
        return Response("")

    reply = app.test_client().get("/", base_url="https://app.example.org")
    cookie = reply.headers["Set-Cookie"].split(";")[0]
    m.case("session", "of Flask", tenant=TENANT, token=cookie.partition("=")[2])


def _make_jobs_that_run(m: Maker) -> None:
    """Makes jobs that a worker holds at the end, or held when its process died."""
    clock = m.stores.clock
    m.claim(m.submit("interrupted", task="call"))
    first = m.submit("running, for the second time", task="call")
    m.claim(first)
    clock.advance(LEASE_MS / 1000 + 1)
    m.claim(first)
    m.claim(m.submit("running", task="call", payload={"n": 1}))
    saving = m.claim(m.submit("running with progress", task="call", payload="x" * 1100))
    m.stores.jobs.save(saving, progress=json.dumps({"step": 3}))
    asked = read_submission({"task": "call", "payload": "x" * 1100}, idempotency_key="produced-2")
    job = new_job(TENANT, job_id_for(TENANT, "produced-2", otherwise=""), asked, TASKS["call"], now_ms=clock())
    m.job("running, from a message", m.claim(job.id, new=job).id)
    m.take("sliding, of two windows", TWO_WINDOWS, "k", 5, again=True)


def _make_messages(m: Maker) -> None:
    """Makes the messages of each queue: what the relay sends, and what others send to Mayfly."""
    items = {each["id"]["S"]: each for each in m.items("JobsTable") if each["sk"] == {"S": "job"}}
    for case in [each for each in m.cases if each["kind"] == "job"]:
        image = items[case["of"]["job_id"]]
        if image["status"]["S"] in ("QUEUED", "SCHEDULED"):
            m.case("announcement", case["name"], **case["of"])
            if case["name"] in RELAYED:
                record = {"dynamodb": {"NewImage": image, "SequenceNumber": "1"}}
                m.relay({"Records": [record]}, Context())
                (sent,) = m.sent.entries
                m.sent.entries.clear()
                m.message(
                    f"wake: {case['name']}", sent["queue"], sent["MessageBody"],
                    delay_seconds=sent["DelaySeconds"], group=sent["MessageGroupId"],
                )  # fmt: skip
    produced = {"task": "counter.add", "payload": {"name": "hits", "by": 1}}
    m.message("job of a producer", "JobsQueue", json.dumps(produced))
    keyed = {**produced, "idempotency_key": "order-1"}
    m.message("job of a producer, with a key", "JobsQueue", json.dumps(keyed))
    m.message("records that the relay gave up", "RelayFailures", json.dumps(GIVEN_UP))


def _list_everything(m: Maker) -> None:
    """Reads every job by the API, and lists what can be listed."""
    now_ms = m.stores.clock()
    known = [each for each in m.cases if each["kind"] == "job"]
    for each in known:
        m.call(
            "await_job", f"read: {each['name']}", "GET /jobs/{id}", f"/jobs/{each['of']['job_id']}",
            tenant=each["of"]["tenant"],
        )  # fmt: skip
    ids = [[each["of"]["tenant"], each["of"]["job_id"]] for each in known]
    m.case("jobs together", "all", ids=ids)
    for status in ("dead", "scheduled"):
        m.case("jobs by status", status, tenant=TENANT, status=status.upper())
        m.call("jobs", f"list: {status}", "GET /jobs", query={"status": status})
    m.case("stranded jobs", "all")
    m.case("due jobs", "all", before_ms=now_ms + 400 * DAY_MS)
    m.case("due schedules", "all", before_ms=now_ms + 400 * DAY_MS)
    m.case("schedules of a tenant", TENANT, tenant=TENANT)
    m.call("jobs", "list schedules", "GET /schedules")
    m.call("jobs", "read a schedule", "GET /schedules/{name}", "/schedules/nightly")
    m.call("counters", "read a counter", "GET /counters/{name}", "/counters/sharded")


def _make_parameters(m: Maker) -> dict[str, str]:
    """Makes the secrets of webhooks, in the form that `mayfly webhooks secret` gives them."""
    one, two, three = (f"whsec_{base64.b64encode(bytes([number]) * 32).decode()}" for number in (1, 2, 3))
    m.case("secret", "default", tenant=TENANT, name="default")
    m.case("secret", "rotated", tenant=OTHER_TENANT, name="a:b@c")
    m.case("secret", "absent", tenant=TENANT, name="absent")
    return {
        f"{SECRETS_PREFIX}/{parameter(TENANT, 'default')}": one,
        f"{SECRETS_PREFIX}/{parameter(OTHER_TENANT, 'a:b@c')}": f"{two} {three}",
    }


# ---------------------------------------------------------------- the folder


def load(folder: Path) -> dict[str, Any]:
    """Returns what a release has stored: items by table, parameters, messages by name."""
    found: dict[str, Any] = json.loads((folder / "items.json").read_text())
    large = json.loads(lzma.decompress((folder / "large_items.json.xz").read_bytes()))
    return {
        **found,
        "tables": {table: [_decoded(item) for item in [*items, *large.get(table, [])]] for table, items in found["tables"].items()},
    }


def fill(client: Any, tables: Mapping[str, str], held: Mapping[str, Any]) -> None:
    """Puts everything that a release has stored into tables, Parameter Store and a new bucket."""
    for table, items in held["tables"].items():
        for item in items:
            client.put_item(TableName=tables[table], Item=item)
    ssm = make_client("ssm")
    for path, value in held["parameters"].items():
        ssm.put_parameter(Name=path, Value=value, Type="SecureString")
    make_client("s3").create_bucket(Bucket=BUCKET)


def write(folder: Path, made: Made, *, checkout: Path, version: str) -> None:
    """Writes a release's folder."""
    folder.mkdir()
    encoded = {table: [_encoded(item) for item in items] for table, items in made.items.items()}
    small = {table: [each for each in items if not _is_large(each)] for table, items in encoded.items()}
    large = {table: some for table, items in encoded.items() if (some := [each for each in items if _is_large(each)])}
    held = {"tables": small, "parameters": made.parameters, "messages": made.messages}
    (folder / "items.json").write_text(_lines(held, 3) + "\n")
    (folder / "large_items.json.xz").write_bytes(lzma.compress(json.dumps(large, sort_keys=True).encode(), preset=9))
    (folder / "answers.json").write_text(_lines(_distinct(made.answers), 1) + "\n")
    cases = _expected(made, load(folder))
    (folder / "expected.json").write_text(_lines({"read_at_ms": made.read_at_ms, "cases": cases}, 2) + "\n")
    archive, files = _archive(checkout)
    (folder / "code.tar.xz").write_bytes(archive)
    commit = _git(checkout, "rev-parse", "HEAD").decode().strip()
    documents = {path.name: _sha256(path.read_bytes()) for path in sorted(folder.iterdir())}
    manifest = {"version": version, "commit": commit, "documents": documents, "code": files}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")


def _expected(made: Made, held: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The cases with the values that this release itself reads from its items."""
    with mock_aws():
        client = make_client("dynamodb")
        tables = make_tables(client)
        fill(client, tables, held)
        found = stores(client, tables, FixedClock(made.read_at_ms), held["messages"])
        return [{**case, "gives": read(found, case["kind"], case["of"])} for case in made.cases]


def members(value: Any) -> set[str]:
    """The paths of all members of a JSON value; the elements of an array count together."""
    if isinstance(value, list):
        return {f"[]{path}" for each in value for path in members(each)}
    if isinstance(value, dict):
        return {path for name, each in value.items() for path in (f".{name}", *(f".{name}{inner}" for inner in members(each)))}
    return set()


def _distinct(answers: Mapping[str, Any]) -> dict[str, Any]:
    """The first answer of each form: of a route, a status and the members that the answer has."""
    found: dict[Any, str] = {}
    for name, each in answers.items():
        route = each["request"]["route"]
        found.setdefault((route, each["status"], frozenset(members(each["body"]))), name)
    return {name: answers[name] for name in found.values()}


def _archive(checkout: Path) -> tuple[bytes, dict[str, str]]:
    """The code of a release as one archive, and the hashes of its files."""
    packed, hashes = io.BytesIO(), {}
    source = io.BytesIO(_git(checkout, "archive", "--format=tar", "HEAD", "--", *CODE))
    with tarfile.open(fileobj=source) as whole, tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in sorted((each for each in whole if each.isfile()), key=lambda each: each.name):
            content = whole.extractfile(member)
            assert content is not None
            data = content.read()
            entry = tarfile.TarInfo(member.name)
            entry.size = len(data)
            entry.mode = 0o755 if member.mode & 0o100 else 0o644
            tar.addfile(entry, io.BytesIO(data))
            hashes[member.name] = _sha256(data)
    return lzma.compress(packed.getvalue(), preset=9 | lzma.PRESET_EXTREME), hashes


def _git(checkout: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", "-C", str(checkout), *arguments], check=True, capture_output=True).stdout


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _encoded(item: Mapping[str, Any]) -> dict[str, Any]:
    """An item as DynamoDB's JSON has it: bytes are base64."""
    return {
        name: {kind: base64.b64encode(data).decode() if kind == "B" else data for kind, data in value.items()}
        for name, value in sorted(item.items())
    }


def _decoded(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: {kind: base64.b64decode(data) if kind == "B" else data for kind, data in value.items()} for name, value in item.items()}


def _is_large(item: Mapping[str, Any]) -> bool:
    return len(json.dumps(item)) > LARGE


def _lines(value: Any, depth: int) -> str:
    """JSON with a line for each member of the outer levels, so that a difference is a line."""
    if depth and isinstance(value, dict) and value:
        body = ",\n".join(f"{json.dumps(name)}: {_lines(each, depth - 1)}" for name, each in value.items())
        return f"{{\n{body}\n}}"
    if depth and isinstance(value, list) and value:
        body = ",\n".join(_lines(each, depth - 1) for each in value)
        return f"[\n{body}\n]"
    return json.dumps(value, sort_keys=True)


def main(arguments: Sequence[str]) -> None:
    """Makes the folder of a release next to this file."""
    if len(arguments) != 2:
        raise SystemExit(__doc__)
    checkout, version = Path(arguments[0]).resolve(), arguments[1]
    if not Path(mayfly.__file__).is_relative_to(checkout / "layers"):
        raise SystemExit(f"make.py: run it with {checkout}/.venv/bin/python, so that the release's own library makes the items")
    if _git(checkout, "status", "--porcelain", "--", *CODE):
        raise SystemExit(f"make.py: {checkout} has changes that are not committed; a release is a commit")
    with mock_aws():
        client = make_client("dynamodb")
        made = make(client, make_tables(client))
    write(Path(__file__).parent / version, made, checkout=checkout, version=version)


if __name__ == "__main__":
    main(sys.argv[1:])
