"""The jobs API, through `build` on moto."""

import contextlib
import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.observability import observer
from mayfly.jobs.authoring.task import Declaration
from mayfly.jobs.errors import StaleWrite
from mayfly.jobs.model import Status
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.store import ClaimRefused, JobStore
from mayfly.schedules import Deps as ScheduleDeps
from mayfly.schedules import ScheduleStore
from mayfly.web.resolver import Api

from functions.await_job.app import build as build_await
from functions.await_job.deps import Deps as AwaitDeps
from functions.jobs.app import build as build_jobs
from functions.jobs.deps import Deps as JobsDeps
from functions.sweep_jobs.app import build as build_sweep
from functions.sweep_jobs.deps import Deps as SweepDeps
from tests.support.completion import complete
from tests.support.events import call, http
from tests.support.fakes import Context, FixedClock, Names, NoReports
from tests.support.faults import Faults

CALLER = {"tenant": "acme", "scopes": "jobs:read jobs:write"}


class JobsApi:
    def __init__(self, client: Any) -> None:
        self.clock = FixedClock()
        self.client = client
        db = DynamoDB(client, lambda attempt: None)
        self.store = JobStore(db, "JobsTable", clock=self.clock, new_id=Names("id"))
        self.operations = JobOperations(self.store, threads=1)
        self.pauses: list[float] = []
        tasks = {"t": Declaration("t", max_attempts=7)}
        self.schedules = ScheduleDeps(
            ScheduleStore(db, "JobsTable"), self.operations, tasks, self.clock, Names("edition")
        )
        deps = JobsDeps(
            operations=self.operations,
            tasks=tasks,
            observe=observer("jobs"),
            clock=self.clock,
        )
        self.handler = build_jobs(deps)
        self.is_stopping = False
        self.awaiting = build_await(
            AwaitDeps(
                store=self.store,
                observe=observer("await"),
                clock=self.clock,
                stopping=self,  # type: ignore[arg-type]  # a fake
            )
        )
        self.during_pause: Callable[[], None] = lambda: None

    def pause(self, seconds: float) -> bool:
        self.pauses.append(seconds)
        self.clock.advance(seconds)
        self.during_pause()
        return self.is_stopping

    def serving(self) -> Any:
        return contextlib.nullcontext()

    def submit(self, body: Any = None, **more: Any) -> tuple[int, Any, dict[str, str]]:
        return call(
            self.handler,
            http(
                "POST /jobs",
                body={"task": "t"} if body is None else body,
                **{"caller": CALLER, **more},
            ),
        )

    def read(self, job_id: str, **more: Any) -> tuple[int, Any, dict[str, str]]:
        return call(
            self.awaiting, http("GET /jobs/{id}", f"/jobs/{job_id}", **{"caller": CALLER, **more})
        )

    def post(self, job_id: str, verb: str, **more: Any) -> tuple[int, Any, dict[str, str]]:
        return call(
            self.handler,
            http(
                f"POST /jobs/{{id}}/{verb}", f"/jobs/{job_id}/{verb}", **{"caller": CALLER, **more}
            ),
        )

    def list(self, **query: str) -> tuple[int, Any, dict[str, str]]:
        return call(self.handler, http("GET /jobs", query=query, caller=CALLER))

    def die(self, job_id: str) -> None:
        claimed = self.store.claim("acme", job_id, nonce="w", now_ms=self.clock(), lease_ms=15_000)
        self.store.fail(claimed, error="boom", retry_at_ms=None, now_ms=self.clock())


@pytest.fixture
def api(dynamodb: Any) -> JobsApi:
    return JobsApi(dynamodb)


def test_submitted_job_can_be_read(api: JobsApi) -> None:
    status, job, headers = api.submit({"task": "t", "payload": {"a": 1}})
    assert (status, job["status"], job["payload"], job["max_attempts"]) == (
        202,
        "queued",
        {"a": 1},
        7,
    )
    assert headers["Location"] == f"/jobs/{job['id']}"
    assert api.read(job["id"])[:2] == (200, job)


