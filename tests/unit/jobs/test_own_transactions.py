"""Jobs in transactions of the caller's, by boto3's client: with the caller's item, or not at all.

Each test runs on moto, and on the emulator, which knows ClientRequestToken as DynamoDB does.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from botocore.exceptions import ClientError, HTTPClientError
from mayfly import jobs
from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.errors import IdempotencyKeyReused, InvalidRequest, PayloadTooLarge
from mayfly.core.ids import new_nonce
from mayfly.jobs.authoring.task import Declaration
from mayfly.jobs.errors import BadRecord, UnknownTask
from mayfly.jobs.model import Delay, Status, Submission
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.routing.outbox import announcement
from mayfly.jobs.rules import RETENTION_SECONDS, TRANSACTION_PAYLOAD_LIMIT
from mayfly.jobs.store import JobStore
from mayfly.resources import client

from tests.conftest import make_tables
from tests.support.fakes import FixedClock
from tests.support.faults import Faults
from tests.support.jobs import LEASE, NOW

TASKS = {"orders.tally": Declaration("orders.tally", max_attempts=3)}
#: Codes of the reasons for which DynamoDB cancels a transaction.
REFUSED, CONFLICT, NOT_ME = "ConditionalCheckFailed", "TransactionConflict", "None"


@dataclass
class Shop:
    """A user's function: it has a table and a client of its own, and submits jobs."""

    client: Any
    faults: Faults
    store: JobStore
    clock: FixedClock
    orders: str
    #: A tenant of its own, which begins the ids of its orders and its tokens, too.
    tenant: str
    #: True if the store knows a repeated ClientRequestToken. moto does not.
    knows_tokens: bool

    def order(self, number: str, *, has_condition: bool = False) -> dict[str, Any]:
        """Returns the write of an order, refused if the order exists and it has a condition."""
        put: dict[str, Any] = {
            "TableName": self.orders,
            "Item": {"id": {"S": f"{self.tenant}/{number}"}},
        }
        if has_condition:
            put["ConditionExpression"] = "attribute_not_exists(id)"
        return {"Put": put}

    def job(self, number: str, *, key: str | None = None, **payload: Any) -> dict[str, Any]:
        """Returns the write of an order's job; each call notes another time."""
        self.clock.now_ms += 1
        submission = Submission("orders.tally", {"order": number, **payload}, idempotency_key=key)
        return jobs.in_transaction(self.store, submission, tenant=self.tenant, tasks=TASKS)

    def send(self, writes: list[dict[str, Any]], token: str | None = None) -> list[dict[str, Any]]:
        """Sends a transaction; returns the reasons of its cancellation, none if it is committed."""
        options = {} if token is None else {"ClientRequestToken": f"{self.tenant}-{token}"}
        try:
            self.client.transact_write_items(TransactItems=writes, **options)
        except self.client.exceptions.TransactionCanceledException as refusal:
            reasons: list[dict[str, Any]] = refusal.response["CancellationReasons"]
            return reasons
        return []

    def stored(self) -> tuple[int, int]:
        """Returns the number of its orders and of its items in the jobs table."""
        keys = ((self.orders, "id"), (self.store.table, "pk"))
        counts = [
            sum(
                item[name]["S"].startswith(f"{self.tenant}/")
                for item in self.client.scan(TableName=table)["Items"]
            )
            for table, name in keys
        ]
        return counts[0], counts[1]


@pytest.fixture(scope="module")
def on_emulator(endpoint: str) -> str:
    """Makes tables on the emulator, once for all tests; returns the beginning of their names."""
    prefix = new_nonce()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        make_tables(client("dynamodb"), prefix, streams=False)
        make_orders(f"{prefix}Orders")
    return prefix


def make_orders(name: str) -> None:
    client("dynamodb").create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )


