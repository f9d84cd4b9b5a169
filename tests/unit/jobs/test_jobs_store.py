"""The creation and reading of jobs, and every write of their store that gets no answer, on moto."""

from collections.abc import Callable
from typing import Any

import pytest
from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.errors import StoreUnavailable
from mayfly.jobs.errors import JobNotFound
from mayfly.jobs.model import Job, Status
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.rules import RETENTION_SECONDS
from mayfly.jobs.store import ClaimRefused, JobExists, JobStore

from tests.support.clients import Lean, make_client
from tests.support.completion import complete
from tests.support.faults import Faults
from tests.support.jobs import LEASE, NOW, a_job, claim, one_increment, read

# ---------------------------------------------------------------- create


def test_created_job_is_read_back_whole(store: JobStore, job: Job) -> None:
    assert read(store) == job


@pytest.mark.parametrize("size", [10, 1022, 1023, 200_000])
def test_payload_of_any_size_is_read_back(store: JobStore, size: int) -> None:
    big = a_job(payload="x" * size)
    store.create(big)
    assert read(store).payload == big.payload
    assert claim(store).payload == big.payload


def test_status_write_does_not_pay_for_a_large_payload(store: JobStore, dynamodb: Any) -> None:
    store.create(a_job(payload="x" * 200_000))
    items = {item["sk"]["S"]: item for item in dynamodb.scan(TableName="JobsTable")["Items"]}
    assert len(str(items["job"])) < 1500
    assert set(items) == {"job", "payload/f"}


def test_create_of_a_taken_id_returns_the_job_that_has_it(store: JobStore, job: Job) -> None:
    with pytest.raises(JobExists) as caught:
        store.create(a_job(fingerprint="other", payload="y" * 5000))
    assert caught.value.job == job


@pytest.mark.parametrize("payload", ["small", "x" * 5000])
def test_create_whose_answer_is_lost_succeeds_on_retry(
    store: JobStore, faults: Faults, payload: str
) -> None:
    faults.on("PutItem" if payload == "small" else "TransactWriteItems", "after")
    store.create(a_job(payload=payload))
    assert read(store).payload == payload


@pytest.mark.parametrize("payload", ["small", "x" * 5000])
def test_expired_job_is_absent_while_its_item_still_exists(
    store: JobStore, dynamodb: Any, payload: str
) -> None:
    store.create(a_job(payload=payload))
    complete(store, claim(store), result="1", effects=[], now_ms=NOW)
    later = NOW + (RETENTION_SECONDS + 1) * 1000
    with pytest.raises(JobNotFound):
        store.read("acme", "j1", now_ms=later)
    store.create(a_job(created_at_ms=later, fingerprint="new", payload=payload + "!"))
    job_read = store.read("acme", "j1", now_ms=later)
    assert (job_read.status, job_read.payload) == (Status.QUEUED, payload + "!")


def test_job_that_has_ended_keeps_its_id_until_it_expires(store: JobStore, job: Job) -> None:
    complete(store, claim(store), result="1", effects=[], now_ms=NOW)
    done = read(store)
    for later in (NOW + 1, NOW + RETENTION_SECONDS * 1000):
        with pytest.raises(JobExists):
            store.create(a_job(created_at_ms=later, fingerprint="new"))
    assert read(store) == done


def test_job_of_another_tenant_does_not_exist(store: JobStore, job: Job) -> None:
    with pytest.raises(JobNotFound):
        store.read("other", "j1", now_ms=NOW)
    with pytest.raises(ClaimRefused) as caught:
        store.claim("other", "j1", nonce="w1", now_ms=NOW, lease_ms=LEASE)
    assert caught.value.job is None


# ---------------------------------------------------------------- every write without an answer


