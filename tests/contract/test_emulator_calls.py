"""Behaviour that the emulator must share with AWS.

An upgrade that loses writes then fails here and not in a demo.

Exact counts, eight threads, a real process. The figures of other emulators: docs/decisions/0003.
"""

import json
import random
import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from botocore.exceptions import ClientError

from mayfly_testing.stack import wait_until

THREADS = 8


def client(service: str, endpoint: str) -> Any:
    from mayfly_local.emulator.clients import Clients

    return Clients(endpoint).get(service)


@pytest.fixture
def dynamodb(endpoint: str) -> Any:
    return client("dynamodb", endpoint)


@pytest.fixture
def sqs(endpoint: str) -> Any:
    return client("sqs", endpoint)


@pytest.fixture
def table(dynamodb: Any) -> str:
    name = f"t-{uuid.uuid4().hex[:8]}"
    dynamodb.create_table(
        TableName=name,
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )
    return name


@pytest.fixture
def queue(sqs: Any) -> str:
    url: str = sqs.create_queue(
        QueueName=f"q-{uuid.uuid4().hex[:8]}", Attributes={"VisibilityTimeout": "30"}
    )["QueueUrl"]
    return url


def together(work: Callable[[int], Any]) -> list[Any]:
    """Runs `work(number)` in all threads at once."""
    barrier = threading.Barrier(THREADS)

    def one(number: int) -> Any:
        barrier.wait()
        return work(number)

    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(one, range(THREADS)))


def number(dynamodb: Any, table: str, pk: str, name: str = "n") -> int:
    item = dynamodb.get_item(TableName=table, Key={"pk": {"S": pk}}, ConsistentRead=True).get(
        "Item", {}
    )
    return int(item.get(name, {"N": "0"})["N"])


def add(
    table: str, pk: str, by: int = 1, condition: str | None = None, **values: Any
) -> dict[str, Any]:
    update = {
        "TableName": table,
        "Key": {"pk": {"S": pk}},
        "UpdateExpression": "ADD n :by",
        "ExpressionAttributeValues": {":by": {"N": str(by)}, **values},
    }
    return {"Update": {**update, "ConditionExpression": condition} if condition else update}


def is_code(problem: ClientError, code: str) -> bool:
    return problem.response["Error"]["Code"] == code


# ---------------------------------------------------------------- DynamoDB


def test_version_checked_increments_are_all_counted(dynamodb: Any, table: str) -> None:
    def work(_: int) -> None:
        done = 0
        while done < 20:
            seen = number(dynamodb, table, "a")
            try:
                dynamodb.update_item(
                    TableName=table,
                    Key={"pk": {"S": "a"}},
                    UpdateExpression="SET n = :next",
                    ConditionExpression="n = :seen" if seen else "attribute_not_exists(n)",
                    ExpressionAttributeValues={
                        ":next": {"N": str(seen + 1)},
                        **({":seen": {"N": str(seen)}} if seen else {}),
                    },
                )
                done += 1
            except ClientError as problem:
                assert is_code(problem, "ConditionalCheckFailedException")

    together(work)
    assert number(dynamodb, table, "a") == THREADS * 20


def test_one_of_many_concurrent_puts_if_absent_succeeds(dynamodb: Any, table: str) -> None:
    def work(who: int) -> int:
        wins = 0
        for key in range(50):
            try:
                item = {"pk": {"S": f"k{key}"}, "who": {"N": str(who)}}
                dynamodb.put_item(
                    TableName=table, Item=item, ConditionExpression="attribute_not_exists(pk)"
                )
                wins += 1
            except ClientError as problem:
                assert is_code(problem, "ConditionalCheckFailedException")
        return wins

    assert sum(together(work)) == 50