def test_same_key_and_body_return_the_same_job(api: JobsApi) -> None:
    first = api.submit(headers={"Idempotency-Key": "k"})
    api.clock.advance(5)
    again = api.submit(headers={"Idempotency-Key": '"k"'})
    assert (first[0], again[0]) == (202, 200)
    assert first[1]["id"] == again[1]["id"]


@pytest.mark.parametrize("other", [{"payload": 2}, {"max_attempts": 2}])
def test_same_key_with_another_body_is_422(api: JobsApi, other: dict[str, int]) -> None:
    api.submit(headers={"Idempotency-Key": "k"})
    status, body, _ = api.submit({"task": "t", **other}, headers={"Idempotency-Key": "k"})
    assert (status, body["code"]) == (422, "idempotency-key-reused")


#: Bodies that are one request, each in two spellings.
EQUAL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "payload 1 and 1.0": ({"payload": {"by": 1}}, {"payload": {"by": 1.0}}),
    "payload 1.0 and 1": ({"payload": {"by": 1.0}}, {"payload": {"by": 1}}),
    "payload 0 and -0.0": ({"payload": 0}, {"payload": -0.0}),
    "one of two": ({"payload": {"a": 1, "b": 2.0}}, {"payload": {"a": 1.0, "b": 2}}),
    "large": ({"payload": [1, "x" * 5000]}, {"payload": [1.0, "x" * 5000]}),
    "max_attempts 2 and 2.0": ({"max_attempts": 2}, {"max_attempts": 2.0}),
    "delay 5 and 5.0": ({"delay_seconds": 5}, {"delay_seconds": 5.0}),
    "delay 0 and none": ({"delay_seconds": 0}, {}),
    "none and delay 0.0": ({}, {"delay_seconds": 0.0}),
    "payload none and null": ({}, {"payload": None}),
    "max_attempts none and null": ({}, {"max_attempts": None}),
    "run_at in two zones": (
        {"run_at": "2027-01-15T09:00:00Z"}, {"run_at": "2027-01-15T10:00:00.000+01:00"},
    ),
}  # fmt: skip


@pytest.mark.parametrize(("first", "second"), EQUAL.values(), ids=EQUAL)
def test_same_request_in_another_spelling_returns_the_same_job(
    api: JobsApi, first: dict[str, Any], second: dict[str, Any]
) -> None:
    one = api.submit({"task": "t", **first}, headers={"Idempotency-Key": "k"})
    api.clock.advance(5)
    other = api.submit({"task": "t", **second}, headers={"Idempotency-Key": "k"})
    assert (one[0], other[0]) == (202, 200)
    assert one[1]["id"] == other[1]["id"]
    assert repr(other[1]["payload"]) == repr(one[1]["payload"])  # as it was sent first


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"payload": 1}, {"payload": True}),
        ({"payload": 1.0}, {"payload": "1.0"}),
        ({"payload": 1.0}, {"payload": 1.5}),
        ({"payload": 0.0}, {}),
        ({"delay_seconds": 5.0}, {"delay_seconds": 6}),
        ({"delay_seconds": 0.5}, {}),
    ],
    ids=str,
)
def test_key_with_another_value_is_422(
    api: JobsApi, first: dict[str, Any], second: dict[str, Any]
) -> None:
    one, other = (
        api.submit({"task": "t", **body}, headers={"Idempotency-Key": "k"})[0]
        for body in (first, second)
    )
    assert (one, other) == (202, 422)


def test_key_that_an_older_release_has_stored_finds_its_job(api: JobsApi) -> None:
    """Releases 0.1.0 and 0.2.0 stored one hash, of the request as it was sent."""
    body = {"task": "t", "payload": {"by": 1.0}}
    job_id = api.submit(body, headers={"Idempotency-Key": "k"})[1]["id"]
    key = {"pk": {"S": f"acme/{job_id}"}, "sk": {"S": "job"}}
    item = api.client.get_item(TableName="JobsTable", Key=key)["Item"]
    sent = '{"max_attempts":null,"payload":{"by":1.0},"task":"t"}'
    assert item["fingerprint"] == {"S": hashlib.sha256(sent.encode()).hexdigest()[:32]}
    del item["canonical_fingerprint"]
    api.client.put_item(TableName="JobsTable", Item=item)
    api.clock.advance(5)
    assert api.submit(body, headers={"Idempotency-Key": "k"})[0] == 200


