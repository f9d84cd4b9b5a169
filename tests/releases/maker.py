"""The maker of a release's items.

It calls the handlers so that they store, send and answer everything that they can.
"""

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, Final

from aws_lambda_powertools import Logger, Metrics
from boto3.dynamodb.types import TypeSerializer
from flask import Flask, Response, session
from mayfly import jobs, limits, sessions
from mayfly.aws.queue import Queue
from mayfly.core.shutdown import Stopping
from mayfly.imports import import_csv
from mayfly.jobs import Effects, Job, Permanent, Retry
from mayfly.jobs.authoring.built_in import BUILT_IN, DELIVER
from mayfly.jobs.authoring.task import Declaration, Task
from mayfly.jobs.model import Window
from mayfly.jobs.routing.outbox import Outbox
from mayfly.jobs.routing.stranded import StrandedSearch
from mayfly.jobs.rules import job_id_for, new_job
from mayfly.jobs.wire import read_submission
from mayfly.jobs.worker.deps import Deps as WorkerDeps
from mayfly.limits import Algorithm, Limit
from mayfly.sessions.web.flask import MayflySessionInterface
from mayfly.tenants import ALL_SCOPES, mint
from mayfly.webhooks.store import parameter

from functions.await_job.app import build as build_await_job
from functions.await_job.deps import Deps as AwaitDeps
from functions.counters.app import build as build_counters
from functions.counters.deps import Deps as CountersDeps
from functions.hello.app import build as build_hello
from functions.hello.deps import Deps as HelloDeps
from functions.identify_callers.app import build as build_identify_callers
from functions.identify_callers.deps import Deps as IdentifyCallersDeps
from functions.jobs.app import build as build_jobs
from functions.jobs.deps import Deps as JobsDeps
from functions.relay_jobs.app import build as build_relay_jobs
from functions.relay_jobs.deps import Deps as RelayDeps
from functions.run_jobs.app import build as build_run_jobs
from functions.run_jobs.deps import Deps as RunDeps
from functions.schedules.app import build as build_schedules
from functions.schedules.deps import Deps as SchedulesDeps
from functions.sessions.app import build as build_sessions
from functions.sessions.deps import Deps as SessionsDeps
from functions.start_imports.app import build as build_start_imports
from functions.start_imports.deps import Deps as ImportsDeps
from functions.sweep_jobs.app import build as build_sweep_jobs
from functions.sweep_jobs.deps import Deps as SweepDeps
from functions.tasks.counter_add import add as counter_add
from tests.releases.readings import (
    BUCKET,
    SECRETS_PREFIX,
    TASKS,
    Numbered,
    Quiet,
    Stores,
    Watched,
    stores,
    upload,
)
from tests.support.events import http, sqs
from tests.support.fakes import Context, FixedClock, NoReports

__all__ = ["Made", "make"]

#: The items that have expired by the end are made at this time; the others begin 115 days later.
LONG_BEFORE: Final = 1_790_000_000_000
START: Final = 1_800_000_000_000
LEASE_MS: Final = 15_000
TENANT: Final = "acme"
OTHER_TENANT: Final = "team:a@b+c"
#: A limit from which items are made in one window, and in the next.
TWO_WINDOWS: Final = Limit("quick", 50, 600, Algorithm.SLIDING)
DAY_MS: Final = 24 * 3600 * 1000
#: Jobs whose messages are kept.
RELAYED: Final = (
    "queued",
    "queued, of another tenant",
    "scheduled within the delay of a queue",
    "webhook, queued",
)
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
                "object": {
                    "key": f"{TENANT}/a+file+%C3%A4.csv",
                    "size": 9,
                    "eTag": "e1",
                    "sequencer": "0A",
                },
            },
        },
        {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "s3": {"bucket": {"name": BUCKET}, "object": {"key": "no-tenant.csv", "eTag": "e2"}},
        },
    ]
}
#: The report of a stream's mapping that ended the delivery of records, in the form that AWS
#: documents.
GIVEN_UP: Final = {
    "requestContext": {
        "requestId": "r-1",
        "condition": "RetryAttemptsExhausted",
        "approximateInvokeCount": 11,
    },
    "responseContext": {
        "statusCode": 200,
        "executedVersion": "$LATEST",
        "functionError": "Unhandled",
    },
    "version": "1.0",
    "timestamp": "2027-01-15T08:00:00.000Z",
    "DDBStreamBatchInfo": {
        "shardId": "shardId-00000001573689847184-864758bb",
        "startSequenceNumber": "800000000003126276362",
        "endSequenceNumber": "800000000003126276369",
        "approximateArrivalOfFirstRecord": "2027-01-15T07:00:00Z",
        "approximateArrivalOfLastRecord": "2027-01-15T07:00:01Z",
        "batchSize": 8,
        "streamArn": "arn:aws:dynamodb:us-east-1:000000000000:table/JobsTable"
        "/stream/2027-01-15T00:00:00.000",
    },
}


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

    def send_message_batch(
        self,
        *,
        QueueUrl: str,  # noqa: N803
        Entries: list[dict[str, Any]],  # noqa: N803
    ) -> dict[str, Any]:
        """Keeps the messages."""
        self.entries += [{"queue": QueueUrl, **entry} for entry in Entries]
        return {}

    def change_message_visibility_batch(self, **_: Any) -> dict[str, Any]:
        """Changes nothing."""
        return {}


