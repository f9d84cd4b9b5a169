"""Single cases of state that survives a kill.

`before` makes the state and is killed; `after` shows what a fresh start reads.

usage: python -m tests.contract.state_cases CASE STEP FOLDER [PORT]
"""

import asyncio
import errno
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from mayfly_local.ports.file_limit import raise_file_limit

_OFFSET = [0.0]
_REAL = time.time


class Case:
    """One process of the emulator on one folder."""

    def __init__(self, folder: Path, port: int) -> None:
        os.environ.update(
            MINISTACK_REGION="us-east-1",
            GATEWAY_PORT=str(port),
            MINISTACK_HOST="127.0.0.1",
            LOG_LEVEL="CRITICAL",
        )
        os.environ.update(S3_PERSIST="1", S3_DATA_DIR=str(folder / "s3"))
        time.time = lambda: _REAL() + _OFFSET[0]  # the emulator's clock
        from ministack.services import dynamodb, s3, sqs, ssm

        from mayfly_local.emulator.durable import Durable

        self.dynamodb, self.s3, self.sqs, self.ssm = dynamodb, s3, sqs, ssm
        self.durable = Durable.open({"state": str(folder), "port": port}, lambda told: None)

    async def call(self, module: Any, target: str, **body: Any) -> dict[str, Any]:
        _, _, reply = await module.handle_request(
            "POST", "/", {"x-amz-target": target}, json.dumps(body).encode(), {}
        )
        self.durable.commit()
        return dict(json.loads(reply or b"{}"))

    async def db(self, action: str, **body: Any) -> dict[str, Any]:
        return await self.call(self.dynamodb, f"DynamoDB_20120810.{action}", **body)

    async def queue(self, action: str, **body: Any) -> dict[str, Any]:
        return await self.call(self.sqs, f"AmazonSQS.{action}", **body)

    async def object(self, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
        status, _, reply = await self.s3.handle_request(method, path, {}, body, {})
        self.durable.commit()
        return int(status), reply

    async def table(self, name: str = "ttt") -> None:
        await self.db(
            "CreateTable", TableName=name, BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        )  # fmt: skip

    async def put(self, pk: str, **more: Any) -> None:
        await self.db("PutItem", TableName="ttt", Item={"pk": {"S": pk}, **more})

    @property
    def stream(self) -> str:
        return str(self.dynamodb._tables["ttt"]["LatestStreamArn"])

    def declare(self, starts_at: str = "TRIM_HORIZON") -> dict[str, Any]:
        return dict(
            self.durable.serve("mappings", {"M": {"stream": self.stream, "starts_at": starts_at}})
        )


async def queues_at_another_port(case: Case, step: str) -> Any:
    if step == "before":
        await case.queue("CreateQueue", QueueName="q")
        await case.queue("SendMessage", QueueUrl="q", MessageBody="one")
    if step == "between":
        (message,) = (await case.queue("ReceiveMessage", QueueUrl="q"))["Messages"]
        await case.queue("DeleteMessage", QueueUrl="q", ReceiptHandle=message["ReceiptHandle"])
        await case.queue("SendMessage", QueueUrl="q", MessageBody="two")
    url = (await case.queue("GetQueueUrl", QueueName="q"))["QueueUrl"]
    return [url.split("/")[2], [message["body"] for message in case.sqs._queues[url]["messages"]]]


async def text_of_users(case: Case, step: str) -> Any:
    if step == "before":
        await case.call(
            case.ssm,
            "AmazonSSM.PutParameter",
            Name="/hook",
            Value="http://127.0.0.1:9999/hook",
            Type="String",
        )
    return (await case.call(case.ssm, "AmazonSSM.GetParameter", Name="/hook"))["Parameter"]["Value"]


async def order_of_a_group(case: Case, step: str) -> Any:
    if step == "before":
        await case.queue(
            "CreateQueue",
            QueueName="f.fifo",
            Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"},
        )
        for number in range(6):
            _OFFSET[0] -= 10 if number == 3 else 0  # the clock is set back
            await case.queue(
                "SendMessage", QueueUrl="f.fifo", MessageBody=f"m{number}", MessageGroupId="g"
            )
    again = await case.queue("SendMessage", QueueUrl="f.fifo", MessageBody="m5", MessageGroupId="g")
    (queue,) = case.sqs._queues.all_values()
    return [[message["body"] for message in queue["messages"]], again["SequenceNumber"]]


async def a_mapping_that_starts_at_latest(case: Case, step: str) -> Any:
    if step == "before":
        await case.table()
        await case.put("old")
        case.declare("LATEST")
        await case.put("new")
        return None
    known = case.declare("LATEST")["read"]["M"]
    return [
        record["dynamodb"]["Keys"]["pk"]["S"]
        for record in case.dynamodb._stream_records["ttt"]
        if record["dynamodb"]["SequenceNumber"] > known
    ]


async def records_that_aged_before_they_were_read(case: Case, step: str) -> Any:
    if step == "before":
        await case.table()
        case.declare()
        await case.put("first")
        number = case.dynamodb._stream_records["ttt"][0]["dynamodb"]["SequenceNumber"]
        case.durable.serve("read", {"mapping": "M", "sequence_number": number})
        await case.put("unread")
        return None
    _OFFSET[0] = 25 * 3600
    await case.put("a day later")  # drops aged records, before any mapping is declared
    return case.declare()["lost"]


async def a_closed_stream(case: Case, step: str) -> Any:
    if step == "before":
        await case.table()
        await case.put("old")
        stream = case.stream
        await case.db("UpdateTable", TableName="ttt", StreamSpecification={"StreamEnabled": False})
        await case.db(
            "UpdateTable",
            TableName="ttt",
            StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"},
        )
        _OFFSET[0] = 25 * 3600
        await case.put("new")
        case.dynamodb.closed_stream(stream)
        case.durable.commit()
    return [
        record["dynamodb"]["Keys"]["pk"]["S"]
        for record in case.dynamodb._stream_records.get("ttt") or []
    ]


async def a_table_over_another(case: Case, step: str) -> Any:
    if step == "before":
        await case.table()
        await case.put("old")
        # As CloudFormation does.
        case.dynamodb._tables["ttt"] = {
            **case.dynamodb._tables["ttt"],
            "items": {},
        }
        await case.put("new")
    return sorted(case.dynamodb._tables["ttt"]["items"])


async def an_object_that_was_overwritten(case: Case, step: str) -> Any:
    if step == "before":
        await case.object("PUT", "/bucket")
        await case.object("PUT", "/bucket/k", b"old")
        await case.object("PUT", "/bucket/k", b"a newer one")
        # Killed before its commit.
        await case.s3.handle_request("PUT", "/bucket/k", {}, b"never acknowledged", {})
    if step == "before":
        return None
    _, headers, body = await case.s3.handle_request("HEAD", "/bucket/k", {}, b"", {})
    del body
    return [(await case.object("GET", "/bucket/k"))[1].decode(), headers["Content-Length"]]


async def an_object_whose_folder_cannot_be_made(case: Case, step: str) -> Any:
    await case.object("PUT", "/bucket")
    make = case.s3.os.makedirs

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    case.s3.os.makedirs = full
    try:
        await case.object("PUT", "/bucket/folder/k", b"x")
    except OSError as problem:
        return problem.errno == errno.ENOSPC
    finally:
        case.s3.os.makedirs = make
    return False


async def sessions_of_updates(case: Case, step: str) -> Any:
    """Returns the journal's size after some megabytes of updates of one item.

    Each step is a session.
    """
    if step == "before":
        await case.table()
    case.declare()
    case.durable.read_records_seconds = -2.0
    for number in range(1500):
        await case.put("one", text={"S": f"{number}" + "x" * 10_000})
        if number % 50 == 49:  # the mapping reads as well
            records = case.dynamodb._stream_records["ttt"]
            case.durable.serve(
                "read",
                {
                    "mapping": "M",
                    "sequence_number": records[len(records) - 1]["dynamodb"]["SequenceNumber"],
                },
            )
    assert case.durable._journal is not None
    return case.durable._journal.size < 64_000_000


async def read_records(case: Case, step: str) -> Any:
    """Keeps the newest 250 of the records that were read, and all unread ones."""
    if step == "before":
        await case.table()
        case.declare()
        for number in range(1500):
            await case.put(f"{number}")
        records = case.dynamodb._stream_records["ttt"]
        case.durable.serve(
            "read", {"mapping": "M", "sequence_number": records[1199]["dynamodb"]["SequenceNumber"]}
        )
        case.durable.commit()
    return len(case.dynamodb._stream_records["ttt"])


async def a_reader_that_has_not_begun(case: Case, step: str) -> Any:
    """Unread records are kept for each mapping of a stream, however far another has read."""
    if step == "before":
        await case.table()
        arn = case.dynamodb._tables["ttt"]["LatestStreamArn"]
        case.durable.serve(
            "mappings", {name: {"stream": arn, "starts_at": "TRIM_HORIZON"} for name in ("M", "N")}
        )
        case.durable.read_records_seconds = -2.0
        await case.put("one")
        last = case.dynamodb._stream_records["ttt"][0]["dynamodb"]["SequenceNumber"]
        assert case.durable.serve("read", {"mapping": "M", "sequence_number": last}) == {}
        case.durable.commit()
    return len(case.dynamodb._stream_records["ttt"])


async def read_records_that_aged(case: Case, step: str) -> Any:
    """Returns how many records are kept 14, 16 and 30 minutes after the first ones."""
    await case.table()
    case.declare()
    kept = []
    for minutes, more in ((14, 20), (16, 10), (30, 0)):
        for number in range(more):
            await case.put(f"{minutes} {number}")
        records = case.dynamodb._stream_records["ttt"]
        last = records[len(records) - 1]["dynamodb"]["SequenceNumber"]
        case.durable.serve("read", {"mapping": "M", "sequence_number": last})
        _OFFSET[0] = minutes * 60
        case.durable.mappings.drop_read()
        kept.append(len(case.dynamodb._stream_records["ttt"]))
    return kept


async def a_kinesis_stream(case: Case, step: str) -> Any:
    """Returns the number of the stream's records."""
    from ministack.services import kinesis

    async def call(action: str, **body: Any) -> Any:
        headers = {"x-amz-target": f"Kinesis_20131202.{action}"}
        reply = await kinesis.handle_request("POST", "/", headers, json.dumps(body).encode(), {})
        return json.loads(reply[2] or b"{}")

    if step == "before":
        await call("CreateStream", StreamName="clicks", ShardCount=1)
        await call("PutRecord", StreamName="clicks", Data="YQ==", PartitionKey="p")
        case.durable.commit()
    shard = (await call("ListShards", StreamName="clicks"))["Shards"][0]["ShardId"]
    start = await call(
        "GetShardIterator", StreamName="clicks", ShardId=shard, ShardIteratorType="TRIM_HORIZON"
    )
    found = await call("GetRecords", ShardIterator=start["ShardIterator"])
    return len(found["Records"])


async def out_of_files(case: Case, step: str) -> Any:
    """Takes all file descriptors from the thread that syncs, which then catches up."""
    import resource

    journal = case.durable._journal
    assert journal is not None
    raise_file_limit()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    journal.files.add(__file__)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    deadline = time.monotonic() + 10
    while journal.sync_error is None and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    failed = journal.sync_error
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    journal.append([])
    while (journal.files or journal._synced != journal._size) and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
    return [failed, journal._thread.is_alive(), not journal.files]


async def items_that_expire(case: Case, step: str) -> Any:
    await case.table()
    case.durable.serve("expiring", {"ttt": "ttl"})
    now = int(time.time())
    for renewal in range(500):  # one session, touched many times
        await case.put("renewed", ttl={"N": str(now + 60 + renewal)})
    await case.put("expired", ttl={"N": str(now - 5)})
    await case.put("a fraction", ttl={"N": f"{now - 5}.5"})
    await case.put("no number", ttl={"S": str(now - 5)})
    expired = {
        row["key"]["pk"]["S"]
        for row in case.durable.serve("expired", {"before": now, "limit": 100})
    }
    entries = sum(len(places) for places in case.durable.expiry._due.values())
    later = {
        row["key"]["pk"]["S"]
        for row in case.durable.serve("expired", {"before": now + 700, "limit": 100})
    }
    return [sorted(expired), entries < 20, "renewed" in later]


async def long_polls(case: Case, step: str) -> Any:
    """Returns how often the queue was searched until a message was visible, for each way."""
    searches = 0
    collect = case.sqs._collect_msgs

    def counted(*arguments: Any) -> Any:
        nonlocal searches
        searches += 1
        return collect(*arguments)

    case.sqs._collect_msgs = counted
    await case.queue("CreateQueue", QueueName="q")

    async def poll(seconds: int = 10) -> list[Any]:
        nonlocal searches
        searches = 0
        reply = await case.queue("ReceiveMessage", QueueUrl="q", WaitTimeSeconds=seconds)
        return [[message["Body"] for message in reply.get("Messages", ())], searches]

    async def during(poll: Any, act: Any) -> list[Any]:
        polling = asyncio.ensure_future(poll)
        await asyncio.sleep(0.3)
        await act
        return list(await polling)

    sent = await during(poll(), case.queue("SendMessage", QueueUrl="q", MessageBody="sent"))
    (queue,) = case.sqs._queues.all_values()
    receipt = queue["messages"][0]["receipt_handle"]
    shown = await during(
        poll(),
        case.queue(
            "ChangeMessageVisibility", QueueUrl="q", ReceiptHandle=receipt, VisibilityTimeout=0
        ),
    )
    receipt = queue["messages"][0]["receipt_handle"]
    await case.queue(
        "ChangeMessageVisibility", QueueUrl="q", ReceiptHandle=receipt, VisibilityTimeout=1
    )
    timed_out = await poll()
    await case.queue("PurgeQueue", QueueUrl="q")
    await case.queue("SendMessage", QueueUrl="q", MessageBody="delayed", DelaySeconds=1)
    delayed = await poll()
    empty = await poll(1)

    async def stop() -> None:
        case.durable.serve("stopping", {})

    stopped = await during(poll(20), stop())
    return [sent, shown, timed_out, delayed, empty, stopped]


async def waits_for_records(case: Case, step: str) -> Any:
    """Returns what each wait for a stream's newest record returned."""
    await case.table()
    stream = case.stream
    at_first = await case.durable.newest_record(stream, known="", seconds=10)
    waiting = asyncio.ensure_future(case.durable.newest_record(stream, known=at_first, seconds=10))
    await asyncio.sleep(0.1)
    was_waiting = not waiting.done()
    await case.put("one")
    newest = await waiting
    (record,) = case.dynamodb._stream_records["ttt"]
    timed_out = await case.durable.newest_record(stream, known=newest, seconds=0.2)
    return [
        at_first,
        was_waiting,
        newest == record["dynamodb"]["SequenceNumber"],
        timed_out == newest,
    ]


def main() -> None:
    name, step, folder, *port = sys.argv[1:]
    case = Case(Path(folder), int(port[0]) if port else 4000)
    print(json.dumps(asyncio.run(globals()[name](case, step))))  # noqa: T201
    sys.stdout.flush()
    os._exit(0)  # like a kill: nothing is closed


if __name__ == "__main__":
    main()
