"""Clients and stores, for the functions of this stack and for handlers of your own.

This is the only module that makes AWS clients. It imports a client or store only when a handler
asks for it, for a fast start.
"""

import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, TypeVar

from mayfly.core.clock import Clock, system_clock
from mayfly.core.errors import ConfigError
from mayfly.core.ids import BASE62, SECRET_CHARACTERS, new_id, new_nonce, new_secret
from mayfly.core.observability import Observer
from mayfly.core.settings import read_settings

if TYPE_CHECKING:
    from mayfly.aws.dynamodb import DynamoDB
    from mayfly.aws.parameters import Parameters
    from mayfly.aws.queue import Queue
    from mayfly.aws.streams import Streams
    from mayfly.counters import CounterStore
    from mayfly.imports import Objects
    from mayfly.jobs import JobOperations, JobStore
    from mayfly.jobs.authoring.task import Declaration, Task
    from mayfly.jobs.routing.outbox import Outbox
    from mayfly.jobs.routing.reports import Reports
    from mayfly.jobs.worker.deps import Deps as WorkerDeps
    from mayfly.limits import LimitStore
    from mayfly.schedules import Deps as ScheduleDeps
    from mayfly.sessions import SessionStore
    from mayfly.web.access import Quota
    from mayfly.webhooks import Receivers

__all__ = [
    "client",
    "client_of",
    "counter_store",
    "counters_of",
    "declared_tasks",
    "dynamodb",
    "import_objects",
    "imported_tasks",
    "job_operations",
    "job_store",
    "known_tasks",
    "lazy_counters",
    "limit_store",
    "limits_of",
    "outbox",
    "parameters",
    "queue",
    "quota",
    "receivers",
    "reports",
    "schedules",
    "session_store",
    "streams",
    "worker",
]

_T = TypeVar("_T")

#: Timeouts in seconds. With botocore's default of 60 s, a dead socket would use up the invocation.
#: AWS advises 1 s or more for transactions.
_CONNECT_TIMEOUT: Final = 1
_READ_TIMEOUT: Final = 3
#: Services that both clients speak to.
_JSON_SERVICES: Final = ("dynamodb", "dynamodbstreams", "sqs", "ssm")


def counter_store(env: Mapping[str, str], db: "DynamoDB | None" = None) -> "CounterStore":
    """Returns the counters in the table COUNTERS_TABLE. Raises ConfigError."""
    adapter = db or dynamodb()
    return lazy_counters(read_settings(_Counters, env).counters_table, lambda: adapter)


def limit_store(env: Mapping[str, str], *, clock: Clock = system_clock) -> "LimitStore":
    """Returns the limits in the table COUNTERS_TABLE. Raises ConfigError."""
    return limits_of(read_settings(_Counters, env).counters_table, dynamodb(), clock)


def session_store(env: Mapping[str, str], db: "DynamoDB | None" = None) -> "SessionStore":
    """Returns the sessions in the table SESSIONS_TABLE, with SUBJECT_KEY. Raises ConfigError."""
    from mayfly.sessions import SessionStore

    settings = read_settings(_Sessions, env)
    return SessionStore(
        db or dynamodb(),
        settings.sessions_table,
        subject_key=settings.subject_key,
        clock=system_clock,
        new_id=new_id,
        new_secret=lambda: new_secret(BASE62, SECRET_CHARACTERS),
        new_nonce=new_nonce,
    )


def import_objects(env: Mapping[str, str]) -> "Objects":
    """Returns the objects in the bucket IMPORTS_BUCKET. Raises ConfigError."""
    from mayfly.imports import Objects

    return Objects(client("s3"), read_settings(_Imports, env).imports_bucket)


def job_store(env: Mapping[str, str], db: "DynamoDB | None" = None) -> "JobStore":
    """Returns the jobs in the table JOBS_TABLE, with DUE_SHARDS. Raises ConfigError."""
    from mayfly.jobs.store import JobStore

    settings = read_settings(_Jobs, env)
    return JobStore(db or dynamodb(), settings.jobs_table, due_shards=_due_shards(settings))


def job_operations(env: Mapping[str, str], db: "DynamoDB | None" = None) -> "JobOperations":
    """Returns the jobs in the table JOBS_TABLE, for submissions and operators.

    Raises ConfigError.
    """
    from mayfly.jobs.operations import JobOperations

    return JobOperations(job_store(env, db))


def declared_tasks(function: str, named: str, *, local: bool) -> "Mapping[str, Declaration]":
    """Returns all tasks: those of the packages of tasks, and the built-in ones.

    `function` is the name of a module of the function: the package `tasks` next to the function is
    one of these packages. `named` is the value of MAYFLY_TASKS, which may name another one.
    `local` includes tasks that are for the local stack only. Each built-in task has a function of
    its own. Raises ConfigError if the named package does not exist, and BadTask.
    """
    from mayfly.jobs.authoring.built_in import BUILT_IN
    from mayfly.jobs.authoring.discovery import declared, places

    found = [declared(place, local=local) for place in places(function, named).values()]
    return {**_together(found), **BUILT_IN}


