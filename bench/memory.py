"""Memory of the emulator after many ended jobs, and over a day of load whose items expire.

The first part has 10,000 and 100,000 ended jobs. The emulator runs with its journal in its own
process. It gets the calls of ordinary jobs, and its clock is set forward.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

__all__ = ["QUESTION", "measure"]

QUESTION = (
    "how much memory does the emulator need for ended jobs, and does it grow over a day of load?"
)

_MB = 1024 * 1024
_OFFSET = [0.0]
_REAL = time.time


class Emulator:
    """The emulator with two tables, a queue, and one mapping that reads the stream.

    The tables hold jobs and counters.
    """

    def __init__(self, folder: Path) -> None:
        os.environ.update(
            MINISTACK_REGION="us-east-1",
            GATEWAY_PORT="4000",
            MINISTACK_HOST="127.0.0.1",
            LOG_LEVEL="ERROR",
        )
        time.time = lambda: _REAL() + _OFFSET[0]  # The emulator's clock.
        from ministack.services import dynamodb, sqs

        from mayfly_local.emulator.durable import Durable

        self.dynamodb, self.sqs = dynamodb, sqs
        self.durable = Durable.open({"state": str(folder), "port": 4000}, lambda _: None)
        self.number = 0

    async def db(self, action: str, **body: Any) -> dict[str, Any]:
        return await self._call(self.dynamodb, f"DynamoDB_20120810.{action}", body)

    async def queue(self, action: str, **body: Any) -> dict[str, Any]:
        return await self._call(self.sqs, f"AmazonSQS.{action}", body)

    async def _call(self, module: Any, target: str, body: dict[str, Any]) -> dict[str, Any]:
        status, _, reply = await module.handle_request(
            "POST", "/", {"x-amz-target": target}, json.dumps(body).encode(), {}
        )
        assert status == 200, reply
        self.durable.commit()
        return dict(json.loads(reply or b"{}"))

    async def make(self) -> None:
        for name, stream in (("jobs", True), ("counters", False)):
            more = (
                {"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}}
                if stream
                else {}
            )
            await self.db(
                "CreateTable", TableName=name, BillingMode="PAY_PER_REQUEST",
                KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}], **more,
            )  # fmt: skip
        await self.queue("CreateQueue", QueueName="q")
        self.durable.serve(
            "mappings",
            {
                "relay": {
                    "stream": self.dynamodb._tables["jobs"]["LatestStreamArn"],
                    "starts_at": "TRIM_HORIZON",
                }
            },
        )
        self.durable.serve("expiring", {"jobs": "expires_at"})

    async def run_jobs(self, count: int, *, kept_seconds: int) -> None:
        """Runs ten jobs at a time.

        They are submitted, announced, received, read, committed in one transaction, and deleted.
        """
        for _ in range(count // 10):
            ids = []
            for _ in range(10):
                self.number += 1
                ids.append(f"default/{self.number:032x}")
                await self.db(
                    "PutItem",
                    TableName="jobs",
                    Item=_job(ids[-1], "QUEUED", 0),
                    ConditionExpression="attribute_not_exists(pk)",
                )
            entries = [
                {"Id": str(index), "MessageBody": json.dumps({"tenant": "default", "id": key})}
                for index, key in enumerate(ids)
            ]
            await self.queue("SendMessageBatch", QueueUrl="q", Entries=entries)
            messages = (await self.queue("ReceiveMessage", QueueUrl="q", MaxNumberOfMessages=10))[
                "Messages"
            ]
            await self.db(
                "BatchGetItem",
                RequestItems={"jobs": {"Keys": [{"pk": {"S": key}} for key in ids]}},
            )
            ends = int(time.time()) + kept_seconds
            puts = [
                {
                    "Put": {
                        "TableName": "jobs",
                        "Item": _job(key, "COMPLETED", ends),
                        "ConditionExpression": "attribute_exists(pk)",
                    }
                }
                for key in ids
            ]
            add = {
                "UpdateExpression": "ADD #v :n",
                "ExpressionAttributeNames": {"#v": "value"},
                "ExpressionAttributeValues": {":n": {"N": "10"}},
            }
            update = {
                "Update": {"TableName": "counters", "Key": {"pk": {"S": "default/hits"}}, **add}
            }
            await self.db(
                "TransactWriteItems", TransactItems=[*puts, update], ClientRequestToken=ids[0][-32:]
            )
            handles = [
                {"Id": str(index), "ReceiptHandle": message["ReceiptHandle"]}
                for index, message in enumerate(messages)
            ]
            await self.queue("DeleteMessageBatch", QueueUrl="q", Entries=handles)
            self.read_stream()

    def read_stream(self) -> None:
        """Reads all records, as the relay's mapping does."""
        records = self.dynamodb._stream_records.get("jobs") or []
        if len(records):
            self.durable.serve(
                "read",
                {
                    "mapping": "relay",
                    "sequence_number": records[len(records) - 1]["dynamodb"]["SequenceNumber"],
                },
            )

    async def expire(self) -> None:
        """Deletes expired items, as the reaper does."""
        while expired := self.durable.serve("expired", {"before": int(time.time()), "limit": 1000}):
            for item in expired:
                await self.db("DeleteItem", TableName=item["table"], Key=item["key"])
            self.read_stream()