@pytest.fixture(params=["moto", "emulator"])
def open_shop(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Callable[[int], Shop]:
    """Returns the function that makes a shop whose client sends each request `attempts` times."""
    on_moto = request.param == "moto"
    if on_moto:
        request.getfixturevalue("tables")
        make_orders("Orders")
        prefix = ""
    else:
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("endpoint"))
        prefix = request.getfixturevalue("on_emulator")

    def made(attempts: int) -> Shop:
        own, clock = client("dynamodb", attempts=attempts), FixedClock(NOW)
        db = DynamoDB(client("dynamodb"), lambda attempt: None)
        store = JobStore(db, f"{prefix}JobsTable", clock=clock)
        faults = Faults(own, on_moto=on_moto)
        return Shop(
            own, faults, store, clock, f"{prefix}Orders", new_nonce(), knows_tokens=not on_moto
        )

    return made


@pytest.fixture
def shop(open_shop: Callable[[int], Shop]) -> Shop:
    return open_shop(3)


@pytest.fixture
def once(open_shop: Callable[[int], Shop]) -> Shop:
    """Returns a shop whose client sends each request once, so that every lost answer shows."""
    return open_shop(1)


# ---------------------------------------------------------------- both, or neither


def test_job_is_committed_with_the_item_of_the_caller(shop: Shop) -> None:
    write = shop.job("7", key="order-7")
    assert shop.send([shop.order("7"), write]) == []
    job = shop.store.read(shop.tenant, jobs.job_of(write).id, now_ms=NOW)
    assert job == jobs.job_of(write)
    assert (job.status, job.payload, job.max_attempts) == (Status.QUEUED, {"order": "7"}, 3)
    assert shop.stored() == (1, 1)


def test_refused_item_of_the_caller_leaves_no_job(shop: Shop) -> None:
    shop.send([shop.order("7")])
    reasons = shop.send([shop.order("7", has_condition=True), shop.job("7")])
    assert [reason["Code"] for reason in reasons] == [REFUSED, NOT_ME]
    assert shop.stored() == (1, 0)


def test_job_is_announced_by_the_stream_like_any_other(shop: Shop) -> None:
    write = shop.job("7")
    message = announcement(write["Put"]["Item"], NOW)
    assert message is not None
    assert message.body == {"tenant": shop.tenant, "id": jobs.job_of(write).id}


def test_job_for_later_is_in_the_index_of_due_jobs(shop: Shop) -> None:
    submission = Submission("orders.tally", None, not_before=Delay(seconds=3600))
    write = jobs.in_transaction(shop.store, submission, tenant=shop.tenant, tasks=TASKS)
    assert write["Put"]["Item"]["due"] == {"S": "due"}
    assert announcement(write["Put"]["Item"], NOW) is None


def test_operations_serve_as_a_store_and_a_store_as_operations(shop: Shop) -> None:
    submission = Submission("orders.tally", None, idempotency_key="k")
    operations = JobOperations(shop.store)
    write = jobs.in_transaction(operations, submission, tenant=shop.tenant, tasks=TASKS)
    for store in (shop.store, operations):
        job, _ = jobs.submit(store, submission, tenant=shop.tenant, tasks=TASKS)
        assert job.id == jobs.job_of(write).id


# ---------------------------------------------------------------- repeats


def test_repeat_with_the_token_and_the_same_write_is_the_same_transaction(shop: Shop) -> None:
    writes = [shop.order("7", has_condition=True), shop.job("7")]
    answers = [shop.send(writes, token="t-7") for _ in range(3)]
    assert answers == [[], [], []] or not shop.knows_tokens
    assert shop.stored() == (1, 1)


def test_repeat_with_the_token_and_a_new_write_is_refused_as_another_one(shop: Shop) -> None:
    if not shop.knows_tokens:
        pytest.skip("moto does not know tokens")
    shop.send([shop.order("7"), shop.job("7", key="order-7")], token="t-7")
    with pytest.raises(ClientError) as refusal:
        shop.send([shop.order("7"), shop.job("7", key="order-7")], token="t-7")
    assert refusal.value.response["Error"]["Code"] == "IdempotentParameterMismatchException"
    assert shop.stored() == (1, 1)


