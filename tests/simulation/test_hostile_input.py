"""Hundreds of thousands of hostile events through every entry point.

None is unhandled, and no answer shows internals.

`pytest tests/simulation/test_hostile_input.py --hostile 240000 -rP` runs that many and prints how
many of each kind there were.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from mayfly import counters, resources
from mayfly.aws.errors import StreamTrimmed
from mayfly.core.clock import system_clock
from mayfly.core.errors import InvalidRequest, MayflyError, PayloadTooLarge
from mayfly.core.ids import new_secret
from mayfly.jobs import Permanent
from mayfly.jobs.wire import read_message
from mayfly.tenants import ALL_SCOPES, TenantStore, mint

from functions.authorizer.app import build as build_authorizer
from functions.authorizer.deps import from_environ as authorizer_deps
from functions.await_job.app import build as build_await
from functions.await_job.deps import from_environ as await_job_deps
from functions.bury_jobs.app import build as build_bury
from functions.bury_jobs.deps import Deps as BuryDeps
from functions.bury_jobs.deps import from_environ as bury_jobs_deps
from functions.counters.app import build as build_counters
from functions.counters.deps import from_environ as counters_deps
from functions.deliver_webhooks.app import build as build_deliver
from functions.deliver_webhooks.deps import from_environ as deliver_webhooks_deps
from functions.hello.app import build as build_hello
from functions.hello.deps import from_environ as hello_deps
from functions.identify_callers.app import build as build_identify_callers
from functions.identify_callers.deps import from_environ as identify_callers_deps
from functions.jobs.app import build as build_jobs
from functions.jobs.deps import from_environ as jobs_deps
from functions.run_jobs.app import build as build_run
from functions.run_jobs.deps import from_environ as run_jobs_deps
from functions.schedules.app import build as build_schedules
from functions.schedules.deps import from_environ as schedules_deps
from functions.sessions.app import build as build_sessions
from functions.sessions.deps import from_environ as sessions_deps
from functions.start_imports.app import build as build_imports
from functions.start_imports.deps import from_environ as start_imports_deps
from functions.sweep_jobs.deps import from_environ as sweep_jobs_deps
from tests.conftest import make_tables
from tests.support import hostile
from tests.support.clients import make_client
from tests.support.events import sqs
from tests.support.fakes import Context

Handler = Callable[[dict[str, Any], Any], Any]

#: Shares of the entry points in a round of events: messages count ten a batch.
_SHARES = {"http": 0.7, "credentials": 0.1, "messages": 0.2}
_LOGGERS = (
    "authorizer", "await_job", "bury_jobs", "counters", "deliver_webhooks", "hello",
    "identify_callers", "jobs",
    "run_jobs", "schedules", "sessions", "start_imports",
)  # fmt: skip
_RELAY_FAILURES = "arn:aws:sqs:us-east-1:000000000000:relay-failures"
_STREAM = "arn:aws:dynamodb:us-east-1:000000000000:table/JobsTable/stream/2026-01-01T00:00:00.000"
_TELLTALES = (
    "Traceback",
    "botocore",
    "boto3",
    ".py",
    "arn:aws",
    "JobsTable",
    "SessionsTable",
    "CountersTable",
)


@pytest.fixture
def env(aws: None) -> dict[str, str]:
    # moto keeps all records that a stream ever held: megabytes in these tests.
    make_tables(make_client("dynamodb"))
    make_client("s3").create_bucket(Bucket="imports")
    queues = {
        name: make_client("sqs").create_queue(QueueName=name)["QueueUrl"]
        for name in ("jobs", "webhooks")
    }
    return {
        "JOBS_TABLE": "JobsTable",
        "SESSIONS_TABLE": "SessionsTable",
        "COUNTERS_TABLE": "CountersTable",
        "TENANTS_TABLE": "TenantsTable",
        "ENDPOINTS_TABLE": "EndpointsTable",
        "IMPORTS_BUCKET": "imports",
        "UPLOADS_DEAD_LETTERS_ARN": "arn:dead",
        "JOBS_QUEUE_URL": queues["jobs"],
        "WEBHOOKS_QUEUE_URL": queues["webhooks"],
        "RELAY_FAILURES_ARN": _RELAY_FAILURES,
        "RELAY_FAILURES_URL": queues["jobs"],
        "RELAY_REPORTS_BUCKET": "reports",
        "DEFAULT_TENANT": "default",
        "SUBJECT_KEY": "k",
        "PAGE_LIMIT": "0",
        "TENANT_LIMIT": "0",
        "SECRETS_PREFIX": "/mayfly/test/webhooks",
        "WEBHOOK_PAUSES": "1",
        # Prevents every delivery: a webhook to an outside host fails when its name is resolved.
        "AWS_SAM_LOCAL": "false",
    }


@pytest.fixture
def unforeseen() -> Iterator[list[str]]:
    """Returns the log lines of errors that are not raised on purpose."""
    seen: list[str] = []
    # Replaces the printing handlers: hundreds of thousands of refusals, each with its traceback,
    # are more than a report holds.
    kept = {
        logger: (logger.handlers, logger.propagate) for logger in map(logging.getLogger, _LOGGERS)
    }
    yield seen
    for logger, (handlers, propagates) in kept.items():
        logger.handlers, logger.propagate = handlers, propagates


def listen(seen: list[str]) -> None:
    """Makes the functions' loggers, which exist by now, write to this list alone."""

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error = record.exc_info[1] if record.exc_info else None
            if error is not None and not isinstance(error, MayflyError | Permanent):
                seen.append(f"{record.name}: {record.getMessage()}: {error!r}")

    for logger in map(logging.getLogger, _LOGGERS):
        logger.handlers, logger.propagate = [Listener()], False


