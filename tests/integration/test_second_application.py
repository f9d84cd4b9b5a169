"""An application other than Mayfly runs by `mayfly up --template`.

It has HTTP, a queue, a stream, a schedule, filters and failures.
"""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from mayfly_testing.stack import ROOT, Stack, running, wait_until


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    template = ROOT / "tests" / "apps" / "orders" / "template.yaml"
    with running(
        tmp_path_factory.mktemp("orders"),
        "--parameter",
        "Shop=west",
        "--ttl-lag",
        "1",
        template=template,
    ) as found:
        yield found


def place(stack: Stack, name: str) -> requests.Response:
    return requests.post(f"{stack.url}/orders/{name}", data="please", timeout=60)


def orders(stack: Stack, name: str) -> list[dict[str, Any]]:
    return [item for item in stack.items("Orders") if item.get("name") == {"S": name}]


def dead(stack: Stack, queue: str) -> list[dict[str, Any]]:
    reply = stack.client("sqs").receive_message(
        QueueUrl=stack.facts["resources"][queue], WaitTimeSeconds=1
    )
    return list(reply.get("Messages", []))


def counted(stack: Stack, name: str) -> int:
    found = [item for item in stack.items("Orders") if item["id"] == {"S": f"count of {name}"}]
    return int(found[0]["orders"]["N"]) if found else 0


def test_order_goes_through_queue_and_stream(stack: Stack) -> None:
    reply = place(stack, "good")
    assert (reply.status_code, reply.text) == (202, "west")
    wait_until(lambda: orders(stack, "good"), 20)
    assert orders(stack, "good")[0]["note"] == {"S": "please"}
    wait_until(lambda: counted(stack, "good") == 1, 20)


def test_messages_within_a_batching_window_are_one_batch(stack: Stack) -> None:
    url = stack.facts["resources"]["Incoming"]
    place(stack, "warm")  # so that no cold start takes part
    wait_until(lambda: orders(stack, "warm"), 20)
    for start in (0, 7):
        entries = [
            {"Id": str(each), "MessageBody": '{"name": "bulk"}'} for each in range(start, start + 7)
        ]
        stack.client("sqs").send_message_batch(QueueUrl=url, Entries=entries)
    wait_until(lambda: len(orders(stack, "bulk")) == 14, 20)
    assert {item["batch"]["N"] for item in orders(stack, "bulk")} == {"14"}


def test_filtered_message_is_dropped(stack: Stack) -> None:
    place(stack, "ignored")
    place(stack, "after")
    wait_until(lambda: orders(stack, "after"), 20)
    assert orders(stack, "ignored") == []
    attributes = stack.client("sqs").get_queue_attributes(
        QueueUrl=stack.facts["resources"]["Incoming"], AttributeNames=["All"]
    )["Attributes"]
    assert attributes["ApproximateNumberOfMessagesNotVisible"] == "0"


def test_refused_message_ends_alone_in_the_dead_letter_queue(stack: Stack) -> None:
    for name in ("fine", "refused", "fine"):
        place(stack, name)
    wait_until(lambda: len(orders(stack, "fine")) == 2, 20)
    (message,) = wait_until(lambda: dead(stack, "Refused"), 60, what="the dead letter")
    assert '"refused"' in message["Body"]
    assert orders(stack, "refused") == []


def test_stream_record_that_always_fails_is_bisected_out_and_reported(stack: Stack) -> None:
    table = stack.facts["resources"]["Orders"]
    names = ["a", "b", "uncountable", "c", "d"]
    stack.client("dynamodb").transact_write_items(
        TransactItems=[
            {
                "Put": {
                    "TableName": table,
                    "Item": {"id": {"S": f"x-{name}"}, "kind": {"S": "order"}, "name": {"S": name}},
                }
            }
            for name in names
        ]
    )
    wait_until(
        lambda: [counted(stack, name) for name in names] == [1, 1, 0, 1, 1],
        30,
        what="the neighbours' count",
    )
    (message,) = wait_until(lambda: dead(stack, "Uncountable"), 30, what="the report")
    assert '"batchSize": 1' in message["Body"]
    assert '"RetryAttemptsExhausted"' in message["Body"]


def test_preflight_is_answered_by_the_api(stack: Stack) -> None:
    headers = {"Origin": "https://shop.example", "Access-Control-Request-Method": "POST"}
    allowed = requests.options(f"{stack.url}/orders/x", headers=headers, timeout=60)
    assert (allowed.status_code, allowed.headers["Access-Control-Allow-Origin"]) == (
        204,
        "https://shop.example",
    )
    foreign = requests.options(
        f"{stack.url}/orders/x", headers={**headers, "Origin": "https://other.example"}, timeout=60
    )
    assert "Access-Control-Allow-Origin" not in foreign.headers


def test_api_answers_404_itself_without_a_default_route(stack: Stack) -> None:
    assert (stack.get("/nothing").status_code, stack.get("/nothing").json()) == (
        404,
        {"message": "Not Found"},
    )


def test_expired_item_is_deleted_after_the_lag_and_not_before_its_time(stack: Stack) -> None:
    # The emulator deletes by the real clock.
    table, now = stack.facts["resources"]["Orders"], int(time.time())  # noqa: TID251
    for name, gone_at in (("gone", now - 5), ("later", now + 600)):
        stack.client("dynamodb").put_item(
            TableName=table, Item={"id": {"S": name}, "gone_at": {"N": str(gone_at)}}
        )
    wait_until(
        lambda: {"S": "gone"} not in [item["id"] for item in stack.items("Orders")],
        20,
        what="the reaping",
    )
    assert {"S": "later"} in [item["id"] for item in stack.items("Orders")]


def test_schedule_runs_its_function(stack: Stack) -> None:
    (tick,) = wait_until(
        lambda: [item for item in stack.items("Orders") if item["id"] == {"S": "tick"}],
        75,
        what="a tick of the minute",
        interval=1,
    )
    assert tick["source"] == {"S": "aws.events"}