def imported_tasks(function: str, named: str, *, local: bool) -> "Mapping[str, Task]":
    """Returns the tasks that a worker runs: those of the packages of tasks, which are imported.

    The arguments and the errors are those of `declared_tasks`.
    """
    from mayfly.jobs.authoring.discovery import imported, places

    found = [imported(import_module(package), local=local) for package in places(function, named)]
    return _together(found)


def _together(found: "Sequence[Mapping[str, _T]]") -> "dict[str, _T]":
    """Returns the tasks of several packages. Raises BadTask if two share a name."""
    from mayfly.jobs.errors import BadTask

    tasks: dict[str, _T] = {}
    for package in found:
        for name, task in package.items():
            if name in tasks:
                raise BadTask([f"two tasks are called {name!r}, one of them in MAYFLY_TASKS"])
            tasks[name] = task
    return tasks


def known_tasks(env: Mapping[str, str]) -> "Mapping[str, Declaration]":
    """Returns all tasks, for handlers of your own that submit jobs. Raises ConfigError.

    They are in the package `tasks`, if the module path has one, and in the one that MAYFLY_TASKS
    names.
    """
    settings = read_settings(_Tasks, env)
    return declared_tasks("", settings.mayfly_tasks, local=settings.aws_sam_local)


def outbox(jobs_queue_url: str, webhooks_queue_url: str) -> "Outbox":
    """Returns the queues to which jobs are announced."""
    from mayfly.jobs.authoring.built_in import DELIVER
    from mayfly.jobs.routing.outbox import Outbox

    sqs = client_of("sqs")
    return Outbox(
        queue(jobs_queue_url, sqs).send, {DELIVER.name: queue(webhooks_queue_url, sqs).send}
    )


def reports(bucket: str, queue_url: str) -> "Reports":
    """Returns the relay's reports in a bucket, to be sent to a queue."""
    from mayfly.aws.bucket import Bucket
    from mayfly.jobs.routing.reports import Reports

    return Reports(Bucket(client("s3"), bucket), queue(queue_url).send_texts)


def schedules(operations: "JobOperations", tasks: "Mapping[str, Declaration]") -> "ScheduleDeps":
    """Returns the dependencies of schedules that make jobs of `tasks`, in the table of jobs."""
    from mayfly.schedules import Deps as ScheduleDeps
    from mayfly.schedules import ScheduleStore

    store = operations.store
    return ScheduleDeps(
        ScheduleStore(store.db, store.table, due_shards=store.due_shards),
        operations,
        tasks,
        system_clock,
        new_id,
    )


def worker(
    env: Mapping[str, str],
    *,
    counters_table: str,
    producer_tenant: str,
    lease_seconds: int,
    tasks: "Mapping[str, Task]",
    known: "Mapping[str, Declaration]",
    observe: Observer,
) -> "WorkerDeps":
    """Returns the dependencies of a worker that runs `tasks`. Raises ConfigError.

    Its jobs are in the table JOBS_TABLE. `known` has the tasks that other functions run.
    """
    from mayfly.aws.values import serialize
    from mayfly.jobs.worker.deps import Deps as WorkerDeps

    operations = job_operations(env)
    return WorkerDeps(
        store=operations.store,
        keep_unreadable=operations.keep_unreadable,
        tasks=tasks,
        known=known,
        counters_table=counters_table,
        producer_tenant=producer_tenant,
        observe=observe,
        clock=system_clock,
        new_nonce=new_nonce,
        jitter=random.random,
        serialize=serialize,
        lease_ms=lease_seconds * 1000,
    )


def receivers(table: str) -> "Receivers":
    """Returns the receivers of webhooks, as this process will come to know them.

    `table` has what processes tell each other.
    """
    from mayfly.webhooks import Receivers
    from mayfly.webhooks.store import ReceiverNotes

    notes = ReceiverNotes(dynamodb(), table, system_clock)
    return Receivers(time.monotonic, random.random, notes)


def lazy_counters(table: str, db: "Callable[[], DynamoDB]") -> "CounterStore":
    """Returns the counters in a table.

    `db` is called when a request needs more than a plain increment.
    """
    return counters_of(table, dynamodb(attempts=1), db)


def counters_of(table: str, once: "DynamoDB", db: "Callable[[], DynamoDB]") -> "CounterStore":
    """Returns the counters in a table, by adapters of the caller.

    `once` must not retry: if the SDK retried after a lost response, an increment could count twice.
    """
    from mayfly.counters import CounterStore

    return CounterStore(
        once,
        db,
        table,
        clock=system_clock,
        new_nonce=new_nonce,
        pick=random.randrange,
    )


def limits_of(table: str, db: "DynamoDB", clock: Clock = system_clock) -> "LimitStore":
    """Returns the limits in a table."""
    from mayfly.limits import LimitStore

    return LimitStore(db, table, clock=clock)