def test_request_without_whole_floats_stores_no_second_hash(api: JobsApi) -> None:
    job_id = api.submit({"task": "t", "payload": {"by": 1, "share": 0.5}})[1]["id"]
    key = {"pk": {"S": f"acme/{job_id}"}, "sk": {"S": "job"}}
    item = api.client.get_item(TableName="JobsTable", Key=key)["Item"]
    assert "canonical_fingerprint" not in item


@pytest.mark.parametrize("header", ["a,b", '"a", "b"', 'a"b'])
def test_two_idempotency_keys_are_rejected(api: JobsApi, header: str) -> None:
    status, body, _ = api.submit(headers={"Idempotency-Key": header})
    assert (status, body["code"], body["field"]) == (400, "invalid-request", "Idempotency-Key")


def test_one_key_of_two_tenants_is_two_jobs(api: JobsApi) -> None:
    first = api.submit(headers={"Idempotency-Key": "k"})
    other = api.submit(headers={"Idempotency-Key": "k"}, caller={**CALLER, "tenant": "other"})
    assert (first[0], other[0]) == (202, 202)
    assert first[1]["id"] != other[1]["id"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"payload": 1}, "task"),
        ({"task": "a b"}, "task"),
        ({"task": "t", "max_attempts": 0}, "max_attempts"),
        ({"task": "t", "max_attempts": 21}, "max_attempts"),
        ({"task": "t", "tenant": "other"}, "tenant"),
        ([], "body"),
    ],
)
def test_invalid_submission_is_400_and_names_its_field(api: JobsApi, body: Any, field: str) -> None:
    status, problem, _ = api.submit(body)
    assert (status, problem["code"], problem["field"]) == (400, "invalid-request", field)


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "{",
        '{"task": "t", "task": "t"}',
        '{"task": NaN}',
        '{"task": "t", "payload": 1e999}',
        r'{"\ud800": 1, "\ud800": 1}',
    ],
)
def test_body_that_is_not_strict_json_is_400(api: JobsApi, raw: str) -> None:
    status, problem, _ = call(api.handler, http("POST /jobs", raw=raw, caller=CALLER))
    assert (status, problem["code"]) == (400, "invalid-request")


def test_unknown_task_is_400_and_lists_known_tasks(api: JobsApi) -> None:
    status, problem, _ = api.submit({"task": "u"})
    assert (status, problem["code"]) == (400, "unknown-task")
    assert problem["detail"].endswith("known tasks: t")


@pytest.mark.parametrize(
    ("size", "status"), [(256 * 1024 - 2, 202), (256 * 1024 - 1, 413), (1024 * 1024, 413)]
)
def test_payload_over_its_limit_is_413(api: JobsApi, size: int, status: int) -> None:
    assert api.submit({"task": "t", "payload": "x" * size})[0] == status


def test_impossible_job_id_is_404(api: JobsApi) -> None:
    assert api.read("a" * 5000)[0] == 404


def test_unknown_job_and_one_of_another_tenant_get_the_same_answer(api: JobsApi) -> None:
    _, job, _ = api.submit()
    foreign = api.read(job["id"], caller={**CALLER, "tenant": "other"})
    assert (foreign[0], foreign[1]["code"]) == (404, "job-not-found")
    assert api.read("id9")[1]["detail"].replace("id9", job["id"]) == foreign[1]["detail"]


@pytest.mark.parametrize("wait", ["-1", "21", "x", "1.5", "", "٣", "9" * 5000])
def test_wait_that_is_not_a_number_of_seconds_is_400(api: JobsApi, wait: str) -> None:
    status, problem, _ = api.read("id1", query={"wait": wait})
    assert (status, problem.get("field")) == (400, "wait")


