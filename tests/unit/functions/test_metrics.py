"""Metrics reach the log in the invocation that counts them: embedded metrics of CloudWatch."""

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from mayfly import limits, resources
from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.errors import InvalidRequest, StoreUnavailable
from mayfly.core.observability import observer
from mayfly.jobs.routing.outbox import Outbox
from mayfly.jobs.worker import invocation
from mayfly.web import answers
from mayfly.web.resolver import PUBLIC, Api

from functions.identify_callers.app import build as build_identify_callers
from functions.identify_callers.deps import Deps as IdentifyCallersDeps
from functions.relay_jobs.app import build as build_relay
from functions.relay_jobs.deps import Deps as RelayDeps
from functions.sweep_jobs.app import build as build_sweep
from functions.sweep_jobs.deps import Deps as SweepDeps
from mayfly_testing.stack import ROOT
from tests.support.clients import make_client
from tests.support.events import http, sqs
from tests.support.fakes import Context, FixedClock, NoReports
from tests.support.faults import Faults
from tests.support.stage import VisibleQueue
from tests.unit.functions.test_hello import page
from tests.unit.functions.test_queues import stream_event

Written = Callable[[], dict[str, float]]


@pytest.fixture
def written(capsys: pytest.CaptureFixture[str]) -> Written:
    """Returns the metrics that were written since the last call, by name."""

    def read() -> dict[str, float]:
        found: dict[str, float] = {}
        for line in capsys.readouterr().out.splitlines():
            entry = json.loads(line)
            for directive in entry.get("_aws", {}).get("CloudWatchMetrics", ()):
                assert directive["Namespace"] == "Mayfly"
                for metric in directive["Metrics"]:
                    found[metric["Name"]] = sum(entry[metric["Name"]])
        return found

    return read


def down(*_: Any, **__: Any) -> Any:
    raise StoreUnavailable("read", "ThrottlingException")


@pytest.mark.parametrize("path", sorted((ROOT / "functions").glob("*/app.py")), ids=str)
def test_handler_of_every_function_writes_its_metrics(path: Any) -> None:
    """By hand, or by the edge that it is made with."""
    edges = ("observe.invocation()", "api.handler()", "entrypoint(", "invocation.each(")
    assert sum(path.read_text().count(edge) for edge in edges) == 1


def test_sweep_that_fails_writes_what_it_counted(written: Written) -> None:
    handler = build_sweep(
        SweepDeps(
            operations=SimpleNamespace(release_due=down),  # type: ignore[arg-type]  # all it calls
            schedules=SimpleNamespace(  # type: ignore[arg-type]  # all it calls
                clock=FixedClock(), store=SimpleNamespace(due=down)
            ),
            observe=observer("sweep_jobs"),
            clock=FixedClock(),
            reports=NoReports,  # type: ignore[arg-type]  # all it calls
        )
    )
    with pytest.raises(StoreUnavailable):
        handler({}, Context())
    assert written() == {"SweepFailed": 2, "TickHandedOut": 0}
    assert written() == {}


def test_relay_counts_jobs_that_it_could_not_announce(written: Written) -> None:
    queue = Outbox(lambda bodies, delays: set(bodies), {})
    relay = build_relay(RelayDeps(outbox=queue, observe=observer("relay"), clock=FixedClock()))
    relay(stream_event("1", "2"), Context())
    assert written() == {"JobNotAnnounced": 2}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (StoreUnavailable("read", "timeout"), {"RequestFailed": 1}),
        (RuntimeError("not foreseen"), {"RequestFailed": 1}),
        (InvalidRequest("name", "is wrong"), {}),
        (None, {}),
    ],
    ids=["503", "500", "400", "200"],
)
def test_answers_of_500_and_more_are_counted(
    error: Exception | None, expected: dict[str, int], written: Written
) -> None:
    api = Api(observer("t"))

    @api.get("/", scope=PUBLIC)
    def serve() -> Any:
        if error is not None:
            raise error
        return answers.nothing()

    api.handler()(http("GET /"), Context())
    assert written() == expected


def test_refused_key_is_counted(written: Written) -> None:
    store: Any = SimpleNamespace()
    handler = build_identify_callers(IdentifyCallersDeps(store, observer("identify_callers")))
    handler({"headers": {"authorization": "Bearer nonsense"}}, Context())
    assert written() == {"KeyRefused": 1}


def test_page_that_is_served_without_its_limit_is_counted(
    tables: dict[str, str], written: Written
) -> None:
    client = make_client("dynamodb")
    Faults(client).refuse("UpdateItem", "ProvisionedThroughputExceededException")
    page(page_limit=1, limits_client=client)(http("GET /"), Context())
    assert written()["LimitFailedOpen"] == 1


def test_request_that_passes_without_its_quota_is_counted(
    tables: dict[str, str], faults: Faults, dynamodb: Any, written: Written
) -> None:
    faults.refuse("UpdateItem", "ThrottlingException")
    observe = observer("t")
    quota = resources.quota(
        "CountersTable", 5, DynamoDB(dynamodb, pause=lambda attempt: None), observe
    )
    assert quota is not None
    with observe.invocation():
        quota("acme")
    assert written() == {"LimitFailedOpen": 1}


def test_limit_that_answers_calls_nothing(tables: dict[str, str]) -> None:
    calls: list[int] = []
    store = resources.limits_of("CountersTable", resources.dynamodb())
    limits.quota(store, 5, on_fail_open=lambda: calls.append(1))("acme")
    assert calls == []


def broken(observe: Any) -> Any:
    def open_batch(records: Any, context: Any) -> Any:
        observe.count("JobDead")
        raise RuntimeError("cannot open")

    return invocation.entrypoint(
        open_batch,
        queue=VisibleQueue(),  # type: ignore[arg-type]  # all that is used
        lease_seconds=1,
        observe=observe,
    )


def test_worker_that_fails_as_a_whole_writes_what_it_counted(written: Written) -> None:
    with pytest.raises(RuntimeError, match="cannot open"):
        broken(observer("t"))(sqs("a"), Context())
    assert written() == {"JobDead": 1}


def test_message_that_comes_back_leaves_the_metrics_of_its_invocation(written: Written) -> None:
    observe = observer("t")

    def run(record: Any) -> None:
        observe.count("ImportStarted")
        raise ValueError("not this one")

    report = invocation.each(run, observe=observe)(sqs("a"), Context())
    assert len(report["batchItemFailures"]) == 1
    assert written() == {"ImportStarted": 1}