def test_repeat_with_the_key_is_refused_with_the_job_that_exists(shop: Shop) -> None:
    first = shop.job("7", key="order-7")
    shop.send([shop.order("7"), first])
    again = shop.job("7", key="order-7")
    reasons = shop.send([shop.order("7"), again])
    assert [reason["Code"] for reason in reasons] == [NOT_ME, REFUSED]
    assert jobs.existing_job(again, reasons[1]) == jobs.job_of(first)
    assert jobs.existing_job(again, reasons[0]) is None
    assert shop.stored() == (1, 1)


def test_repeat_without_a_key_is_stopped_by_a_condition_of_the_caller_only(shop: Shop) -> None:
    shop.send([shop.order("7", has_condition=True), shop.job("7")])
    reasons = shop.send([shop.order("7", has_condition=True), shop.job("7")])
    assert [reason["Code"] for reason in reasons] == [REFUSED, NOT_ME]
    assert shop.stored() == (1, 1)
    assert shop.send([shop.order("7"), shop.job("7")]) == []
    assert shop.stored() == (1, 2)


def test_key_names_the_same_job_as_in_a_request(shop: Shop) -> None:
    write = shop.job("7", key="order-7")
    shop.send([shop.order("7"), write])
    shop.clock.advance(1)
    submission = Submission("orders.tally", {"order": "7"}, idempotency_key="order-7")
    job, is_new = jobs.submit(shop.store, submission, tenant=shop.tenant, tasks=TASKS)
    assert (job, is_new) == (jobs.job_of(write), False)


def test_job_that_has_ended_is_still_the_existing_one(shop: Shop) -> None:
    write = shop.job("7", key="order-7")
    shop.send([shop.order("7"), write])
    mine = shop.store.claim(
        shop.tenant, jobs.job_of(write).id, nonce="w", now_ms=NOW, lease_ms=LEASE
    )
    shop.store.fail(mine, error="bad", retry_at_ms=None, now_ms=NOW)
    again = shop.job("7", key="order-7")
    job = jobs.existing_job(again, shop.send([again])[0])
    assert job is not None
    assert (job.status, job.error) == (Status.DEAD, "bad")


def test_key_of_an_expired_job_is_free(shop: Shop) -> None:
    write = shop.job("7", key="order-7")
    shop.send([write])
    mine = shop.store.claim(
        shop.tenant, jobs.job_of(write).id, nonce="w", now_ms=NOW, lease_ms=LEASE
    )
    shop.store.fail(mine, error="bad", retry_at_ms=None, now_ms=NOW)
    shop.clock.now_ms += (RETENTION_SECONDS + 60) * 1000
    assert shop.send([shop.job("7", key="order-7")]) == []


def test_key_with_another_body_is_an_error_that_names_the_job(shop: Shop) -> None:
    first = shop.job("7", key="order-7")
    shop.send([first])
    other = shop.job("8", key="order-7")
    (reason,) = shop.send([other])
    with pytest.raises(IdempotencyKeyReused, match=jobs.job_of(first).id):
        jobs.existing_job(other, reason)


def test_existing_job_of_a_large_payload_has_it(shop: Shop) -> None:
    submission = Submission("orders.tally", {"order": "7", "note": "x" * 5000}, idempotency_key="k")
    made, _ = jobs.submit(shop.store, submission, tenant=shop.tenant, tasks=TASKS)
    write = shop.job("7", key="k", note="x" * 5000)
    assert jobs.existing_job(write, shop.send([write])[0]) == made