def test_wait_ends_as_soon_as_the_job_does(api: JobsApi) -> None:
    _, job, _ = api.submit()

    def finish() -> None:
        if len(api.pauses) == 3:
            claimed = api.store.claim(
                "acme", job["id"], nonce="w", now_ms=api.clock(), lease_ms=15_000
            )
            complete(api.store, claimed, result="1", effects=[], now_ms=api.clock())

    api.during_pause = finish
    assert api.read(job["id"], query={"wait": "20"})[1]["status"] == "succeeded"
    assert len(api.pauses) == 3


def test_wait_of_twenty_seconds_has_19_reads_and_no_answer_is_late_by_more_than_its_bound(
    api: JobsApi, faults: Faults
) -> None:
    _, job, _ = api.submit()
    before = faults.requests.count("GetItem")
    assert api.read(job["id"], query={"wait": "20"})[1]["status"] == "queued"
    assert faults.requests.count("GetItem") - before == 19
    waited = 0.05
    for pause in api.pauses[1:]:
        assert pause <= min(2, waited / 2 + 0.051)
        waited += pause


def test_wait_ends_early_with_the_current_job_when_the_process_shuts_down(
    api: JobsApi,
) -> None:
    _, job, _ = api.submit()
    api.is_stopping = True
    assert api.read(job["id"], query={"wait": "20"})[:2] == (200, job)
    assert len(api.pauses) == 1


# ---------------------------------------------------------------- jobs that wait for their time


def items(api: JobsApi) -> dict[str, Any]:
    (item,) = api.client.scan(TableName="JobsTable")["Items"]
    return dict(item)


@pytest.mark.parametrize(
    ("body", "not_before_s", "is_swept"),
    [
        ({"delay_seconds": 60}, 60, False),
        ({"delay_seconds": 900}, 900, False),
        ({"delay_seconds": 901}, 901, True),
        ({"run_at": "2027-01-15T08:30:00Z"}, 1800, True),
        ({"run_at": "2027-01-15T10:30:00+02:00"}, 1800, True),
    ],
)
def test_job_can_be_scheduled(
    api: JobsApi, body: dict[str, Any], not_before_s: int, is_swept: bool
) -> None:
    status, job, _ = api.submit({"task": "t", **body})
    assert (status, job["status"]) == (202, "scheduled")
    item = items(api)
    assert int(item["not_before"]["N"]) == api.clock() + not_before_s * 1000
    assert ("due" in item) is is_swept


@pytest.mark.parametrize("body", [{"delay_seconds": 0}, {"run_at": "2020-01-01T00:00:00Z"}])
def test_time_in_the_past_causes_no_delay(api: JobsApi, body: dict[str, Any]) -> None:
    assert api.submit({"task": "t", **body})[1]["status"] == "queued"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"delay_seconds": -1}, "delay_seconds"),
        ({"delay_seconds": 366 * 86400}, "delay_seconds"),
        ({"delay_seconds": "5"}, "delay_seconds"),
        ({"run_at": "2040-01-01T00:00:00Z"}, "run_at"),
        ({"run_at": "2027-01-15T08:30:00"}, "run_at"),
        ({"run_at": "2027-01-15"}, "run_at"),
        ({"run_at": "soon"}, "run_at"),
        ({"delay_seconds": 1, "run_at": "2027-01-15T08:30:00Z"}, "run_at"),
    ],
)
def test_invalid_time_is_400(api: JobsApi, body: dict[str, Any], field: str) -> None:
    status, problem, _ = api.submit({"task": "t", **body})
    assert (status, problem.get("field")) == (400, field)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2027-01-15T08:30:00Z", 1800),
        ("2027-01-15t08:30:00z", 1800),
        ("2027-01-15T08:30:00-00:00", 1800),
        ("2027-01-15T08:30:00.123456789Z", 1800.123),
        ("2027-01-15T09:30:00+0100", 1800),
        ("2027-01-15T08:30Z", 1800),
        ("20270115T083000Z", 1800),
        ("2027-W02-5T08:30:00Z", 1800),
    ],
)
def test_time_with_an_offset_is_read_in_every_notation_of_iso_8601(
    api: JobsApi, text: str, seconds: float
) -> None:
    status, job, _ = api.submit({"task": "t", "run_at": text})
    assert (status, job["status"]) == (202, "scheduled")
    assert int(items(api)["not_before"]["N"]) == api.clock() + seconds * 1000


