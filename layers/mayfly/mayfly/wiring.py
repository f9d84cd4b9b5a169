"""Makes what each function needs from its environment: the only module that makes AWS clients.

One function here per deployed function, called once, at import of its main.py; what a function does not use, its wiring
does not import.
"""

import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from mayfly.clock import Clock, system_clock
from mayfly.config import read_settings
from mayfly.ids import new_id, new_nonce, new_secret
from mayfly.observe import Observer, observer

if TYPE_CHECKING:
    from mayfly.counters import CounterStore
    from mayfly.dynamodb import DynamoDB
    from mayfly.jobs import JobOperations, JobStore
    from mayfly.jobs.dead_letters import DeadLetters
    from mayfly.jobs.tasks import Declaration
    from mayfly.jobs.worker import Worker
    from mayfly.limits import LimitStore
    from mayfly.sessions import SessionStore
    from mayfly.sqs import Queue
    from mayfly.stopping import Stopping
    from mayfly.tenants import TenantStore

__all__ = [
    "AuthorizerDeps",
    "AwaitDeps",
    "BuryDeps",
    "CountersDeps",
    "HelloDeps",
    "JobsDeps",
    "RelayDeps",
    "RunDeps",
    "SessionsDeps",
    "SweepDeps",
    "authorizer",
    "await_job",
    "bury_jobs",
    "counter_store",
    "counters",
    "hello",
    "jobs",
    "limit_store",
    "relay_jobs",
    "run_jobs",
    "session_store",
    "sessions",
    "sweep_jobs",
]

#: Seconds. A dead socket must not eat a whole invocation, as botocore's 60 s would; transactions are advised 1 s or more.
_CONNECT_TIMEOUT: Final = 1
_READ_TIMEOUT: Final = 3


@dataclass(frozen=True)
class HelloDeps:
    """What `hello` needs. `tenant` owns the page's counter, its limit and its visitors' sessions; stores are made when first asked for.

    `page_limit` is how often a client address gets the page in a minute, 0 for no limit.
    """

    counters: "CounterStore"
    sessions: Callable[[], "SessionStore"]
    limits: Callable[[], "LimitStore"]
    page_limit: int
    tenant: str
    observe: Observer


@dataclass(frozen=True)
class JobsDeps:
    """What `jobs` needs."""

    store: "JobStore"
    operations: "JobOperations"
    tasks: Mapping[str, "Declaration"]
    observe: Observer
    clock: Clock
    new_id: Callable[[], str]


@dataclass(frozen=True)
class AwaitDeps:
    """What `await_job` needs."""

    store: "JobStore"
    observe: Observer
    clock: Clock
    stopping: "Stopping"


@dataclass(frozen=True)
class SweepDeps:
    """What `sweep_jobs` needs."""

    operations: "JobOperations"
    observe: Observer
    clock: Clock


@dataclass(frozen=True)
class RunDeps:
    """What `run_jobs` needs."""

    worker: "Worker"
    queue: "Queue"
    observe: Observer


@dataclass(frozen=True)
class BuryDeps:
    """What `bury_jobs` needs."""

    dead_letters: "DeadLetters"
    relay_failures_arn: str
    observe: Observer


@dataclass(frozen=True)
class RelayDeps:
    """What `relay_jobs` needs."""

    queue: "Queue"
    observe: Observer
    clock: Clock


@dataclass(frozen=True)
class CountersDeps:
    """What `counters` needs."""

    counters: "CounterStore"
    limits: "LimitStore"
    observe: Observer


@dataclass(frozen=True)
class SessionsDeps:
    """What `sessions` needs."""

    store: "SessionStore"
    observe: Observer


@dataclass(frozen=True)
class AuthorizerDeps:
    """What `authorizer` needs."""

    tenants: "TenantStore"
    observe: Observer


def hello(env: Mapping[str, str]) -> HelloDeps:
    """The dependencies of functions/hello. Raises ConfigError."""
    settings = read_settings(_Hello, env)
    db = cache(_dynamodb)
    return HelloDeps(
        counters=_counter_store(settings.counters_table, db),
        sessions=cache(lambda: session_store(env, db())),
        limits=cache(lambda: _limit_store(settings.counters_table, db())),
        page_limit=settings.page_limit,
        tenant=settings.default_tenant,
        observe=observer("hello"),
    )