def test_transfers_keep_the_sum_and_are_never_read_half_done(dynamodb: Any, table: str) -> None:
    names = ["a", "b", "c", "d"]
    for name in names:
        dynamodb.put_item(TableName=table, Item={"pk": {"S": name}, "n": {"N": "100"}})

    def balances() -> int:
        reply = dynamodb.transact_get_items(
            TransactItems=[
                {"Get": {"TableName": table, "Key": {"pk": {"S": name}}}} for name in names
            ]
        )
        return sum(int(response["Item"]["n"]["N"]) for response in reply["Responses"])

    def work(who: int) -> None:
        chance = random.Random(who)
        for turn in range(40):
            if who == 0:
                assert balances() == 400
                continue
            source, target = chance.sample(names, 2)
            amount = chance.randint(1, 60)
            try:
                dynamodb.transact_write_items(
                    TransactItems=[
                        add(
                            table,
                            source,
                            -amount,
                            "n >= :amount",
                            **{":amount": {"N": str(amount)}},
                        ),
                        add(table, target, amount),
                    ]
                )
            except dynamodb.exceptions.TransactionCanceledException as refused:
                assert {reason["Code"] for reason in refused.response["CancellationReasons"]} <= {
                    "ConditionalCheckFailed",
                    "TransactionConflict",
                    "None",
                }, turn

    together(work)
    assert balances() == 400


def test_cancelled_transactions_never_undo_increments_of_other_writers(
    dynamodb: Any, table: str
) -> None:
    def work(who: int) -> None:
        for _ in range(60):
            if who % 2:
                with pytest.raises(dynamodb.exceptions.TransactionCanceledException):
                    dynamodb.transact_write_items(
                        TransactItems=[
                            add(table, "x"),
                            add(table, "y", 1, "attribute_exists(nothing)"),
                        ]
                    )
            else:
                dynamodb.update_item(**add(table, "a")["Update"])

    together(work)
    assert number(dynamodb, table, "a") == THREADS // 2 * 60
    assert number(dynamodb, table, "x") == 0


def test_transaction_token_applies_once_and_rejects_other_content(
    dynamodb: Any, table: str
) -> None:
    for _ in range(3):
        dynamodb.transact_write_items(TransactItems=[add(table, "a")], ClientRequestToken="token-1")
    assert number(dynamodb, table, "a") == 1
    with pytest.raises(ClientError) as refused:
        dynamodb.transact_write_items(
            TransactItems=[add(table, "a", 2)], ClientRequestToken="token-1"
        )
    assert is_code(refused.value, "IdempotentParameterMismatchException")