@pytest.mark.parametrize(
    "text",
    [
        "2027-01-15T08:30:00",
        "2027-01-15",
        "2027-01-15 08:30:00Z",
        "2027-01-15T24:00:00Z",
        "2027-01-15T08:30:60Z",
    ],
)
def test_time_without_an_offset_or_of_another_notation_is_400(api: JobsApi, text: str) -> None:
    status, problem, _ = api.submit({"task": "t", "run_at": text})
    assert (status, problem["field"]) == (400, "run_at")
    assert "must be an RFC 3339 time with an offset" in problem["detail"]


def test_scheduled_job_cannot_be_claimed_before_its_time(api: JobsApi) -> None:
    _, job, _ = api.submit({"task": "t", "delay_seconds": 60})
    with pytest.raises(ClaimRefused):
        api.store.claim("acme", job["id"], nonce="w", now_ms=api.clock() + 59_999, lease_ms=15_000)
    api.store.claim("acme", job["id"], nonce="w", now_ms=api.clock() + 60_000, lease_ms=15_000)
    assert not {"due", "attention", "not_before"} & set(items(api))


def sweep(api: JobsApi) -> Any:
    return build_sweep(
        SweepDeps(
            operations=api.operations,
            schedules=api.schedules,
            observe=observer("sweep"),
            clock=api.clock,
            reports=NoReports,  # type: ignore[arg-type]  # a fake
        )
    )({}, Context())


def test_sweep_announces_only_jobs_that_are_due_soon(api: JobsApi) -> None:
    near = api.submit({"task": "t", "delay_seconds": 1000})[1]["id"]
    api.submit({"task": "t", "delay_seconds": 5000})
    assert sweep(api) == {"handed_out": 0, "released": 0}
    api.clock.advance(915)
    assert (sweep(api), sweep(api)) == (
        {"handed_out": 0, "released": 1},
        {"handed_out": 0, "released": 0},
    )
    left = [
        item["id"]["S"]
        for item in api.client.scan(TableName="JobsTable")["Items"]
        if "due" not in item
    ]
    assert left == [near]


def test_sweep_of_many_jobs_announces_all_of_them(api: JobsApi) -> None:
    for _ in range(60):  # two calls of 25, and a rest
        api.submit({"task": "t", "delay_seconds": 1000})
    api.clock.advance(915)
    assert sweep(api) == {"handed_out": 0, "released": 60}
    assert not [item for item in api.client.scan(TableName="JobsTable")["Items"] if "due" in item]


# ---------------------------------------------------------------- cancel, redrive, list


@pytest.mark.parametrize("body", [{}, {"delay_seconds": 60}, {"delay_seconds": 5000}])
def test_waiting_job_is_cancelled_immediately_and_finally(
    api: JobsApi, body: dict[str, Any]
) -> None:
    _, job, _ = api.submit({"task": "t", **body})
    for _ in range(2):
        status, cancelled, _ = api.post(job["id"], "cancel")
        assert (status, cancelled["status"]) == (200, "cancelled")
    with pytest.raises(ClaimRefused):
        api.store.claim("acme", job["id"], nonce="w", now_ms=api.clock() + 10**7, lease_ms=15_000)
    assert not {"due", "attention", "not_before"} & set(items(api))


def test_cancelled_job_cannot_commit(api: JobsApi) -> None:
    _, job, _ = api.submit()
    claimed = api.store.claim("acme", job["id"], nonce="w", now_ms=api.clock(), lease_ms=15_000)
    cancelled = api.post(job["id"], "cancel")[1]
    assert (cancelled["status"], cancelled["attempts"][0]["outcome"]) == ("cancelled", "cancelled")
    assert [
        type(lost) for lost in api.store.renew([claimed], now_ms=api.clock(), lease_ms=15_000)
    ] == [StaleWrite]
    with pytest.raises(StaleWrite, match="has ended"):
        complete(api.store, claimed, result="1", effects=[], now_ms=api.clock())
    assert api.read(job["id"])[1] == cancelled