def rounds(count: float) -> settings:
    """Makes the search reproducible, without endless shrinking: a failure prints its event."""
    return settings(
        max_examples=max(1, int(count)),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


HTTP: dict[str, tuple[Callable[[dict[str, str]], Handler], tuple[str, ...]]] = {
    "hello": (lambda env: build_hello(hello_deps(env)), ("GET /", "GET /health", "$default")),
    "sessions": (lambda env: build_sessions(sessions_deps(env)), ("sessions", "subjects")),
    "counters": (lambda env: build_counters(counters_deps(env)), ("counters", "limits")),
    "jobs": (lambda env: build_jobs(jobs_deps(env)), ("jobs",)),
    "schedules": (lambda env: build_schedules(schedules_deps(env)), ("schedules",)),
    "await_job": (lambda env: build_await(await_job_deps(env)), ("GET /jobs/{id}",)),
}


def routes_of(function: str) -> tuple[str, ...]:
    wanted = HTTP[function][1]
    if " " in wanted[0]:
        return wanted
    found = tuple(
        each
        for each in hostile._ROUTES
        if each.partition("/")[2].split("/")[0] in wanted and each != "GET /jobs/{id}"
    )
    assert found
    return found


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("function", HTTP)
def test_no_request_is_unhandled(
    function: str, env: dict[str, str], unforeseen: list[str], hostile_events: int
) -> None:
    handler, statuses = HTTP[function][0](env), Counter[int]()
    listen(unforeseen)

    @rounds(hostile_events * _SHARES["http"] / len(HTTP))
    @given(hostile.requests(routes_of(function)))
    def run(event: dict[str, Any]) -> None:
        reply = handler(event, Context())
        status, kind, body = (
            reply["statusCode"],
            reply["headers"].get("Content-Type", ""),
            reply.get("body") or "",
        )
        statuses[status] += 1
        assert status in {
            200,
            201,
            202,
            204,
            400,
            401,
            403,
            404,
            405,
            409,
            412,
            413,
            415,
            422,
            429,
        }, (status, body)
        assert reply["headers"]["Cache-Control"] == "no-store"
        json.dumps(reply, ensure_ascii=False).encode()  # it can be sent
        if status >= 400 and status != 429:
            assert kind == "application/problem+json"
            problem = json.loads(body)
            assert problem["status"] == status
            # An answer may quote the sender's text, but nothing else of this kind.
            assert not [
                word for word in _TELLTALES if word in body and word not in json.dumps(event)
            ], body

    run()
    assert unforeseen == []
    figures = dict(sorted(statuses.items()))
    print(f"{function}: {statuses.total()} requests, {figures}")  # noqa: T201 - were requested


@pytest.mark.timeout(3600)
def test_no_credential_is_unhandled(
    env: dict[str, str], unforeseen: list[str], hostile_events: int
) -> None:
    deps = identify_callers_deps(env)
    identify, refuse = build_identify_callers(deps), build_authorizer(authorizer_deps(env))
    seen = Counter[str]()
    listen(unforeseen)

    @rounds(hostile_events * _SHARES["credentials"])
    @given(hostile.credentials(closed_keys(deps.tenants)))
    def run(text: str) -> None:
        event = {"headers": {"authorization": text}}
        assert refuse(event, Context()) == {"isAuthorized": False}
        reply = identify(event, Context())
        assert set(reply["context"]) == {"reason"}
        seen[reply["context"]["reason"]] += 1

    run()
    assert set(seen) >= {"the key is not known", "the key has expired"}
    assert unforeseen == []
    print(f"credentials: {dict(seen)}")  # noqa: T201 - the requested figures


def is_job(body: str) -> bool:
    """Returns whether a message can be read."""
    try:
        read_message(body)
    except (InvalidRequest, PayloadTooLarge):
        return False
    return True


def _without_stream(deps: BuryDeps) -> BuryDeps:
    """Empties every stream, since moto answers an absent stream with assertions of its own."""

    def gone(arn: str, shard: str, first: str, last: str) -> Iterator[dict[str, Any]]:
        yield from ()
        raise StreamTrimmed(arn, first, last)

    return replace(deps, dead_letters=replace(deps.dead_letters, images=gone))


def closed_keys(store: TenantStore) -> list[str]:
    """Returns keys of the right format that are not valid.

    One was never stored, one has expired, one was revoked, and one has another key's secret.
    """
    made = {
        name: mint("dev", "acme", ALL_SCOPES, now_ms=1, new_secret=new_secret, expires_at_ms=1)
        for name in ("expired", "revoked")
    }
    for _, key in made.values():
        store.add_key(key)
    store.revoke_key(made["revoked"][1].key_id, "acme")
    _, live = mint("dev", "acme", ALL_SCOPES, now_ms=1, new_secret=new_secret)
    store.add_key(live)
    forged, _ = mint(
        "dev",
        "acme",
        ALL_SCOPES,
        now_ms=1,
        new_secret=lambda letters, n: live.key_id if n == 12 else new_secret(letters, n),
    )
    unknown, _ = mint("dev", "acme", ALL_SCOPES, now_ms=1, new_secret=new_secret)
    return [unknown, forged, *(text for text, _ in made.values())]


MESSAGES: dict[str, tuple[Callable[[dict[str, str]], Handler], str, dict[str, Any]]] = {
    "run_jobs": (
        lambda env: build_run(run_jobs_deps(env)),
        "jobs",
        {"task": "counter.add", "payload": {"name": "n", "by": 1}, "idempotency_key": "k"},
    ),
    "wakes": (lambda env: build_run(run_jobs_deps(env)), "jobs", {"tenant": "acme", "id": "j"}),
    "deliver_webhooks": (
        lambda env: build_deliver(deliver_webhooks_deps(env)),
        "webhooks",
        {"task": "http.deliver", "payload": {"url": "http://x/"}},
    ),
    "dead letters": (
        lambda env: build_bury(bury_jobs_deps(env)),
        "jobs-dead",
        {"task": "counter.add", "payload": {"name": "n"}},
    ),
    "relay failures": (
        lambda env: build_bury(_without_stream(bury_jobs_deps(env))),
        "relay-failures",
        {
            "DDBStreamBatchInfo": {
                "shardId": "s",
                "startSequenceNumber": "1",
                "endSequenceNumber": "2",
                "batchSize": 1,
                "streamArn": _STREAM,
            }
        },
    ),
    "start_imports": (
        lambda env: build_imports(start_imports_deps(env)),
        "uploads",
        {
            "Records": [
                {
                    "eventName": "ObjectCreated:Put",
                    "s3": {"bucket": {"name": "imports"}, "object": {"key": "default/a.csv"}},
                }
            ]
        },
    ),
}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("door", MESSAGES)
def test_no_message_is_unhandled(
    door: str, env: dict[str, str], unforeseen: list[str], hostile_events: int
) -> None:
    build, queue, good = MESSAGES[door]
    handler, seen, operations = build(env), Counter[str](), sweep_jobs_deps(env).operations
    listen(unforeseen)

    @rounds(hostile_events * _SHARES["messages"] / len(MESSAGES) / 10)
    @given(hostile.messages(good))
    def run(bodies: list[str]) -> None:
        seen["batches"] += 1
        neighbour = json.dumps(
            {
                "task": "counter.add",
                "payload": {"name": "neighbours"},
                "idempotency_key": f"n{seen['batches']}",
            }
        )
        event = sqs(*bodies, neighbour)
        for index, record in enumerate(event["Records"]):
            record["eventSourceARN"] = f"arn:aws:sqs:us-east-1:000000000000:{queue}"
            record["messageId"] = f"{seen['batches']}-{index}"
        reply = handler(event, Context())
        failed = {each["itemIdentifier"] for each in reply["batchItemFailures"]}
        assert failed <= {record["messageId"] for record in event["Records"]}
        seen["messages"] += len(event["Records"])
        seen["come again"] += len(failed)
        kept = {each.message_id for each in operations.unreadable(now_ms=system_clock())}
        if door in ("run_jobs", "wakes", "dead letters"):
            assert {
                record["messageId"] for record in event["Records"] if not is_job(record["body"])
            } <= kept
        seen["kept"] += len(kept)
        for message_id in kept:  # a megabyte each, some of them
            operations.forget_unreadable(message_id)

    run()
    assert unforeseen == []
    # Next to any bad messages, good ones are done once each, and bad ones are stored.
    if door in (
        "run_jobs",
        "wakes",
    ):
        assert (
            counters.read(resources.counter_store(env), tenant="default", name="neighbours").value
            == seen["batches"]
        )
        assert seen["kept"] > seen["batches"]
    print(f"{door}: {dict(seen)}")  # noqa: T201 - the requested figures