def quota(
    table: str, tenant_limit: int, db: "DynamoDB", observe: Observer | None = None
) -> "Quota | None":
    """Returns the limit of each tenant's requests to the whole API, None without a limit.

    `observe` counts requests that pass because the limit cannot be read (`LimitFailedOpen`).
    """
    if not tenant_limit:
        return None
    from mayfly.limits import quota as check_of

    def count() -> None:
        if observe is not None:
            observe.count("LimitFailedOpen")

    return check_of(limits_of(table, db), tenant_limit, on_fail_open=count)


def dynamodb(*, attempts: int = 3) -> "DynamoDB":
    """Returns the adapter that every store uses.

    `attempts` is the number of times that the SDK sends a request.
    """
    from mayfly.aws.dynamodb import DynamoDB, longest_pause

    return DynamoDB(
        client_of("dynamodb", attempts=attempts),
        # Between tries of a write that met a conflict, with full jitter; the caller waits for it.
        pause=lambda attempt: time.sleep(random.uniform(0, longest_pause(attempt))),
        sends_once=attempts == 1,
    )


def queue(url: str, sqs: Any = None) -> "Queue":
    """Returns one SQS queue. Makes a client unless one is given."""
    from mayfly.aws.queue import Queue

    return Queue(sqs or client_of("sqs"), url)


def streams() -> "Streams":
    """Returns the adapter to DynamoDB Streams."""
    from mayfly.aws.streams import Streams

    return Streams(client_of("dynamodbstreams"))


def parameters() -> "Parameters":
    """Returns the adapter to Parameter Store."""
    from mayfly.aws.parameters import Parameters

    return Parameters(client_of("ssm"), system_clock)


def client_of(service: str, *, attempts: int = 3, clock: Clock = system_clock) -> Any:
    """Returns a client of DynamoDB, its streams, SQS or Parameter Store. Raises ConfigError.

    It is the lean client where a function's process runs, on Lambda and on the local runtime, and
    boto3's everywhere else, so that `mock_aws` works in tests. MAYFLY_CLIENT overrules this. A
    process with a proxy uses boto3, too.
    """
    env = os.environ
    choice = env.get("MAYFLY_CLIENT") or ("lean" if _is_function(env) else "boto3")
    if choice == "boto3":
        return client(service, attempts=attempts, clock=clock)
    if choice != "lean":
        raise ConfigError([f"MAYFLY_CLIENT must be lean or boto3, and is {choice!r}"])
    from mayfly.aws.lean import LeanClient
    from mayfly.aws.tls import AMAZON_ROOTS, context

    bundle = env.get("AWS_CA_BUNDLE")

    return LeanClient(
        service,
        env,
        pause=time.sleep,
        share=random.random,
        attempts=attempts,
        tls=lambda: context(bundle or AMAZON_ROOTS),
        # For a server that does not have a certificate of Amazon's.
        wider_tls=None if bundle else lambda: context(None),
        clock=clock,
    )


def _due_shards(settings: "_Jobs") -> int:
    from mayfly.jobs.shards import SHARDS

    if not 1 <= settings.due_shards <= SHARDS:
        raise ConfigError([f"DUE_SHARDS={settings.due_shards} is not from 1 to {SHARDS}"])
    return settings.due_shards


def _is_function(env: Mapping[str, str]) -> bool:
    """Returns whether this is a function's process, without a proxy for its requests."""
    return "AWS_LAMBDA_RUNTIME_API" in env and not any(
        value and name.lower() in ("http_proxy", "https_proxy") for name, value in env.items()
    )


def client(service: str, *, attempts: int = 3, clock: Clock = system_clock) -> Any:
    """Returns a client of one AWS service.

    Region, credentials and endpoint come from the variables that every SDK reads. `clock` measures
    for how long a connection was idle.
    """
    import boto3
    from botocore.config import Config

    config = Config(
        connect_timeout=_CONNECT_TIMEOUT,
        read_timeout=_READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": attempts},
        # Requests come from typed code. Checking each against the service model costs CPU time.
        parameter_validation=False,
        tcp_keepalive=True,
    )
    region = os.environ.get("AWS_REGION")
    made = boto3.client(service, region_name=region, config=config)  # type: ignore[call-overload]
    from mayfly.aws.boto import limit_retries, refuse_damaged_answers
    from mayfly.aws.boto_connections import limit_connections
    from mayfly.aws.connections import IDLE_SECONDS, ONCE_IDLE_SECONDS

    idle_seconds = ONCE_IDLE_SECONDS if attempts == 1 else IDLE_SECONDS
    limit_connections(made, idle_seconds=idle_seconds, clock=clock)
    limit_retries(made, attempts=attempts)
    if service in _JSON_SERVICES:
        refuse_damaged_answers(made, attempts=attempts)
    return made


@dataclass(frozen=True)
class _Sessions:
    sessions_table: str
    #: The stack's parameter SubjectKey, which hides subjects in tokens.
    subject_key: str


@dataclass(frozen=True)
class _Counters:
    counters_table: str


@dataclass(frozen=True)
class _Jobs:
    jobs_table: str
    #: The stack's parameter DueShards.
    due_shards: int = 1


@dataclass(frozen=True)
class _Imports:
    imports_bucket: str


@dataclass(frozen=True)
class _Tasks:
    mayfly_tasks: str = ""
    aws_sam_local: bool = False
