"""Makes what each function needs from its environment: the only module that makes AWS clients.

One function here per deployed function, called once, at import of its main.py; what a function does not use, its wiring
does not import.
"""

import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from mayfly.core.clock import Clock, system_clock
from mayfly.core.errors import ConfigError, InvalidRequest
from mayfly.core.ids import new_id, new_nonce, new_secret
from mayfly.core.observability import Observer, observer
from mayfly.core.settings import read_settings

if TYPE_CHECKING:
    from mayfly.aws.dynamodb import DynamoDB
    from mayfly.aws.queue import Queue
    from mayfly.core.shutdown import Stopping
    from mayfly.counters import CounterStore
    from mayfly.imports import Objects
    from mayfly.jobs import JobOperations, JobStore
    from mayfly.jobs.authoring.task import Declaration, Task
    from mayfly.jobs.routing.dead_letters import DeadLetters
    from mayfly.jobs.routing.outbox import Outbox
    from mayfly.jobs.worker.runner import Worker
    from mayfly.limits import LimitStore
    from mayfly.schedules import Keeper
    from mayfly.sessions import SessionStore
    from mayfly.tenants import TenantStore
    from mayfly.web.http import Quota

__all__ = [
    "AuthorizerDeps",
    "AwaitDeps",
    "BuryDeps",
    "CountersDeps",
    "HelloDeps",
    "ImportsDeps",
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
    "deliver_webhooks",
    "hello",
    "import_objects",
    "jobs",
    "limit_store",
    "relay_jobs",
    "run_jobs",
    "session_store",
    "sessions",
    "start_imports",
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
    schedules: "Keeper"
    observe: Observer
    clock: Clock
    new_id: Callable[[], str]
    quota: "Quota | None" = None


@dataclass(frozen=True)
class ImportsDeps:
    """What `start_imports` needs. `bucket` is the one whose uploads count."""

    store: "JobStore"
    operations: "JobOperations"
    tasks: Mapping[str, "Declaration"]
    bucket: str
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
    quota: "Quota | None" = None


@dataclass(frozen=True)
class SweepDeps:
    """What `sweep_jobs` needs."""

    operations: "JobOperations"
    schedules: "Keeper"
    observe: Observer
    clock: Clock


@dataclass(frozen=True)
class RunDeps:
    """What `run_jobs` needs, and `deliver_webhooks`."""

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

    outbox: "Outbox"
    observe: Observer
    clock: Clock


@dataclass(frozen=True)
class CountersDeps:
    """What `counters` needs."""

    counters: "CounterStore"
    limits: "LimitStore"
    observe: Observer
    quota: "Quota | None" = None


@dataclass(frozen=True)
class SessionsDeps:
    """What `sessions` needs."""

    store: "SessionStore"
    observe: Observer
    quota: "Quota | None" = None


@dataclass(frozen=True)
class AuthorizerDeps:
    """What `authorizer` needs."""

    tenants: "TenantStore"
    observe: Observer
    clock: Clock


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
    settings, db = read_settings(_Door, env), _dynamodb()
    limits = _limit_store(settings.counters_table, db)
    return CountersDeps(
        counters=_counter_store(settings.counters_table, lambda: db),
        limits=limits,
        observe=observer("counters"),
        quota=_quota(settings, db),
    )


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
    settings, db = read_settings(_HttpSessions, env), _dynamodb()
    return SessionsDeps(store=session_store(env, db), observe=observer("sessions"), quota=_quota(settings, db))


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
    settings, db = read_settings(_HttpJobs, env), _dynamodb()
    store, operations = _job_stores(settings.jobs_table, db)
    tasks = _declared(settings.lambda_task_root, local=settings.aws_sam_local)
    return JobsDeps(
        store=store,
        operations=operations,
        tasks=tasks,
        schedules=_keeper(db, settings.jobs_table, operations, tasks),
        observe=observer("jobs"),
        clock=system_clock,
        new_id=new_id,
        quota=_quota(settings, db),
    )


def await_job(env: Mapping[str, str]) -> AwaitDeps:
    """The dependencies of functions/await_job. Raises ConfigError."""
    from mayfly.core.shutdown import Stopping

    settings, db = read_settings(_AwaitJob, env), _dynamodb()
    store, _ = _job_stores(settings.jobs_table, db)
    return AwaitDeps(
        store=store, observe=observer("await_job"), clock=system_clock, stopping=Stopping().listen(), quota=_quota(settings, db)
    )


def sweep_jobs(env: Mapping[str, str]) -> SweepDeps:
    """The dependencies of functions/sweep_jobs. Raises ConfigError."""
    settings, db = read_settings(_Jobs, env), _dynamodb()
    _, operations = _job_stores(settings.jobs_table, db)
    tasks = _declared(settings.lambda_task_root, local=settings.aws_sam_local)
    keeper = _keeper(db, settings.jobs_table, operations, tasks)
    return SweepDeps(operations=operations, schedules=keeper, observe=observer("sweep_jobs"), clock=system_clock)


def start_imports(env: Mapping[str, str]) -> ImportsDeps:
    """The dependencies of functions/start_imports. Raises ConfigError."""
    settings = read_settings(_StartImports, env)
    store, operations = _job_stores(settings.jobs_table)
    return ImportsDeps(
        store=store,
        operations=operations,
        tasks=_declared(settings.lambda_task_root, local=settings.aws_sam_local),
        bucket=settings.imports_bucket,
        observe=observer("start_imports"),
        clock=system_clock,
        new_id=new_id,
    )


def import_objects(env: Mapping[str, str]) -> "Objects":
    """The imports bucket, for the task that reads it. Raises ConfigError."""
    from mayfly.imports import Objects

    return Objects(_client("s3"), read_settings(_Imports, env).imports_bucket)


def run_jobs(env: Mapping[str, str], tasks: ModuleType) -> RunDeps:
    """The dependencies of functions/run_jobs, with the package that holds its tasks. Raises ConfigError."""
    from mayfly.aws.queue import Queue
    from mayfly.jobs.authoring.built_in import BUILT_IN
    from mayfly.jobs.authoring.task import imported

    settings = read_settings(_RunJobs, env)
    observe = observer("run_jobs")
    worker = _worker(settings, settings.counters_table, imported(tasks, local=settings.aws_sam_local), BUILT_IN, observe)
    return RunDeps(worker=worker, queue=Queue(_client("sqs"), settings.jobs_queue_url), observe=observe)


def deliver_webhooks(env: Mapping[str, str]) -> RunDeps:
    """The dependencies of functions/deliver_webhooks. Raises ConfigError."""
    from aws_lambda_powertools.utilities.parameters import SSMProvider

    from mayfly.aws.queue import Queue
    from mayfly.jobs.authoring.built_in import DELIVER
    from mayfly.jobs.authoring.task import Task
    from mayfly.webhooks import Courier, deliver
    from mayfly.webhooks.model import LOCAL, PUBLIC
    from mayfly.webhooks.rules import read_pauses
    from mayfly.webhooks.store import Endpoints, Secrets
    from mayfly.webhooks.wire import resolve

    settings = read_settings(_DeliverWebhooks, env)
    observe = observer("deliver_webhooks")
    try:
        pauses = read_pauses(settings.webhook_pauses)
    except InvalidRequest as problem:
        raise ConfigError([f"WEBHOOK_{problem}"]) from None
    courier = Courier(
        secrets=Secrets(SSMProvider(boto3_client=_client("ssm")), settings.secrets_prefix),
        endpoints=Endpoints(_dynamodb(), settings.endpoints_table, system_clock),
        policy=LOCAL if settings.aws_sam_local else PUBLIC,
        pauses=pauses,
        resolve=resolve,
        clock=system_clock,
    )
    task = Task(DELIVER, lambda job, effects: deliver(job, effects, courier))
    worker = _worker(settings, "", {DELIVER.name: task}, {}, observe)
    return RunDeps(worker=worker, queue=Queue(_client("sqs"), settings.webhooks_queue_url), observe=observe)


def relay_jobs(env: Mapping[str, str]) -> RelayDeps:
    """The dependencies of functions/relay_jobs. Raises ConfigError."""
    settings = read_settings(_Relay, env)
    return RelayDeps(outbox=_outbox(settings), observe=observer("relay_jobs"), clock=system_clock)


def bury_jobs(env: Mapping[str, str]) -> BuryDeps:
    """The dependencies of functions/bury_jobs. Raises ConfigError."""
    from mayfly.aws.streams import Streams
    from mayfly.jobs.routing.dead_letters import DeadLetters
    from mayfly.jobs.routing.stranded import StrandedSearch

    settings, db = read_settings(_Bury, env), _dynamodb()
    observe, outbox = observer("bury_jobs"), _outbox(settings)
    store, operations = _job_stores(settings.jobs_table, db)
    search = StrandedSearch(
        db=db,
        table=settings.jobs_table,
        operations=operations,
        outbox=outbox,
        observe=observe,
        clock=system_clock,
        pause=time.sleep,
        new_nonce=new_nonce,
    )
    dead_letters = DeadLetters(
        store=store,
        operations=operations,
        outbox=outbox,
        images=Streams(_client("dynamodbstreams")).images,
        search=search,
        tasks=_declared(settings.lambda_task_root, local=settings.aws_sam_local),
        producer_tenant=settings.default_tenant,
        observe=observe,
        clock=system_clock,
    )
    return BuryDeps(dead_letters=dead_letters, relay_failures_arn=settings.relay_failures_arn, observe=observe)


def authorizer(env: Mapping[str, str]) -> AuthorizerDeps:
    """The dependencies of functions/authorizer. Raises ConfigError."""
    from mayfly.tenants import TenantStore

    settings = read_settings(_Authorizer, env)
    return AuthorizerDeps(tenants=TenantStore(_dynamodb(), settings.tenants_table), observe=observer("authorizer"), clock=system_clock)


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
class _Door:
    counters_table: str
    #: How many requests a tenant may make in a minute over the whole API, 0 for no limit; the stack's parameter TenantLimit.
    tenant_limit: int


@dataclass(frozen=True)
class _HttpJobs(_Jobs, _Door): ...


@dataclass(frozen=True)
class _HttpSessions(_Sessions, _Door): ...


@dataclass(frozen=True)
class _Imports:
    imports_bucket: str


@dataclass(frozen=True)
class _StartImports(_Jobs):
    imports_bucket: str = field(kw_only=True)


@dataclass(frozen=True)
class _Relay:
    jobs_queue_url: str
    webhooks_queue_url: str


@dataclass(frozen=True)
class _Bury(_Relay):
    jobs_table: str
    relay_failures_arn: str
    default_tenant: str
    lambda_task_root: str
    aws_sam_local: bool = False


@dataclass(frozen=True)
class _AwaitJob(_Door):
    jobs_table: str


@dataclass(frozen=True)
class _Worker:
    jobs_table: str
    default_tenant: str
    #: How long a claim holds without being renewed: the longest that a crash delays a job, less 2 s.
    lease_seconds: int = 15
    aws_sam_local: bool = False


@dataclass(frozen=True)
class _RunJobs(_Worker):
    counters_table: str = field(kw_only=True)
    jobs_queue_url: str = field(kw_only=True)
    #: Read by the task that imports, when it first runs.
    imports_bucket: str = field(kw_only=True)


@dataclass(frozen=True)
class _DeliverWebhooks(_Worker):
    webhooks_queue_url: str = field(kw_only=True)
    endpoints_table: str = field(kw_only=True)
    #: Where in Parameter Store the signing secrets are.
    secrets_prefix: str = field(kw_only=True)
    webhook_pauses: str = field(kw_only=True)


@dataclass(frozen=True)
class _Authorizer:
    tenants_table: str


def _declared(task_root: str, *, local: bool) -> "Mapping[str, Declaration]":
    """All tasks that there are: those of run_jobs, by their files, and those with a function of their own."""
    from mayfly.jobs.authoring.built_in import BUILT_IN
    from mayfly.jobs.authoring.task import declared

    return {**declared(Path(task_root, "run_jobs", "tasks"), local=local), **BUILT_IN}


def _outbox(settings: _Relay) -> "Outbox":
    from mayfly.aws.queue import Queue
    from mayfly.jobs.authoring.built_in import DELIVER
    from mayfly.jobs.routing.outbox import Outbox

    client = _client("sqs")
    return Outbox(Queue(client, settings.jobs_queue_url).send, {DELIVER.name: Queue(client, settings.webhooks_queue_url).send})


def _keeper(db: "DynamoDB", table: str, operations: "JobOperations", tasks: "Mapping[str, Declaration]") -> "Keeper":
    from mayfly.schedules import Keeper, ScheduleStore

    return Keeper(ScheduleStore(db, table), operations, tasks, system_clock, new_id)


def _worker(
    settings: _Worker, counters_table: str, tasks: "Mapping[str, Task]", known: "Mapping[str, Declaration]", observe: Observer
) -> "Worker":
    from boto3.dynamodb.types import TypeSerializer

    from mayfly.jobs.worker.runner import Worker

    store, operations = _job_stores(settings.jobs_table)
    return Worker(
        store=store,
        keep_unreadable=operations.keep_unreadable,
        tasks=tasks,
        known=known,
        counters_table=counters_table,
        producer_tenant=settings.default_tenant,
        observe=observe,
        clock=system_clock,
        new_nonce=new_nonce,
        jitter=random.random,
        serialize=TypeSerializer().serialize,
        lease_ms=settings.lease_seconds * 1000,
    )


def _job_stores(table: str, db: "DynamoDB | None" = None) -> "tuple[JobStore, JobOperations]":
    from mayfly.jobs.operations import JobOperations
    from mayfly.jobs.store import JobStore

    db = db or _dynamodb()
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


def _quota(settings: _Door, db: "DynamoDB") -> "Quota | None":
    if not settings.tenant_limit:
        return None
    from mayfly.limits import quota

    return quota(_limit_store(settings.counters_table, db), settings.tenant_limit)


def _limit_store(table: str, db: "DynamoDB", clock: Clock = system_clock) -> "LimitStore":
    from mayfly.limits import LimitStore

    return LimitStore(db, table, clock=clock)


def _dynamodb(*, attempts: int = 3) -> "DynamoDB":
    from mayfly.aws.dynamodb import DynamoDB

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