def test_refused_write_returns_the_existing_item(dynamodb: Any, table: str) -> None:
    dynamodb.put_item(TableName=table, Item={"pk": {"S": "a"}, "n": {"N": "7"}})
    with pytest.raises(ClientError) as alone:
        dynamodb.update_item(
            **add(table, "a", 1, "attribute_not_exists(pk)")["Update"],
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    assert dict(alone.value.response)["Item"] == {"pk": {"S": "a"}, "n": {"N": "7"}}
    write = add(table, "a", 1, "attribute_not_exists(pk)")
    write["Update"]["ReturnValuesOnConditionCheckFailure"] = "ALL_OLD"
    with pytest.raises(dynamodb.exceptions.TransactionCanceledException) as grouped:
        dynamodb.transact_write_items(TransactItems=[add(table, "b"), write])
    reasons = grouped.value.response["CancellationReasons"]
    assert [reason["Code"] for reason in reasons] == ["None", "ConditionalCheckFailed"]
    assert reasons[1]["Item"]["n"] == {"N": "7"}


def test_stream_has_every_change_in_order_and_none_for_a_refused_write(
    dynamodb: Any, endpoint: str, table: str
) -> None:
    for value in range(5):
        dynamodb.put_item(TableName=table, Item={"pk": {"S": "a"}, "n": {"N": str(value)}})
    with pytest.raises(ClientError):
        dynamodb.put_item(
            TableName=table, Item={"pk": {"S": "a"}}, ConditionExpression="attribute_not_exists(pk)"
        )
    assert changes(dynamodb, endpoint, table) == [
        ("INSERT", "a", "0"), *[("MODIFY", "a", str(value)) for value in range(1, 5)]
    ]  # fmt: skip


def changes(dynamodb: Any, endpoint: str, table: str) -> list[tuple[str, str, str | None]]:
    """Returns the records of a table's stream: event, key and the attribute `n` after it."""
    streams = client("dynamodbstreams", endpoint)
    arn = dynamodb.describe_table(TableName=table)["Table"]["LatestStreamArn"]
    (shard,) = streams.describe_stream(StreamArn=arn)["StreamDescription"]["Shards"]
    position = streams.get_shard_iterator(
        StreamArn=arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
    )["ShardIterator"]
    return [
        (
            record["eventName"],
            record["dynamodb"]["Keys"]["pk"]["S"],
            record["dynamodb"].get("NewImage", {}).get("n", {}).get("N"),
        )
        for record in streams.get_records(ShardIterator=position)["Records"]
    ]


def statement(text: str, *values: dict[str, str]) -> dict[str, Any]:
    return {"Statement": text, **({"Parameters": list(values)} if values else {})}


def test_stream_has_every_write_of_a_statement(dynamodb: Any, endpoint: str, table: str) -> None:
    a, b = {"S": "a"}, {"S": "b"}
    insert = f"INSERT INTO \"{table}\" VALUE {{'pk': ?, 'n': ?}}"
    update = f'UPDATE "{table}" SET "n" = ? WHERE "pk" = ?'
    dynamodb.execute_statement(**statement(insert, a, {"N": "1"}))
    dynamodb.batch_execute_statement(
        Statements=[statement(update, {"N": "2"}, a), statement(insert, b, {"N": "3"})]
    )
    dynamodb.execute_statement(**statement(f'UPDATE "{table}" REMOVE "n" WHERE "pk" = ?', a))
    dynamodb.execute_transaction(
        TransactStatements=[
            statement(update, {"N": "4"}, a),
            statement(f'DELETE FROM "{table}" WHERE "pk" = ?', b),
        ]
    )
    assert changes(dynamodb, endpoint, table) == [
        ("INSERT", "a", "1"), ("MODIFY", "a", "2"), ("INSERT", "b", "3"), ("MODIFY", "a", None),
        ("MODIFY", "a", "4"), ("REMOVE", "b", None),
    ]  # fmt: skip


def test_stream_has_no_record_of_statements_that_are_refused_cancelled_or_change_nothing(
    dynamodb: Any, endpoint: str, table: str
) -> None:
    a = {"S": "a"}
    dynamodb.put_item(TableName=table, Item={"pk": a, "n": {"N": "1"}})
    update = f'UPDATE "{table}" SET "n" = ? WHERE "pk" = ?'
    refused = statement(f'{update} AND "n" = ?', {"N": "2"}, a, {"N": "9"})
    (reply,) = dynamodb.batch_execute_statement(Statements=[refused])["Responses"]
    assert reply["Error"]["Code"] == "ConditionalCheckFailed"
    with pytest.raises(ClientError, match="TransactionCanceledException"):
        dynamodb.execute_transaction(
            TransactStatements=[
                statement(f"INSERT INTO \"{table}\" VALUE {{'pk': ?}}", {"S": "b"}),
                refused,
            ]
        )
    dynamodb.execute_statement(**statement(update, {"N": "1"}, a))
    assert changes(dynamodb, endpoint, table) == [("INSERT", "a", "1")]


# ---------------------------------------------------------------- SQS


def receive(sqs: Any, queue: str, count: int = 10, wait: int = 0) -> list[dict[str, Any]]:
    reply = sqs.receive_message(
        QueueUrl=queue, MaxNumberOfMessages=count, WaitTimeSeconds=wait, AttributeNames=["All"]
    )
    return list(reply.get("Messages", []))


def test_every_message_is_received_by_one_of_many_receivers(sqs: Any, queue: str) -> None:
    for start in range(0, 200, 10):
        entries = [{"Id": str(number), "MessageBody": str(start + number)} for number in range(10)]
        sqs.send_message_batch(QueueUrl=queue, Entries=entries)

    def work(_: int) -> list[str]:
        found = []
        while messages := receive(sqs, queue):
            found += [message["Body"] for message in messages]
            sqs.delete_message_batch(
                QueueUrl=queue,
                Entries=[
                    {"Id": str(i), "ReceiptHandle": each["ReceiptHandle"]}
                    for i, each in enumerate(messages)
                ],
            )
        return found

    assert sorted(int(body) for found in together(work) for body in found) == list(range(200))


def test_message_is_hidden_for_its_visibility_timeout_and_counts_its_receives(
    sqs: Any, queue: str
) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="m")
    (first,) = receive(sqs, queue)
    assert receive(sqs, queue) == []
    sqs.change_message_visibility(
        QueueUrl=queue, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=1
    )
    started = time.monotonic()
    (again,) = wait_until(lambda: receive(sqs, queue), 5)
    assert 0.8 < time.monotonic() - started < 2.5
    assert again["Attributes"]["ApproximateReceiveCount"] == "2"
    sqs.change_message_visibility(
        QueueUrl=queue, ReceiptHandle=again["ReceiptHandle"], VisibilityTimeout=0
    )
    assert len(receive(sqs, queue)) == 1


