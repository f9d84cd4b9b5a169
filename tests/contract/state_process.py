"""Random calls to the emulator over a state folder.

Prints all that it holds afterwards, as a digest for each kind of row.

usage: state_process.py FOLDER SEED CALLS (0 calls: only print what a fresh start reads)
"""

import asyncio
import hashlib
import json
import os
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.update(
    MINISTACK_REGION="us-east-1", GATEWAY_PORT="4000", MINISTACK_HOST="127.0.0.1", LOG_LEVEL="ERROR"
)
folder, seed, calls = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
os.environ.update(S3_PERSIST="1", S3_DATA_DIR=str(folder / "s3"))

from ministack.services import dynamodb, s3, sqs, ssm  # noqa: E402

import mayfly_local.emulator.contents as emulator_state  # noqa: E402
from mayfly_local.emulator.durable import Durable  # noqa: E402
from mayfly_local.emulator.packed import load  # noqa: E402

dice = random.Random(seed)


async def call(module: Any, target: str, **body: Any) -> tuple[int, dict[str, Any]]:
    status, _, reply = await module.handle_request(
        "POST", "/", {"x-amz-target": target}, json.dumps(body).encode(), {}
    )
    durable.commit()
    return status, json.loads(reply or b"{}")


async def db(action: str, **body: Any) -> tuple[int, dict[str, Any]]:
    return await call(dynamodb, f"DynamoDB_20120810.{action}", **body)


async def queue(action: str, **body: Any) -> tuple[int, dict[str, Any]]:
    return await call(sqs, f"AmazonSQS.{action}", **body)


async def make_table(name: str) -> None:
    status, reply = await db(
        "CreateTable", TableName=name, BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk",
        "g")],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk",
        "KeyType": "RANGE"}],
        GlobalSecondaryIndexes=[{"IndexName": "by-g",
        "KeySchema": [{"AttributeName": "g", "KeyType": "HASH"}],
        "Projection": {"ProjectionType": "ALL"}}],
        StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
    )  # fmt: skip
    assert status == 200, reply


def key() -> dict[str, Any]:
    return {"pk": {"S": f"p{dice.randrange(6)}"}, "sk": {"S": f"s{dice.randrange(3)}"}}


def item() -> dict[str, Any]:
    return {
        **key(),
        "n": {"N": str(dice.randrange(100))},
        "g": {"S": f"g{dice.randrange(3)}"},
        "b": {"B": "AAEC"},
        "l": {"L": [{"S": "é"}, {"NULL": True}]},
    }


def table() -> str:
    return dice.choice(["aaa", "bbb"])


async def put() -> None:
    await db("PutItem", TableName=table(), Item=item())


async def update() -> None:
    await db(
        "UpdateItem",
        TableName=table(),
        Key=key(),
        UpdateExpression="ADD n :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
    )


async def update_if() -> None:
    await db(
        "UpdateItem", TableName=table(), Key=key(), UpdateExpression="SET n = :n",
        ConditionExpression="n > :n",
        ExpressionAttributeValues={":n": {"N": "50"}},
    )  # fmt: skip


async def delete() -> None:
    await db("DeleteItem", TableName=table(), Key=key())


async def batch() -> None:
    writes = [
        {"PutRequest": {"Item": {**item(), "pk": {"S": f"q{number}"}}}} for number in range(3)
    ]
    await db("BatchWriteItem", RequestItems={table(): [*writes, {"DeleteRequest": {"Key": key()}}]})


async def transact() -> None:
    token = {"ClientRequestToken": f"t{dice.randrange(5)}"} if dice.random() < 0.7 else {}
    update = {
        "TableName": "aaa",
        "Key": key(),
        "UpdateExpression": "ADD n :one",
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    }
    condition = {"ConditionExpression": "attribute_exists(pk)"} if dice.random() < 0.4 else {}
    await db(
        "TransactWriteItems",
        TransactItems=[
            {"Put": {"TableName": "bbb", "Item": item()}},
            {"Update": {**update, **condition}},
        ],
        **token,
    )


async def statement() -> None:
    item_key = key()
    where = f"WHERE pk = '{item_key['pk']['S']}' AND sk = '{item_key['sk']['S']}'"
    kind = dice.choice(
        [
            f'UPDATE "aaa" SET n = 7 {where}',
            f'DELETE FROM "aaa" {where}',
            f"INSERT INTO \"aaa\" VALUE {{'pk': 'x{dice.randrange(9)}', 'sk': 's'}}",
        ]
    )
    if dice.random() < 0.5:
        await db("BatchExecuteStatement", Statements=[{"Statement": kind}])
    else:
        await db(
            "ExecuteTransaction",
            TransactStatements=[
                {"Statement": kind},
                {"Statement": f'UPDATE "bbb" SET n = 1 {where}'},
            ],
        )


async def drop() -> None:
    name = table()
    if dice.random() < 0.3:
        await db("DeleteTable", TableName=name)
        await make_table(name)


async def send() -> None:
    await queue(
        "SendMessage",
        QueueUrl="q",
        MessageBody=f"m{dice.random()}",
        DelaySeconds=dice.choice([0, 0, 60]),
    )
    await queue(
        "SendMessageBatch",
        QueueUrl="q",
        Entries=[{"Id": str(number), "MessageBody": "batch"} for number in range(3)],
    )
    await queue(
        "SendMessage",
        QueueUrl="f.fifo",
        MessageBody=f"f{dice.randrange(4)}",
        MessageGroupId=f"g{dice.randrange(2)}",
    )