def counters(env: Mapping[str, str]) -> CountersDeps:
    """The dependencies of functions/counters. Raises ConfigError."""
    table = read_settings(_Counters, env).counters_table
    db = _dynamodb()
    return CountersDeps(counters=_counter_store(table, lambda: db), limits=_limit_store(table, db), observe=observer("counters"))


def counter_store(env: Mapping[str, str], db: "DynamoDB | None" = None) -> "CounterStore":
    """Counters for handlers of your own, by COUNTERS_TABLE. Raises ConfigError."""
    table = read_settings(_Counters, env).counters_table
    found = db or _dynamodb()
    return _counter_store(table, lambda: found)


def limit_store(env: Mapping[str, str], *, clock: Clock = system_clock) -> "LimitStore":
    """Limits for handlers of your own, by COUNTERS_TABLE. Raises ConfigError."""
    return _limit_store(read_settings(_Counters, env).counters_table, _dynamodb(), clock)


def sessions(env: Mapping[str, str]) -> SessionsDeps:
    """The dependencies of functions/sessions. Raises ConfigError."""
    return SessionsDeps(store=session_store(env), observe=observer("sessions"))


def session_store(env: Mapping[str, str], db: "DynamoDB | None" = None) -> "SessionStore":
    """Sessions for handlers and framework adapters of your own, by SESSIONS_TABLE and SUBJECT_KEY. Raises ConfigError."""
    from mayfly.sessions import SessionStore
    from mayfly.sessions.rules import BASE62, SECRET_CHARACTERS

    settings = read_settings(_Sessions, env)
    return SessionStore(
        db or _dynamodb(),
        settings.sessions_table,
        subject_key=settings.subject_key,
        clock=system_clock,
        new_id=new_id,
        new_secret=lambda: new_secret(BASE62, SECRET_CHARACTERS),
        new_nonce=new_nonce,
    )


def jobs(env: Mapping[str, str]) -> JobsDeps:
    """The dependencies of functions/jobs. Raises ConfigError."""
    from mayfly.jobs.tasks import declared

    settings = read_settings(_Jobs, env)
    store, operations = _job_stores(settings.jobs_table)
    return JobsDeps(
        store=store,
        operations=operations,
        tasks=declared(_tasks_folder(settings.lambda_task_root), local=settings.aws_sam_local),
        observe=observer("jobs"),
        clock=system_clock,
        new_id=new_id,
    )


def await_job(env: Mapping[str, str]) -> AwaitDeps:
    """The dependencies of functions/await_job. Raises ConfigError."""
    from mayfly.stopping import Stopping

    store, _ = _job_stores(read_settings(_JobReader, env).jobs_table)
    return AwaitDeps(store=store, observe=observer("await_job"), clock=system_clock, stopping=Stopping().listen())


def sweep_jobs(env: Mapping[str, str]) -> SweepDeps:
    """The dependencies of functions/sweep_jobs. Raises ConfigError."""
    _, operations = _job_stores(read_settings(_JobReader, env).jobs_table)
    return SweepDeps(operations=operations, observe=observer("sweep_jobs"), clock=system_clock)


def run_jobs(env: Mapping[str, str], tasks: ModuleType) -> RunDeps:
    """The dependencies of functions/run_jobs, with the package that holds its tasks. Raises ConfigError."""
    from boto3.dynamodb.types import TypeSerializer

    from mayfly.jobs.tasks import imported
    from mayfly.jobs.worker import Worker
    from mayfly.sqs import Queue

    settings = read_settings(_RunJobs, env)
    observe = observer("run_jobs")
    store, operations = _job_stores(settings.jobs_table)
    worker = Worker(
        store=store,
        keep_unreadable=operations.keep_unreadable,
        tasks=imported(tasks, local=settings.aws_sam_local),
        counters_table=settings.counters_table,
        producer_tenant=settings.default_tenant,
        observe=observe,
        clock=system_clock,
        new_nonce=new_nonce,
        jitter=random.random,
        serialize=TypeSerializer().serialize,
        lease_ms=settings.lease_seconds * 1000,
    )
    return RunDeps(worker=worker, queue=Queue(_client("sqs"), settings.jobs_queue_url), observe=observe)


def relay_jobs(env: Mapping[str, str]) -> RelayDeps:
    """The dependencies of functions/relay_jobs. Raises ConfigError."""
    from mayfly.sqs import Queue

    queue = Queue(_client("sqs"), read_settings(_Relay, env).jobs_queue_url)
    return RelayDeps(queue=queue, observe=observer("relay_jobs"), clock=system_clock)