def test_ended_job_cannot_be_cancelled_and_only_a_dead_one_can_be_redriven(api: JobsApi) -> None:
    _, job, _ = api.submit()
    assert api.post(job["id"], "redrive")[1]["code"] == "job-ended"
    claimed = api.store.claim("acme", job["id"], nonce="w", now_ms=api.clock(), lease_ms=15_000)
    complete(api.store, claimed, result="1", effects=[], now_ms=api.clock())
    for verb in ("cancel", "redrive"):
        status, problem, _ = api.post(job["id"], verb)
        assert (status, problem["code"]) == (409, "job-ended")
    assert api.read(job["id"])[1]["status"] == "succeeded"


def test_redriven_job_has_all_its_attempts_again_and_keeps_its_history(
    api: JobsApi,
) -> None:
    _, job, _ = api.submit({"task": "t", "max_attempts": 1})
    api.die(job["id"])
    status, redriven, _ = api.post(job["id"], "redrive")
    assert (status, redriven["status"], redriven["error"], len(redriven["attempts"])) == (
        202,
        "queued",
        None,
        1,
    )
    assert not {"attention", "expires_at"} & set(items(api))
    again = api.store.claim("acme", job["id"], nonce="w2", now_ms=api.clock(), lease_ms=15_000)
    assert (again.run, again.attempt, again.fence, len(again.history)) == (2, 1, 2, 2)


@pytest.mark.parametrize("end", ["commit", "claim"])
def test_replay_that_finds_its_overdue_job_changing_answers_with_the_job(
    api: JobsApi, end: str
) -> None:
    more = {"headers": {"Idempotency-Key": "k"}}
    _, job, _ = api.submit(**more)
    api.clock.advance(200)

    def move() -> None:
        claimed = api.store.claim("acme", job["id"], nonce="w", now_ms=api.clock(), lease_ms=15_000)
        if end == "commit":
            complete(api.store, claimed, result="1", effects=[], now_ms=api.clock())

    once_before(api, "GetItem", move)  # the read of the resend
    status, replayed, _ = api.submit(**more)
    assert (status, replayed["status"]) == (200, "succeeded" if end == "commit" else "running")


def test_replay_announces_a_job_that_has_waited_too_long(api: JobsApi) -> None:
    more = {"headers": {"Idempotency-Key": "k"}}
    api.submit(**more)
    for seconds, resent in ((119, False), (2, True)):
        api.clock.advance(seconds)
        assert api.submit(**more)[0] == 200
        assert ("resent_at" in items(api)) is resent


def once_before(api: JobsApi, call: str, act: Callable[[], object]) -> None:
    """Calls a function when the next request of a kind is about to be sent."""

    def hook(**_: Any) -> None:
        api.client.meta.events.unregister(f"before-call.dynamodb.{call}", hook)
        act()

    api.client.meta.events.register(f"before-call.dynamodb.{call}", hook)


def test_two_redrives_at_once_start_one_run(api: JobsApi) -> None:
    _, job, _ = api.submit({"task": "t", "max_attempts": 1})
    api.die(job["id"])

    def other_redrives_and_a_worker_fails_it_again() -> None:
        api.operations.redrive("acme", job["id"], now_ms=api.clock())
        api.die(job["id"])

    once_before(api, "UpdateItem", other_redrives_and_a_worker_fails_it_again)
    api.post(job["id"], "redrive")
    redriven = api.store.read("acme", job["id"], now_ms=api.clock())
    assert (redriven.run, redriven.status, redriven.attempt) == (2, Status.DEAD, 1)