@pytest.mark.parametrize("code", [NOT_ME, CONFLICT, "ThrottlingError", "ValidationError"])
def test_write_that_was_not_refused_by_its_condition_names_no_job(shop: Shop, code: str) -> None:
    assert jobs.existing_job(shop.job("7"), {"Code": code, "Message": "m"}) is None


def test_item_that_is_not_a_job_is_a_bad_record(shop: Shop) -> None:
    with pytest.raises(BadRecord):
        jobs.existing_job(shop.job("7"), {"Code": REFUSED, "Item": {"pk": {"S": "x"}}})


# ---------------------------------------------------------------- lost answers

#: The fates of a request whose answer is lost: it never arrives, it takes effect, it takes
#: effect after the last repeat, it meets a conflict, or the store has an error.
LOSSES = ["before", "after", "late", "conflict", "error"]


@pytest.mark.parametrize("has_token", [True, False], ids=["same-writes-and-token", "new-writes"])
@pytest.mark.parametrize("losses", list(product(LOSSES, LOSSES)), ids="-".join)
def test_repeats_after_two_lost_answers_are_one_order_and_one_job(
    once: Shop, losses: tuple[str, str], has_token: bool
) -> None:
    def both() -> list[dict[str, Any]]:
        return [once.order("7"), once.job("7", key="order-7")]

    writes, token = both(), "t-7" if has_token else None
    job_id = jobs.job_of(writes[1]).id
    for loss in losses:
        once.faults.on("TransactWriteItems", loss)
        with suppress(HTTPClientError, ClientError):
            once.send(writes, token)
        if not has_token:
            writes = both()
    reasons = once.send(writes, token)
    with suppress(HTTPClientError):
        once.faults.arrive()
    job = jobs.existing_job(writes[1], reasons[1]) if reasons else jobs.job_of(writes[1])
    assert job is not None
    assert job.id == job_id
    assert once.stored() == (1, 1)


@pytest.mark.parametrize("loss", ["before", "after", "error"])
def test_lost_answer_within_the_retries_of_the_client_leaves_one_of_each(
    shop: Shop, loss: str
) -> None:
    shop.faults.on("TransactWriteItems", loss, times=2)
    write = shop.job("7", key="order-7")
    reasons = shop.send([shop.order("7", has_condition=True), write])
    if shop.knows_tokens:  # boto3 gives each call a token of its own
        assert reasons == []
    assert shop.faults.requests == ["TransactWriteItems"] * 3
    assert shop.stored() == (1, 1)


def test_conflict_with_another_transaction_is_not_taken_for_the_job(shop: Shop) -> None:
    shop.faults.cancel(CONFLICT, NOT_ME)
    write = shop.job("7", key="order-7")
    reasons = shop.send([shop.order("7"), write])
    assert [jobs.existing_job(write, reason) for reason in reasons] == [None, None]
    assert shop.send([shop.order("7"), write]) == []


# ---------------------------------------------------------------- payloads and bad input


def test_payload_of_64_kb_is_part_of_the_one_write_and_read_by_workers(shop: Shop) -> None:
    write = shop.job("7", note="x" * (TRANSACTION_PAYLOAD_LIMIT - 100))
    job = jobs.job_of(write)
    assert shop.send([shop.order("7"), write]) == []
    assert shop.stored() == (1, 1)
    assert shop.store.read_many([(shop.tenant, job.id)]) == {(shop.tenant, job.id): job}
    mine = shop.store.claim(shop.tenant, job.id, nonce="w", now_ms=NOW, lease_ms=LEASE)
    assert mine.payload == job.payload


NAN = float("nan")


def test_list_of_jobs_leaves_out_payloads_above_1_kb(shop: Shop) -> None:
    later, operations = Delay(seconds=3600), JobOperations(shop.store)
    for size in (10, 2000):
        submission = Submission("orders.tally", "x" * size, not_before=later)
        shop.send([jobs.in_transaction(shop.store, submission, tenant=shop.tenant, tasks=TASKS)])
    page = jobs.list_by_status(operations, Status.SCHEDULED, tenant=shop.tenant, limit=9)
    assert {job.payload for job in page.jobs} == {"x" * 10, None}
    found = [shop.store.read(shop.tenant, job.id, now_ms=NOW).payload for job in page.jobs]
    assert {*found} == {"x" * 10, "x" * 2000}