@dataclass
class Maker:
    """Drives the handlers of a release. Keeps their answers, and how to read what they stored."""

    stores: Stores
    cases: list[dict[str, Any]] = field(default_factory=list)
    answers: dict[str, Any] = field(default_factory=dict)
    messages: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found, clock = self.stores, self.stores.clock
        self.observe = observe = Quiet(
            log=Logger(service="release", level="CRITICAL"),
            metrics=Metrics(namespace="Mayfly", service="release"),
        )
        self.sent = Sent()
        self.body: Callable[[Job, Effects], Any] = lambda job, effects: None
        self._message_ids = Numbered("m", 8)
        self._named: set[str] = set()
        self._nonces = Numbered("0", 16)
        self._key_numbers = count(1)
        jobs_queue: Any = Queue(self.sent, "JobsQueue")
        webhooks_queue: Any = Queue(self.sent, "WebhooksQueue")
        self.outbox = outbox = Outbox(jobs_queue.send, {DELIVER.name: webhooks_queue.send})
        nonces = Numbered("f", 16)

        def worker(tasks: Mapping[str, Task], known: Mapping[str, Declaration]) -> WorkerDeps:
            return WorkerDeps(
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
        self.sweep = build_sweep_jobs(
            # A fake: no release before has a bucket of reports.
            SweepDeps(
                found.operations,
                found.schedules,
                observe,
                clock,
                NoReports,  # type: ignore[arg-type]  # a fake
            )
        )
        self.relay = build_relay_jobs(RelayDeps(outbox, observe, clock))
        self.identify_callers = build_identify_callers(IdentifyCallersDeps(found.tenants, observe))
        self._start_imports = build_start_imports(
            ImportsDeps(found.operations, TASKS, BUCKET, "", observe, clock)
        )
        quota = limits.quota(found.limits, 600)
        self._api = {
            "jobs": build_jobs(
                JobsDeps(
                    operations=found.operations,
                    tasks=TASKS,
                    observe=observe,
                    clock=clock,
                )
            ),
            "schedules": build_schedules(SchedulesDeps(found.schedules, observe, clock)),
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
        self, function: str, name: str, route: str, path: str | None = None, *,
        tenant: str = TENANT,
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

    def submit(
        self, name: str, *, key: str | None = None, tenant: str = TENANT, **body: Any
    ) -> str:
        """Submits a job by the API, and keeps how to read it."""
        headers = {} if key is None else {"Idempotency-Key": key}
        reply = self.call(
            "jobs", f"submit: {name}", "POST /jobs", body=body, headers=headers, tenant=tenant
        )
        return self.job(name, reply["body"]["id"], tenant)

    def unnamed_jobs(self, name: str) -> None:
        """Keeps how to read the jobs that other jobs or schedules have made since the last call."""
        items = [item for item in self.items("JobsTable") if item["sk"] == {"S": "job"}]
        made = [item for item in items if item["id"]["S"] not in self._named]
        made.sort(
            key=lambda each: (
                each["created_at"]["N"],
                each["payload"]["S"] if "payload" in each else "",
                each["id"]["S"],
            )
        )
        assert made, name
        for number, each in enumerate(made, 1):
            self.job(f"{name} {number}", each["id"]["S"], each["tenant"]["S"])

    def wake(
        self, job_id: str, *, receives: int = 1, tenant: str = TENANT, webhook: bool = False
    ) -> None:
        """Passes the message of a job to its worker."""
        self.deliver({"tenant": tenant, "id": job_id}, receives=receives, webhook=webhook)

    def deliver(
        self, body: Any, *, receives: int = 1, webhook: bool = False, context: Context | None = None
    ) -> str:
        """Passes a message to a worker, and returns the message's id."""
        event, message_id = self._event(body, receives)
        (self._deliver if webhook else self._run_jobs)(event, context or Context())
        return message_id

    def notice(self, body: str) -> None:
        """Passes a notice of S3 to the function that starts imports."""
        reply = self._start_imports(sqs(body), Context())
        assert not reply["batchItemFailures"]

    def items(self, table: str) -> list[dict[str, Any]]:
        """Returns every item of a table, by its key."""
        pages = self.stores.client.get_paginator("scan").paginate(
            TableName=self.stores.tables[table]
        )
        found = [item for page in pages for item in page["Items"]]
        return sorted(found, key=lambda item: (item["pk"]["S"], item.get("sk", {}).get("S", "")))

    # ------------------------------------------------------------ one operation of each feature

    def claim(self, job_id: str, new: Job | None = None) -> Job:
        """Claims a job as a worker does, and leaves it. The claim makes the job if it is `new`."""
        nonce = self._nonces()
        return self.stores.jobs.claim(
            TENANT, job_id, nonce=nonce, now_ms=self.stores.clock(), lease_ms=LEASE_MS, new=new
        )

    def define(self, name: str, *, tenant: str = TENANT, **definition: Any) -> None:
        """Defines a schedule by the API."""
        body = {"task": "note", **definition}
        path = f"/schedules/{name}"
        self.call(
            "schedules", f"define: {name}", "PUT /schedules/{name}", path, body=body, tenant=tenant
        )
        self.case("schedule", name, tenant=tenant, name=name)

    def change_schedule(self, name: str, verb: str) -> None:
        """Pauses or resumes a schedule by the API."""
        self.call(
            "schedules",
            f"{verb}: {name}",
            f"POST /schedules/{{name}}/{verb}",
            f"/schedules/{name}/{verb}",
        )

    def count(self, answer: str, name: str, *, key: str | None = None, **body: Any) -> None:
        """Increments a counter by the API."""
        headers = {} if key is None else {"Idempotency-Key": key}
        path = f"/counters/{name}/increment"
        self.call(
            "counters", answer, "POST /counters/{name}/increment", path, body=body, headers=headers
        )

    def take(self, name: str, limit: Limit, key: str, cost: int, *, again: bool = False) -> None:
        """Takes from a limit by the API, and keeps how to take from it once more."""
        facts = _limit_facts(limit)
        body = {
            "key": key,
            "cost": cost,
            **{name: facts[name] for name in facts if name != "name" and facts[name] is not None},
        }
        answer = f"take: {name}, again" if again else f"take: {name}"
        self.call(
            "counters", answer, "POST /limits/{name}/take", f"/limits/{limit.name}/take", body=body
        )
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
        event = {"headers": {"authorization": f"Bearer {credential}"}}
        reply = self.identify_callers(event, Context())
        self.answers[f"authorize: {name}"] = {
            "request": {"route": "authorizer"},
            "status": 200,
            "headers": [],
            "body": reply,
        }

    def session(self, name: str, *, tenant: str = TENANT, **body: Any) -> str:
        """Makes a session by the API; returns its token."""
        reply = self.call("sessions", f"create: {name}", "POST /sessions", body=body, tenant=tenant)
        token: str = reply["body"]["token"]
        self.case("session", name, tenant=tenant, token=token)
        return token

    def rotate(self, name: str, token: str, **body: Any) -> None:
        """Rotates a session by the API."""
        headers = {"Session-Token": token}
        reply = self.call(
            "sessions",
            f"rotate: {name}",
            "POST /sessions/current/rotate",
            body=body,
            headers=headers,
        )
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
        return {
            "Records": [{**record, "messageId": message_id, "attributes": attributes}]
        }, message_id

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
    _make_search(maker)
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
    jobs.cancel(found.operations, cancelled, tenant=TENANT)
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
    store = m.stores.schedules.store
    m.define(
        "nightly", cron="30 2 * * *", timezone="Europe/Berlin", payload={"n": 1}, max_attempts=4
    )
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
        "schedules", "define again: changed", "PUT /schedules/{name}", "/schedules/changed",
        body={"task": "call", "cron": "0 12 1 * *"},
    )  # fmt: skip
    m.define("held", every_seconds=3600)
    seen = store.read(TENANT, "held")
    store.set(seen, replace(seen, next_ms=None))  # a change that a crash interrupted
    m.define("deleted", every_seconds=3600)
    m.call("schedules", "delete a schedule", "DELETE /schedules/{name}", "/schedules/deleted")
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
    m.call(
        "jobs",
        "submit another job under a key",
        "POST /jobs",
        body={"task": "call"},
        headers=headers,
    )
    m.submit("scheduled within the delay of a queue", task="note", delay_seconds=600)
    m.submit("scheduled, in the due index until a sweep", task="note", delay_seconds=1000)
    m.submit("scheduled for a time", task="call", run_at="2027-02-01T12:00:00+01:00", key="later")
    later = {"task": "call", "run_at": "2027-02-01T12:00:00+01:00"}
    m.case("submission again", "scheduled for a time", tenant=TENANT, body=later, key="later")
    m.submit(
        "scheduled with a large payload",
        task="note",
        payload="x" * 1100,
        delay_seconds=DAY_MS / 1000,
    )


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
    m.deliver({"task": "note", "payload": {"n": 4.0}})
    m.unnamed_jobs("completed, from a message with a whole float")
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
    long = m.submit("retry after more attempts than a history holds", task="call")
    for _ in range(40):
        m.stores.jobs.continue_later(m.claim(long), now_ms=clock())
    unstarted = m.submit("handed back before it was started", task="call")
    m.stores.jobs.release(m.claim(unstarted), now_ms=clock())


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
    m.call(
        "jobs",
        "redrive a job that is not dead",
        "POST /jobs/{id}/redrive",
        f"/jobs/{queued}/redrive",
    )

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
    for job in (retry, abandoned, waiting, timed):
        operations.resend(TENANT, job, now_ms=clock())


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
    upload(found.s3, TENANT, "orders/2027.csv", csv)
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


def _make_unreadable(m: Maker) -> None:
    """Makes messages that could not be parsed, as they are stored."""
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
        m.call(
            "counters",
            f"create: {name}",
            "PUT /counters/{name}",
            f"/counters/{name}",
            body={"shards": shards},
        )
    m.count("increment a shard", "sharded", by=11)
    m.count("increment a shard once", "sharded", key="order-1", by=4)
    m.count("increment before the end", "deleted", by=1)
    m.call("counters", "delete a counter", "DELETE /counters/{name}", "/counters/deleted")
    names = [
        "plain", "negative", "huge", "approximate", "bounded", "lasting", "started-again", "keyed",
        "sharded", "sharded-and-empty", "deleted", "never-made",
    ]  # fmt: skip
    names = [name.replace(" ", "-") for name in names]
    for name in names:
        m.case("counter", name, tenant=TENANT, name=name)
    m.case("counters together", "all", tenant=TENANT, names=names)
    for name, by in (("keyed", 7), ("sharded", 4)):
        m.case("increment again", name, tenant=TENANT, name=name, key="order-1", step={"by": by})
    m.case(
        "increment again",
        "another step",
        tenant=TENANT,
        name="keyed",
        key="order-1",
        step={"by": 8},
    )
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
           body={"key": "full", "algorithm": "fixed", "limit": 5,
           "period_seconds": 3600})  # fmt: skip
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
    m.session(
        "that nearly nothing ends",
        subject="ada@example.org",
        idle_seconds=34_560_000,
        absolute_seconds=34_560_000,
    )
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
    listed = m.call(
        "sessions",
        "list before the end",
        "GET /subjects/{subject}/sessions",
        "/subjects/kim/sessions",
    )
    one = listed["body"]["items"][0]["id"]
    m.call(
        "sessions",
        "end one",
        "DELETE /subjects/{subject}/sessions/{id}",
        f"/subjects/kim/sessions/{one}",
    )
    _make_flask_session(m)
    for subject in ("ada@example.org", "bob", "cyd", "eve", "kim"):
        m.case("sessions of a subject", subject, tenant=TENANT, subject=subject)
        m.call(
            "sessions",
            f"list: {subject}",
            "GET /subjects/{subject}/sessions",
            f"/subjects/{subject}/sessions",
        )


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
    job = new_job(
        TENANT, job_id_for(TENANT, "produced-2", otherwise=""), asked, TASKS["call"], now_ms=clock()
    )
    m.job("running, from a message", m.claim(job.id, new=job).id)
    m.take("sliding, of two windows", TWO_WINDOWS, "k", 5, again=True)