def test_long_poll_returns_when_a_message_arrives(sqs: Any, queue: str) -> None:
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(receive, sqs, queue, 1, 10)
        wait_until(waiting.running, 5)
        started = time.monotonic()
        sqs.send_message(QueueUrl=queue, MessageBody="m")
        assert len(waiting.result(10)) == 1
        assert time.monotonic() - started < 2


def test_message_that_fails_too_often_is_moved_to_the_dead_letter_queue(
    sqs: Any, queue: str
) -> None:
    dead = sqs.create_queue(QueueName=f"dead-{uuid.uuid4().hex[:8]}")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"][
        "QueueArn"
    ]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 2})
    sqs.set_queue_attributes(
        QueueUrl=queue, Attributes={"RedrivePolicy": policy, "VisibilityTimeout": "0"}
    )
    sqs.send_message(QueueUrl=queue, MessageBody="m")
    receives = 0
    while receive(sqs, queue):
        receives += 1
    assert receives == 2
    assert [message["Body"] for message in wait_until(lambda: receive(sqs, dead), 5)] == ["m"]


def test_group_with_a_backlog_does_not_delay_another(sqs: Any, queue: str) -> None:
    """Fair queues: the group is the tenant."""
    for number in range(30):
        sqs.send_message(QueueUrl=queue, MessageBody=f"loud {number}", MessageGroupId="loud")
    sqs.send_message(QueueUrl=queue, MessageBody="quiet", MessageGroupId="quiet")
    bodies = [message["Body"] for message in receive(sqs, queue)]
    assert bodies == ["loud 0", "quiet", *(f"loud {number}" for number in range(1, 9))]
    sqs.send_message(QueueUrl=queue, MessageBody="quiet too", MessageGroupId="quiet")
    sqs.send_message(QueueUrl=queue, MessageBody="no group")
    bodies = [message["Body"] for message in receive(sqs, queue, 3)]
    assert bodies == ["no group", "quiet too", "loud 9"]


def test_group_with_messages_in_flight_is_not_forgotten(sqs: Any, queue: str) -> None:
    for number in range(9):
        sqs.send_message(QueueUrl=queue, MessageBody=f"loud {number}", MessageGroupId="loud")
    receive(sqs, queue, 5)
    for number in range(9):
        sqs.send_message(QueueUrl=queue, MessageBody=f"quiet {number}", MessageGroupId="quiet")
    bodies = [message["Body"] for _ in range(4) for message in receive(sqs, queue, 4)]
    assert bodies[:7] == [*(f"quiet {number}" for number in range(5)), "loud 5", "quiet 5"]
    assert sorted(bodies) == sorted(
        [f"loud {number}" for number in range(5, 9)] + [f"quiet {number}" for number in range(9)]
    )


def test_fifo_queue_drops_a_duplicate_and_keeps_the_order_of_a_group(sqs: Any) -> None:
    attributes = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    fifo = sqs.create_queue(QueueName=f"q-{uuid.uuid4().hex[:8]}.fifo", Attributes=attributes)[
        "QueueUrl"
    ]
    for body in ("1", "1", "2", "3"):
        sqs.send_message(QueueUrl=fifo, MessageBody=body, MessageGroupId="g")
    bodies = []
    while messages := receive(sqs, fifo, 1):
        bodies += [message["Body"] for message in messages]
        sqs.delete_message(QueueUrl=fifo, ReceiptHandle=messages[0]["ReceiptHandle"])
    assert bodies == ["1", "2", "3"]


def test_stale_receipt_does_not_delete_a_message_that_was_received_again(
    sqs: Any, queue: str
) -> None:
    sqs.send_message(QueueUrl=queue, MessageBody="m")
    (first,) = receive(sqs, queue)
    sqs.change_message_visibility(
        QueueUrl=queue, ReceiptHandle=first["ReceiptHandle"], VisibilityTimeout=0
    )
    (second,) = wait_until(lambda: receive(sqs, queue), 5)
    with pytest.raises(ClientError):
        sqs.delete_message(QueueUrl=queue, ReceiptHandle=first["ReceiptHandle"])
    sqs.change_message_visibility(
        QueueUrl=queue, ReceiptHandle=second["ReceiptHandle"], VisibilityTimeout=0
    )
    assert len(wait_until(lambda: receive(sqs, queue), 5)) == 1