GOOD = Submission("orders.tally", {"order": "7"})


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"task": "orders.tell"}, UnknownTask, "known tasks: orders.tally"),
        ({"task": "a b"}, InvalidRequest, "task: must match"),
        ({"task": None}, InvalidRequest, "task: must be a text, not null"),
        ({"payload": {"n": Decimal(1)}}, InvalidRequest, "payload: cannot be .*Decimal"),
        ({"payload": {1: 2}}, InvalidRequest, "payload: the keys of objects must be texts"),
        ({"payload": NAN}, InvalidRequest, "payload: nan is not JSON"),
        ({"payload": "\ud800"}, InvalidRequest, "payload: cannot be written as JSON: .*surrogates"),
        ({"payload": "x" * TRANSACTION_PAYLOAD_LIMIT}, PayloadTooLarge, "the limit is 65536"),
        ({"max_attempts": 0}, InvalidRequest, "max_attempts: must be from 1 to 20"),
        ({"max_attempts": "3"}, InvalidRequest, "max_attempts: must be a whole number"),
        ({"idempotency_key": ""}, InvalidRequest, "idempotency_key: must be a text"),
        ({"idempotency_key": 7}, InvalidRequest, "idempotency_key: must be a text"),
        ({"idempotency_key": "\ud800"}, InvalidRequest, "idempotency_key: must be a text"),
        ({"not_before": Delay(seconds=-1)}, InvalidRequest, "delay_seconds: must be from 0"),
        ({"not_before": Delay(seconds=NAN)}, InvalidRequest, "delay_seconds: must be from 0"),
        ({"not_before": Delay(at_ms=2**60)}, InvalidRequest, "run_at: must be from 0"),
        ({"not_before": Delay(at_ms=NOW * 2)}, InvalidRequest, "run_at: must be within a year"),
    ],
    ids=[
        "unknown-task", "task-with-a-space", "no-task", "decimal", "key-that-is-a-number", "nan",
        "half-a-character", "too-large", "no-attempts", "attempts-as-text", "empty-key",
        "key-as-number", "key-with-half-a-character", "negative-delay", "delay-nan",
        "beyond-all-times", "beyond-a-year",
    ],
)  # fmt: skip
def test_bad_submission_is_refused_before_anything_is_sent(
    shop: Shop, change: dict[str, Any], error: type[Exception], text: str
) -> None:
    submission = replace(GOOD, **change)
    with pytest.raises(error, match=text):
        jobs.in_transaction(shop.store, submission, tenant=shop.tenant, tasks=TASKS)
    if error is PayloadTooLarge:
        return  # a submission of its own may be larger
    with pytest.raises(error, match=text):
        jobs.submit(shop.store, submission, tenant=shop.tenant, tasks=TASKS)
    assert shop.stored() == (0, 0)


@pytest.mark.parametrize("tenant", ["", "a/b", "..", None])
def test_tenant_that_is_not_a_name_is_refused(shop: Shop, tenant: Any) -> None:
    with pytest.raises(InvalidRequest, match="tenant: must match"):
        jobs.in_transaction(shop.store, GOOD, tenant=tenant, tasks=TASKS)


@pytest.mark.parametrize("attempts", [2, 2.0])
def test_whole_number_of_attempts_is_stored_as_one(shop: Shop, attempts: Any) -> None:
    write = jobs.in_transaction(
        shop.store, replace(GOOD, max_attempts=attempts), tenant="acme", tasks=TASKS
    )
    assert write["Put"]["Item"]["max_attempts"] == {"N": "2"}