Write = Callable[[JobStore, JobOperations], object]
WRITES: dict[str, tuple[str, Write, Write]] = {
    # name: (its call, the preparation of the job, the write itself)
    "create": ("PutItem", lambda store, ops: None, lambda store, ops: store.create(a_job(id="j2"))),
    "claim": ("UpdateItem", lambda store, ops: None, lambda store, ops: claim(store)),
    "renew": (
        "UpdateItem",
        lambda store, ops: claim(store),
        lambda store, ops: store.renew([read(store)], now_ms=NOW + 1, lease_ms=LEASE),
    ),
    "commit": (
        "UpdateItem",
        lambda store, ops: claim(store),
        lambda store, ops: complete(store, read(store), result="1", effects=[], now_ms=NOW),
    ),
    "commit with effects": (
        "TransactWriteItems",
        lambda store, ops: claim(store),
        lambda store, ops: complete(
            store, read(store), result="1", effects=one_increment(), now_ms=NOW
        ),
    ),
    "release": (
        "UpdateItem",
        lambda store, ops: claim(store),
        lambda store, ops: store.fail(read(store), error="e", retry_at_ms=NOW, now_ms=NOW),
    ),
    "release for good": (
        "UpdateItem",
        lambda store, ops: claim(store),
        lambda store, ops: store.fail(read(store), error="e", retry_at_ms=None, now_ms=NOW),
    ),
    "bury": (
        "UpdateItem",
        lambda store, ops: claim(store),
        lambda store, ops: store.bury(read(store), now_ms=NOW),
    ),
    "cancel": (
        "UpdateItem",
        lambda store, ops: claim(store),
        lambda store, ops: ops.cancel("acme", "j1", now_ms=NOW),
    ),
    "redrive": (
        "UpdateItem",
        lambda store, ops: store.fail(claim(store), error="e", retry_at_ms=None, now_ms=NOW),
        lambda store, ops: ops.redrive("acme", "j1", now_ms=NOW),
    ),
    "resend": (
        "UpdateItem",
        lambda store, ops: None,
        lambda store, ops: ops.resend("acme", "j1", now_ms=NOW),
    ),
}


@pytest.fixture
def operations(dynamodb: Any) -> JobOperations:
    return JobOperations(JobStore(DynamoDB(dynamodb, lambda attempt: None), "JobsTable"))


def everything(dynamodb: Any) -> list[Any]:
    return sorted(
        (
            item
            for table in ("JobsTable", "CountersTable")
            for item in dynamodb.scan(TableName=table)["Items"]
        ),
        key=str,
    )


@pytest.mark.parametrize("name", WRITES)
def test_write_whose_answer_is_lost_is_made_once(
    store: JobStore, operations: JobOperations, job: Job, faults: Faults, dynamodb: Any, name: str
) -> None:
    call, prepare, write = WRITES[name]
    prepare(store, operations)
    faults.on(call, "after")
    write(store, operations)
    after_one_lost_answer = everything(dynamodb)
    for item in after_one_lost_answer:
        table = "CountersTable" if "value" in item else "JobsTable"
        dynamodb.delete_item(TableName=table, Key={"pk": item["pk"], "sk": item["sk"]})
    store.create(a_job())
    prepare(store, operations)
    write(store, operations)
    assert after_one_lost_answer == everything(dynamodb)


@pytest.mark.parametrize("name", WRITES)
def test_write_that_never_arrives_changes_nothing_and_raises_an_error(
    store: JobStore, operations: JobOperations, job: Job, faults: Faults, dynamodb: Any, name: str
) -> None:
    call, prepare, write = WRITES[name]
    prepare(store, operations)
    before = everything(dynamodb)
    faults.plan = lambda operation, number: "before" if operation == call else None
    with pytest.raises(StoreUnavailable):
        write(store, operations)
    faults.plan = lambda operation, number: None
    assert everything(dynamodb) == before


@pytest.mark.parametrize("operation", ["PutItem", "GetItem", "UpdateItem"])
@pytest.mark.parametrize("kind", ["before", "throttle", "error"])
def test_store_that_does_not_answer_is_named_in_the_error(
    job: Job, operation: str, kind: str
) -> None:
    client = make_client("dynamodb", attempts=1)
    faults, store = Faults(client), JobStore(DynamoDB(client, lambda attempt: None), "JobsTable")
    calls: dict[str, Callable[[], object]] = {
        "PutItem": lambda: store.create(a_job(id="j2")),
        "GetItem": lambda: read(store),
        "UpdateItem": lambda: claim(store),
    }
    faults.plan = lambda name, number: kind if name == operation else None
    with pytest.raises(StoreUnavailable):
        calls[operation]()


def test_contract_runs_on_the_client_that_its_case_names(
    request: pytest.FixtureRequest, dynamodb: Any
) -> None:
    if not hasattr(request.node, "callspec"):
        pytest.skip("MAYFLY_CLIENT names the client of all tests")
    kind = request.node.callspec.params["_client_of_stores"]
    assert isinstance(dynamodb, Lean) == (kind == "lean")
