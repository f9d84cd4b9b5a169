"""Every route against a store that does not answer, with the time that its function really has.

The store takes each request and stays silent. For the rows with `wait=20` it answers first, and
falls silent when the wait is nearly over: that is the longest time that a request can take.
"""

import importlib
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

from mayfly.core.ids import SECRET_CHARACTERS, new_secret
from mayfly.jobs.items import new_items
from mayfly.jobs.model import Job, Status
from mayfly.tenants import ALL_SCOPES, mint

from bench.invocation import Invocation
from mayfly_local.application.source import read, read_yaml

QUESTION: Final = (
    "after how many seconds does each route answer, if the store does not, with each client, and "
    "which time does its function have?"
)
CLIENTS: Final = ("lean", "boto3")
#: Requests at a time. More of them would measure the processor.
PARALLEL: Final = 12
#: Seconds of a wait after which the store falls silent, just before the wait ends.
LATE: Final = 19.5
_LIMIT: Final = "key=k&algorithm=gcra&limit=9&period_seconds=60"
QUERIES: Final = {
    "GET /jobs": "status=scheduled",
    "GET /limits/{name}": _LIMIT,
    "DELETE /limits/{name}": _LIMIT,
}
_JOB: Final = {"task": "counter.add", "payload": {"name": "n"}}
BODIES: Final[dict[str, Any]] = {
    "POST /counters/{name}/increment": {"by": 3},
    "PUT /counters/{name}": {"shards": 2},
    "POST /limits/{name}/take": {"key": "k", "algorithm": "gcra", "limit": 9, "period_seconds": 60},
    "POST /sessions": {},
    "PATCH /sessions/current": {"a": 1},
    "POST /sessions/current/rotate": {},
    "POST /jobs": _JOB,
    "PUT /schedules/{name}": {"every_seconds": 3600, **_JOB},
}
ROOT: Final = Path(__file__).parent.parent
ID: Final = "a" * 32
TOKEN: Final = f"mfs_a{'0' * 32}_{'a' * SECRET_CHARACTERS}"


@dataclass(frozen=True)
class Case:
    """A request to a function. `silent_after` is when the store falls silent, in seconds."""

    label: str
    function: str
    timeout: int
    event: Mapping[str, Any]
    silent_after: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """The answer to a case, and the seconds until it came."""

    answer: str
    seconds: float


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Returns the answer, its time and the function's time for each route and client.

    Raises SystemExit if one of them comes later than a second before its function's timeout.
    """
    found: dict[tuple[str, str], Outcome] = {}
    made = cases()
    # The long ones begin first.
    made.sort(key=lambda case: -case.silent_after)
    say(f"{len(made)} requests with each client, {PARALLEL} at a time")
    say(f"{'request':<46} {'client':<6} {'answer':<26} {'after':>6} {'of':>4}")
    # Powertools holds the current request in its classes, so each has a process.
    with ProcessPoolExecutor(PARALLEL, get_context("spawn")) as pool, ExitStack() as stack:
        pairs = [(case, client) for case in made for client in CLIENTS]
        stores = [stack.enter_context(silent_store(case.silent_after)) for case, _ in pairs]
        outcomes = pool.map(outcome, *zip(*pairs, strict=True), stores)
        for (case, client), result in zip(pairs, outcomes, strict=True):
            found[case.label, client] = result
            say(
                f"{case.label:<46} {client:<6} {result.answer:<26} "
                f"{result.seconds:>4.1f} s {case.timeout:>2} s"
            )
    timeouts = {case.label: case.timeout for case in made}
    least = min(timeouts[label] - result.seconds for (label, _), result in found.items())
    figures: dict[str, Any] = {
        f"{label}, {client}": f"{result.answer} after {result.seconds:.1f} of {timeouts[label]} s"
        for (label, client), result in sorted(found.items())
    }
    figures["least time between an answer and its function's timeout, s"] = round(least, 2)
    if least <= 1:
        raise SystemExit("an answer came less than a second before its function's timeout")
    return figures


def cases() -> list[Case]:
    """Returns a request for each route of the template, and for its other functions that matter."""
    resources = read_yaml(ROOT / "template.yaml", read(ROOT / "template.yaml"))
    usual = resources["Globals"]["Function"]["Timeout"]
    times: dict[str, int] = {}
    found: list[Case] = []
    for resource in resources["Resources"].values():
        if resource["Type"] != "AWS::Serverless::Function":
            continue
        facts = resource["Properties"]
        function = facts["Handler"].partition(".")[0]
        times[function] = facts.get("Timeout", usual)
        for event in facts.get("Events", {}).values():
            path = event["Properties"].get("Path")
            if event["Type"] == "HttpApi" and path and path != "/openapi.json":
                route = f"{event['Properties']['Method']} {path}"
                found.append(Case(route, function, times[function], request(route)))
    increment = "POST /counters/{name}/increment"
    key, _ = mint("bench", "acme", frozenset(ALL_SCOPES), now_ms=0, new_secret=new_secret)
    return [
        *found,
        Case("GET / as JSON", "hello", times["hello"], request("GET /", accept="application/json")),
        Case(
            f"{increment} with a key", "counters", times["counters"],
            request(increment, **{"idempotency-key": "order-1"}),
        ),
        Case(
            f"GET /jobs/{{id}}?wait=20, silent after {LATE} s", "await_job", times["await_job"],
            request("GET /jobs/{id}", query="wait=20"), LATE,
        ),
        Case(
            "the authorizer", "authorizer", times["authorizer"],
            {"headers": {"authorization": f"Bearer {key}"}},
        ),
        Case("the relay, 40 records", "relay_jobs", times["relay_jobs"], records(40)),
    ]  # fmt: skip


def request(route: str, *, query: str = "", **headers: str) -> dict[str, Any]:
    """Returns a request of payload format 2.0."""
    method, _, template = route.partition(" ")
    path = template
    for name, value in {"name": "orders-9", "id": ID, "subject": "ada"}.items():
        path = path.replace("{" + name + "}", value)
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route,
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"session-token": TOKEN, **headers},
        "queryStringParameters": dict(parse_qsl(query or QUERIES.get(route, ""))),
        "requestContext": {
            "http": {"method": method, "path": path, "sourceIp": "127.0.0.1"},
            "domainName": "app.example.org",
            "requestId": "r-1",
            "routeKey": route,
            "stage": "$default",
            "authorizer": {"lambda": {"tenant": "acme", "scopes": " ".join(ALL_SCOPES)}},
        },
        "isBase64Encoded": False,
    }
    return {**event, "body": json.dumps(BODIES[route])} if route in BODIES else event


def records(number: int) -> dict[str, Any]:
    """Returns a batch of the jobs table's stream."""
    image = new_items(_job())[0]
    return {
        "Records": [
            {"eventName": "INSERT", "dynamodb": {"SequenceNumber": str(each), "NewImage": image}}
            for each in range(number)
        ]
    }