def test_sweep_does_not_restore_a_deleted_job(api: JobsApi) -> None:
    api.submit({"task": "t", "delay_seconds": 1000})
    item = items(api)
    api.clock.advance(915)
    once_before(
        api,
        "UpdateItem",
        lambda: api.client.delete_item(
            TableName="JobsTable", Key={"pk": item["pk"], "sk": item["sk"]}
        ),
    )
    sweep(api)
    assert api.client.scan(TableName="JobsTable")["Items"] == []


def test_dead_and_scheduled_jobs_are_listed_by_page_and_by_tenant(api: JobsApi) -> None:
    ids = []
    for number in range(60):
        ids.append(api.submit({"task": "t", "payload": number})[1]["id"])
        api.clock.advance(1)
        api.die(ids[-1])
    later = api.submit({"task": "t", "delay_seconds": 60})[1]["id"]
    first = api.list(status="dead")[1]
    second = api.list(status="dead", cursor=first["next"])[1]
    assert [job["id"] for job in first["items"] + second["items"]] == ids
    assert second["next"] is None
    assert [job["id"] for job in api.list(status="scheduled")[1]["items"]] == [later]
    assert api.list(status="dead", task="other")[1]["items"] == []
    foreign = http(
        "GET /jobs",
        query={"status": "dead", "cursor": first["next"]},
        caller={**CALLER, "tenant": "other"},
    )
    assert call(api.handler, foreign)[1] == {"items": [], "next": None}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({}, "status"),
        ({"status": "queued"}, "status"),
        ({"status": "dead", "cursor": "x"}, "cursor"),
        ({"status": "dead", "cursor": "ü"}, "cursor"),
    ],
)
def test_invalid_listing_is_400(api: JobsApi, query: dict[str, str], field: str) -> None:
    status, problem, _ = api.list(**query)
    assert (status, problem.get("field")) == (400, field)


@pytest.mark.parametrize("verb", ["cancel", "redrive"])
def test_job_of_another_tenant_can_be_neither_cancelled_nor_redriven(
    api: JobsApi, verb: str
) -> None:
    _, job, _ = api.submit()
    assert api.post(job["id"], verb, caller={**CALLER, "tenant": "other"})[0] == 404
    assert api.post("a" * 500, verb)[0] == 404


def test_wait_that_times_out_answers_with_the_current_job(api: JobsApi) -> None:
    _, job, _ = api.submit()
    assert api.read(job["id"], query={"wait": "2"})[:2] == (200, job)
    assert sum(api.pauses) == pytest.approx(2, abs=0.01)


def test_job_whose_worker_died_has_an_interrupted_attempt(api: JobsApi) -> None:
    _, job, _ = api.submit()
    api.store.claim("acme", job["id"], nonce="w", now_ms=api.clock(), lease_ms=15_000)
    assert api.read(job["id"])[1]["attempts"][0]["outcome"] == "running"
    api.clock.advance(15.001)
    shown = api.read(job["id"])[1]
    assert (shown["status"], shown["attempts"][0]["outcome"]) == ("interrupted", "interrupted")


@pytest.mark.parametrize(
    ("caller", "status", "code"),
    [
        (None, 401, "unauthenticated"),
        ({"reason": "the key is not known"}, 401, "unauthenticated"),
        ({"tenant": "acme", "scopes": "jobs:read"}, 403, "forbidden"),
        ({"tenant": "acme", "scopes": ""}, 403, "forbidden"),
    ],
)
def test_caller_without_the_scope_is_refused(
    api: JobsApi, caller: Any, status: int, code: str
) -> None:
    answered, problem, headers = call(
        api.handler, http("POST /jobs", body={"task": "t"}, caller=caller)
    )
    assert (answered, problem["code"]) == (status, code)
    assert ("WWW-Authenticate" in headers) == (status == 401)


def test_route_without_scope_cannot_be_registered() -> None:
    with pytest.raises(TypeError, match="scope"):
        Api(observer("test")).get("/x")  # type: ignore[call-arg]


def test_route_of_the_gateway_without_a_handler_is_not_found(api: JobsApi) -> None:
    event = http("GET /other", "/other", caller=CALLER)
    assert call(api.awaiting, event)[0] == 404