def _job(key: str, status: str, expires_at: int) -> dict[str, Any]:
    texts = {
        "pk": key,
        "id": key[-32:],
        "tenant": "default",
        "task": "counter.add",
        "status": status,
        "fingerprint": "f" * 64,
        "owner": "o" * 32,
    }
    numbers = {
        "created_at": int(time.time() * 1000),
        "run": 1,
        "attempt": 1,
        "fence": 1,
        "max_attempts": 5,
        "lease_until": int(time.time() * 1000),
    }
    item: dict[str, Any] = {name: {"S": value} for name, value in texts.items()} | {
        name: {"N": str(value)} for name, value in numbers.items()
    }
    attempt = '{"ended":1764262800000,"error":null,"outcome":"succeeded","started":1764262800000}'
    item |= {
        "payload": {"S": '{"by":1,"name":"hits"}'},
        "result": {"S": '{"added":1}'},
        "history": {"L": [{"S": attempt}]},
    }
    return {**item, **({"expires_at": {"N": str(expires_at)}} if expires_at else {})}


def _rss() -> float:
    return float(psutil.Process().memory_info().rss / _MB)


async def _ended(store: Emulator, sizes: list[int]) -> list[dict[str, Any]]:
    await store.make()
    rows, empty = [], _rss()
    for size in sizes:
        await store.run_jobs(size - store.number, kept_seconds=7 * 86_400)
        running = _rss()
        # Tokens are valid for ten minutes, and records that were read for fifteen.
        _OFFSET[0] += 1000
        await store.run_jobs(10, kept_seconds=7 * 86_400)
        _OFFSET[0] += 70
        await store.run_jobs(10, kept_seconds=7 * 86_400)
        per_thousand = 1000 / store.number
        rows.append(
            {
                "jobs": size,
                "mb": round(running),
                "mb_per_1000_running": round((running - empty) * per_thousand, 2),
            }
        )
        rows[-1]["mb_per_1000_settled"] = round((_rss() - empty) * per_thousand, 2)
        rows[-1]["journal_mb"] = (
            round(store.durable._journal.size / 1e6) if store.durable._journal else 0
        )
    return rows


async def _day(store: Emulator, jobs_per_hour: int) -> list[float]:
    await store.make()
    by_hour = []
    for _ in range(24):
        for _ in range(12):
            await store.run_jobs(jobs_per_hour // 12, kept_seconds=3600)
            await asyncio.sleep(0)
            _OFFSET[0] += 300
            await store.expire()
        by_hour.append(round(_rss(), 1))
    return by_hour


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Returns megabytes of the process, and of a thousand ended jobs."""
    figures: dict[str, Any] = {}
    for row in _child("ended", "10000", "100000"):
        say(str(row))
        figures |= {
            f"{name} after {row['jobs']} ended jobs": value
            for name, value in row.items()
            if name != "jobs"
        }
    by_hour = _child("day", "2000")
    say(f"a day, 2,000 jobs an hour kept for an hour, MB by hour: {by_hour}")
    return {
        **figures,
        "MB after hour 3 of a day": by_hour[2],
        "MB after hour 24 of a day": by_hour[-1],
    }


def _child(kind: str, *arguments: str) -> Any:
    """Runs one kind in its own process: `ended` with sizes, `day` with the jobs an hour."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.memory", kind, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def main() -> None:
    """Prints one kind as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["ended", "day"])
    parser.add_argument("sizes", nargs="+", type=int)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Emulator(Path(folder))
        work: Any = (
            _ended(store, options.sizes)
            if options.kind == "ended"
            else _day(store, options.sizes[0])
        )
        print(json.dumps(asyncio.run(work)))
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