def bury_jobs(env: Mapping[str, str]) -> BuryDeps:
    """The dependencies of functions/bury_jobs. Raises ConfigError."""
    from mayfly.jobs.dead_letters import DeadLetters
    from mayfly.jobs.tasks import declared
    from mayfly.sqs import Queue
    from mayfly.streams import Streams

    settings = read_settings(_Bury, env)
    observe = observer("bury_jobs")
    store, operations = _job_stores(settings.jobs_table)
    dead_letters = DeadLetters(
        store=store,
        operations=operations,
        send=Queue(_client("sqs"), settings.jobs_queue_url).send,
        images=Streams(_client("dynamodbstreams")).images,
        tasks=declared(_tasks_folder(settings.lambda_task_root), local=settings.aws_sam_local),
        producer_tenant=settings.default_tenant,
        observe=observe,
        clock=system_clock,
    )
    return BuryDeps(dead_letters=dead_letters, relay_failures_arn=settings.relay_failures_arn, observe=observe)


def authorizer(env: Mapping[str, str]) -> AuthorizerDeps:
    """The dependencies of functions/authorizer. Raises ConfigError."""
    from mayfly.tenants import TenantStore

    settings = read_settings(_Authorizer, env)
    return AuthorizerDeps(tenants=TenantStore(_client("dynamodb"), settings.tenants_table), observe=observer("authorizer"))


@dataclass(frozen=True)
class _Sessions:
    sessions_table: str
    #: Hides subjects in tokens; the stack's parameter SubjectKey.
    subject_key: str


@dataclass(frozen=True)
class _Counters:
    counters_table: str


@dataclass(frozen=True)
class _Hello(_Sessions):
    counters_table: str
    default_tenant: str
    page_limit: int


@dataclass(frozen=True)
class _Jobs:
    jobs_table: str
    lambda_task_root: str
    aws_sam_local: bool = False


@dataclass(frozen=True)
class _Bury:
    jobs_table: str
    jobs_queue_url: str
    relay_failures_arn: str
    default_tenant: str
    lambda_task_root: str
    aws_sam_local: bool = False


@dataclass(frozen=True)
class _JobReader:
    jobs_table: str


@dataclass(frozen=True)
class _RunJobs:
    jobs_table: str
    counters_table: str
    jobs_queue_url: str
    default_tenant: str
    #: How long a claim holds without being renewed: the longest that a crash delays a job, less 2 s.
    lease_seconds: int = 15
    aws_sam_local: bool = False


@dataclass(frozen=True)
class _Relay:
    jobs_queue_url: str


@dataclass(frozen=True)
class _Authorizer:
    tenants_table: str


def _tasks_folder(task_root: str) -> Path:
    return Path(task_root, "run_jobs", "tasks")


def _job_stores(table: str) -> "tuple[JobStore, JobOperations]":
    from mayfly.jobs.operations import JobOperations
    from mayfly.jobs.store import JobStore

    db = _dynamodb()
    return JobStore(db, table), JobOperations(db, table)


def _counter_store(table: str, db: "Callable[[], DynamoDB]") -> "CounterStore":
    from mayfly.counters import CounterStore

    return CounterStore(
        # SDK retries off: what an SDK repeats after a lost answer, a counter counts twice.
        _dynamodb(attempts=1),
        db,
        table,
        clock=system_clock,
        new_nonce=new_nonce,
        pick=random.randrange,
    )


def _limit_store(table: str, db: "DynamoDB", clock: Clock = system_clock) -> "LimitStore":
    from mayfly.limits import LimitStore

    return LimitStore(db, table, clock=clock)


def _dynamodb(*, attempts: int = 3) -> "DynamoDB":
    from mayfly.dynamodb import DynamoDB

    return DynamoDB(_client("dynamodb", attempts=attempts), pause=lambda attempt: time.sleep(random.uniform(0, 0.02 * 2**attempt)))


def _client(service: str, *, attempts: int = 3) -> Any:
    """A client for one AWS service. Region, credentials and endpoint by the variables that every SDK reads."""
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=_CONNECT_TIMEOUT,
        read_timeout=_READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": attempts},
        # Requests are built here, from typed code; checking each against the service model costs CPU on every call.
        parameter_validation=False,
        tcp_keepalive=True,
    )
    return boto3.client(service, region_name=os.environ.get("AWS_REGION"), config=config)  # type: ignore[call-overload]  # by name