def _make_messages(m: Maker) -> None:
    """Makes the messages of each queue: what the relay sends, and what others send to Mayfly."""
    items = {item["id"]["S"]: item for item in m.items("JobsTable") if item["sk"] == {"S": "job"}}
    for case in [case for case in m.cases if case["kind"] == "job"]:
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


def _make_search(m: Maker) -> None:
    """Makes the search for stranded jobs: one window is searched, a second one in part."""
    pauses: list[float] = []
    search = StrandedSearch(
        operations=m.stores.operations,
        outbox=m.outbox,
        observe=m.observe,
        clock=m.stores.clock,
        pause=pauses.append,
        new_nonce=Numbered("e", 16),
        page_items=4,
    )
    # No job is as old as these windows, so none is sent again.
    search.work(search.read(), Window(1_000, 2_000), is_over=lambda: False)
    left = iter([False] * 6)
    search.work(search.read(), Window(3_000, 4_000), is_over=lambda: next(left, True))
    m.case("search", "the second of two windows")


def _list_everything(m: Maker) -> None:
    """Reads every job by the API, and lists what can be listed."""
    now_ms = m.stores.clock()
    known = [case for case in m.cases if case["kind"] == "job"]
    for each in known:
        m.call(
            "await_job", f"read: {each['name']}", "GET /jobs/{id}", f"/jobs/{each['of']['job_id']}",
            tenant=each["of"]["tenant"],
        )  # fmt: skip
    ids = [[case["of"]["tenant"], case["of"]["job_id"]] for case in known]
    m.case("jobs together", "all", ids=ids)
    for status in ("dead", "scheduled"):
        m.case("jobs by status", status, tenant=TENANT, status=status.upper())
        m.call("jobs", f"list: {status}", "GET /jobs", query={"status": status})
    m.case("stranded jobs", "all")
    m.case("due jobs", "all", before_ms=now_ms + 400 * DAY_MS)
    m.case("due schedules", "all", before_ms=now_ms + 400 * DAY_MS)
    m.case("schedules of a tenant", TENANT, tenant=TENANT)
    m.call("schedules", "list schedules", "GET /schedules")
    m.call("schedules", "read a schedule", "GET /schedules/{name}", "/schedules/nightly")
    m.call("counters", "read a counter", "GET /counters/{name}", "/counters/sharded")


def _make_parameters(m: Maker) -> dict[str, str]:
    """Makes the secrets of webhooks, in the form in which `mayfly webhooks secret` stores them."""
    one, two, three = (
        f"whsec_{base64.b64encode(bytes([number]) * 32).decode()}" for number in (1, 2, 3)
    )
    m.case("secret", "default", tenant=TENANT, name="default")
    m.case("secret", "rotated", tenant=OTHER_TENANT, name="a:b@c")
    m.case("secret", "absent", tenant=TENANT, name="absent")
    return {
        f"{SECRETS_PREFIX}/{parameter(TENANT, 'default')}": one,
        f"{SECRETS_PREFIX}/{parameter(OTHER_TENANT, 'a:b@c')}": f"{two} {three}",
    }