def outcome(case: Case, client: str, endpoint: str) -> Outcome:
    """Calls the handler of a case with the time that its function has."""
    os.environ.update(_variables(endpoint, client))
    logging.disable(logging.WARNING)  # each request logs that the store does not answer
    deps = importlib.import_module(f"functions.{case.function}.deps").from_environ(os.environ)
    handler = importlib.import_module(f"functions.{case.function}.app").build(deps)
    began = time.monotonic()
    try:
        reply = handler(case.event, Invocation(case.timeout))
    except Exception as problem:  # noqa: BLE001  # as Lambda does; API Gateway answers 500
        answer = f"500, {type(problem).__name__}"
    else:
        if "batchItemFailures" in reply:
            answer = f"{len(reply['batchItemFailures'])} to be retried"
        else:
            answer = f"{reply['statusCode']} {json.loads(reply['body'])['code']}"
    return Outcome(answer, time.monotonic() - began)


@contextmanager
def silent_store(seconds: float) -> Iterator[str]:
    """Runs a store that answers with a queued job, and no longer after some seconds."""
    over, first = threading.Event(), threading.Lock()
    silent_from: list[float] = []
    item = json.dumps({"Item": new_items(_job())[0]}).encode()

    class Store(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with first:
                if not silent_from:
                    silent_from.append(time.monotonic() + seconds)
            if time.monotonic() >= silent_from[0]:
                over.wait(60)
                self.close_connection = True
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(item)))
            self.end_headers()
            self.wfile.write(item)

        def log_message(self, *_: Any) -> None:
            """Does nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Store)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        over.set()
        server.shutdown()
        server.server_close()


def _job() -> Job:
    now_ms = int(time.time() * 1000)
    return Job(
        ID, "acme", "counter.add", {"name": "n"}, Status.QUEUED,
        max_attempts=3, created_at_ms=now_ms, fingerprint="f",
    )  # fmt: skip


def _variables(endpoint: str, client: str) -> dict[str, str]:
    """Returns the variables of all functions."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "bench",
        "AWS_SECRET_ACCESS_KEY": "bench",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "MAYFLY_CLIENT": client,
        "LAMBDA_TASK_ROOT": str(ROOT / "functions"),
        "POWERTOOLS_LOG_LEVEL": "CRITICAL",
        "POWERTOOLS_METRICS_DISABLED": "true",
        "COUNTERS_TABLE": "counters",
        "JOBS_TABLE": "jobs",
        "SESSIONS_TABLE": "sessions",
        "TENANTS_TABLE": "tenants",
        "SUBJECT_KEY": "k",
        "DEFAULT_TENANT": "default",
        "PAGE_LIMIT": "0",
        "TENANT_LIMIT": "0",
        "JOBS_QUEUE_URL": f"{endpoint}/jobs",
        "WEBHOOKS_QUEUE_URL": f"{endpoint}/webhooks",
        "IMPORTS_BUCKET": "imports",
    }