async def receive() -> None:
    name = dice.choice(["q", "f.fifo"])
    _, reply = await queue(
        "ReceiveMessage",
        QueueUrl=name,
        MaxNumberOfMessages=5,
        VisibilityTimeout=dice.choice([0, 0, 30]),
    )
    for message in reply.get("Messages", []):
        handle = {"ReceiptHandle": message["ReceiptHandle"]}
        match dice.randrange(5):
            case 0:
                await queue("DeleteMessage", QueueUrl=name, **handle)
            case 1:
                await queue("DeleteMessageBatch", QueueUrl=name, Entries=[{"Id": "a", **handle}])
            case 2:
                await queue(
                    "ChangeMessageVisibility",
                    QueueUrl=name,
                    VisibilityTimeout=dice.choice([0, 99]),
                    **handle,
                )
            case 3:
                await queue(
                    "ChangeMessageVisibilityBatch",
                    QueueUrl=name,
                    Entries=[{"Id": "a", "VisibilityTimeout": 77, **handle}],
                )


async def purge() -> None:
    if dice.random() < 0.2:
        await queue("PurgeQueue", QueueUrl="q")


async def settings() -> None:
    await queue(
        "SetQueueAttributes",
        QueueUrl="q",
        Attributes={"VisibilityTimeout": str(dice.randrange(10, 99))},
    )
    await queue("TagQueue", QueueUrl="q", Tags={f"t{dice.randrange(3)}": "v"})
    await call(
        ssm,
        "AmazonSSM.PutParameter",
        Name=f"/p{dice.randrange(3)}",
        Value=str(dice.random()),
        Type="String",
        Overwrite=True,
    )
    await db(
        "TagResource",
        ResourceArn="arn:aws:dynamodb:us-east-1:000000000000:table/aaa",
        Tags=[{"Key": "k", "Value": str(dice.random())}],
    )


async def store_object() -> None:
    await s3.handle_request("PUT", "/bucket", {}, b"", {})
    durable.commit()
    await s3.handle_request("PUT", f"/bucket/k{dice.randrange(5)}", {}, os.urandom(20), {})
    durable.commit()
    if dice.random() < 0.3:
        await s3.handle_request("DELETE", f"/bucket/k{dice.randrange(5)}", {}, b"", {})
        durable.commit()


async def read_stream() -> None:
    arn = dynamodb._tables["aaa"]["LatestStreamArn"]
    records = list(dynamodb._stream_records.get("aaa") or [])
    if records:
        durable.serve("mappings", {"M": {"stream": arn, "starts_at": "TRIM_HORIZON"}})
        durable.serve(
            "read",
            {"mapping": "M", "sequence_number": dice.choice(records)["dynamodb"]["SequenceNumber"]},
        )
        durable.commit()


async def work() -> None:
    await make_table("aaa")
    await make_table("bbb")
    for name, more in (
        ("dead", {}),
        ("f.fifo", {"FifoQueue": "true", "ContentBasedDeduplication": "true"}),
    ):
        await queue("CreateQueue", QueueName=name, Attributes=more)
    redrive = json.dumps(
        {"deadLetterTargetArn": "arn:aws:sqs:us-east-1:000000000000:dead", "maxReceiveCount": 3}
    )
    await queue("CreateQueue", QueueName="q", Attributes={"RedrivePolicy": redrive})
    verbs = [
        put,
        update,
        update_if,
        delete,
        batch,
        transact,
        statement,
        drop,
        send,
        receive,
        purge,
        settings,
        store_object,
        read_stream,
    ]
    made: Counter[str] = Counter()
    durable.read_records_seconds = -2.0  # read records are dropped immediately
    durable.copy_rows, durable.copy_seconds = 3, 0.0  # a copy makes a step between all calls
    for _ in range(calls):
        if durable._copying is None:
            durable.begin_copy()
        verb = dice.choice(verbs)
        made[verb.__name__] += 1
        await verb()
    # Changes by time alone are not compared: expired tokens, retention.
    durable._stale.update(("cloudformation", "dynamodb", "iam", "s3", "sqs", "ssm"))
    durable.commit()


def digests() -> dict[str, Any]:
    # Equal values may be packed differently.
    packed = (
        "item",
        "record",
        "token",
        "message",
        "fifo",
        "dedup",
    )
    rows = sorted(
        (repr(key), repr(load(value or b"") if key[0] in packed else value))
        for key, value in emulator_state.rows(durable)
    )
    result: dict[str, Any] = {"count": Counter(row[0].split("'")[1] for row in rows)}
    result["rows"] = hashlib.sha256(repr(rows).encode()).hexdigest()
    for name in ("cloudformation", "dynamodb", "iam", "s3", "sqs", "ssm"):
        result[name] = hashlib.sha256(emulator_state.settings_of(name)).hexdigest()
    result["objects"] = sorted(
        (key, s3._read_body("bucket", key, entry).hex())
        for key, entry in s3._buckets.get("bucket", {"objects": {}})["objects"].items()
    )
    return result


durable = Durable.open(
    {"state": str(folder), "port": 4000}, lambda told: print(json.dumps(told), file=sys.stderr)
)
if calls:
    asyncio.run(work())
print(json.dumps(digests()))
sys.stdout.flush()
os._exit(0)  # like a kill: nothing is closed
