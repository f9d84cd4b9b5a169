"""A stream's event source mapping: its first position, its reports, and its saved position."""

import asyncio
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from mayfly_local.application.model import StreamSource
from mayfly_local.compute.invocation import Failure, Invocation, Reply
from mayfly_local.emulator.clients import Clients
from mayfly_local.logs import Logs
from mayfly_local.sources.positions import Positions
from mayfly_local.sources.streams import StreamPoller

ARN = "arn:aws:dynamodb:us-east-1:000000000000:table/T/stream/1"
#: The function has a name of its own, which is not its logical id.
FUNCTION_ARN = "arn:aws:lambda:us-east-1:000000000000:function:of-the-template"


class Stream:
    """A stream of numbered records, and a queue for reports that may refuse them."""

    def __init__(self, count: int) -> None:
        self.numbers = [f"{number:030d}" for number in range(1, count + 1)]
        self.asked: list[dict[str, str]] = []
        self.reports: list[dict[str, Any]] = []
        self.stored: list[tuple[str, str]] = []
        self.refusals = self.failing_iterators = self.failing_descriptions = 0
        self.at_report: Callable[[], None] = lambda: None
        self.expired: set[str] = set()
        self.dropped = 0

    def of(self, function: str) -> "Stream":
        return self

    async def call(self, service: str, operation: str, **asked: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        return dict(getattr(self, f"_{operation}")(**asked))

    def _describe_stream(self, **_: Any) -> Any:
        if self.failing_descriptions:
            self.failing_descriptions -= 1
            raise refused("ResourceNotFoundException")
        return {"StreamDescription": {"Shards": [{"ShardId": "shard"}]}}

    def _get_shard_iterator(
        self,
        *,
        ShardIteratorType: str,  # noqa: N803
        SequenceNumber: str = "",  # noqa: N803
        **_: Any,
    ) -> Any:
        self.asked.append({"type": ShardIteratorType, "number": SequenceNumber})
        if self.failing_iterators:
            self.failing_iterators -= 1
            raise refused("InternalServerError")
        if ShardIteratorType == "LATEST":
            return {"ShardIterator": f"{len(self.numbers)}"}
        if ShardIteratorType == "TRIM_HORIZON":
            return {"ShardIterator": f"{self.dropped}"}
        if SequenceNumber not in self.numbers[self.dropped :]:
            raise refused("TrimmedDataAccessException")
        return {"ShardIterator": f"{self.numbers.index(SequenceNumber) + 1}"}

    def _get_records(self, *, ShardIterator: str, **_: Any) -> Any:  # noqa: N803
        if ShardIterator in self.expired:
            raise refused("ExpiredIteratorException")
        first = int(ShardIterator)
        found = self.numbers[first : first + 2]
        return {
            "Records": [record(number) for number in found],
            "NextShardIterator": f"{first + len(found)}",
        }

    def _put_object(self, *, Bucket: str, Key: str, Body: bytes) -> Any:  # noqa: N803
        self.at_report()
        if self.refusals:
            self.refusals -= 1
            raise refused("SlowDown")
        self.stored.append((Bucket, Key))
        self.reports.append(json.loads(Body))
        return {}

    def _get_queue_url(self, **_: Any) -> Any:
        return {"QueueUrl": "failures"}

    def _send_message(self, *, MessageBody: str, **_: Any) -> Any:  # noqa: N803
        self.at_report()
        if self.refusals:
            self.refusals -= 1
            raise refused("InternalError")
        self.reports.append(json.loads(MessageBody))
        return {}


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": code}}, "call")


def record(number: str) -> dict[str, Any]:
    image = {
        "SequenceNumber": number,
        "Keys": {},
        "NewImage": {},
        "SizeBytes": 1,
        "StreamViewType": "NEW_IMAGE",
    }
    return {
        "eventID": number,
        "eventName": "INSERT",
        "eventVersion": "1.1",
        "eventSource": "aws:dynamodb",
        "awsRegion": "r",
        "dynamodb": image,
    }


class Control:
    """Positions as the emulator keeps them."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.reported: list[str] = []

    async def ask(self, what: str, arguments: dict[str, Any]) -> dict[str, str]:
        assert what == "records"
        return {"newest": arguments["known"]}

    async def tell(self, what: str, told: dict[str, str]) -> None:
        getattr(self, what).append(told.get("sequence_number", told["mapping"]))


class Run:
    """Runs a poller on a stream until a condition holds."""

    def __init__(
        self,
        folder: Path,
        stream: Stream,
        *,
        starts_at: str = "TRIM_HORIZON",
        fails: bool = False,
        reports_failures: bool = False,
        on_failure_arn: str = "arn:aws:sqs:us-east-1:000000000000:failures",
        **known: Any,
    ) -> None:
        source = StreamSource(
            name="M", function="F", stream_arn=ARN, batch_size=2, window_seconds=0,
            reports_failures=reports_failures, starts_at=starts_at, bisects=False,
            max_retries=0, max_age_seconds=None,
            on_failure_arn=on_failure_arn, patterns=(), role="F", function_arn=FUNCTION_ARN,
        )  # fmt: skip
        self.control, self.delivered = Control(), list[str]()
        self.request_ids: list[str] = []
        self._fails, self._reports_failures = fails, reports_failures
        positions = Positions(cast("Any", self.control), **known)
        self._logs = Logs(folder, form="json", out=io.StringIO())
        self.poller = StreamPoller(
            source, cast("Clients", stream), self._invoke, self._logs.of("test"), positions
        )

    async def _invoke(self, function: str, invocation: Invocation) -> Reply | Failure:
        records = json.loads(invocation.event)["Records"]
        self.request_ids.append(invocation.request_id)
        self.delivered += [record["dynamodb"]["SequenceNumber"] for record in records]
        if self._reports_failures:
            failed = [
                {"itemIdentifier": record["dynamodb"]["SequenceNumber"]} for record in records
            ]
            return Reply(json.dumps({"batchItemFailures": failed}).encode())
        return Failure("Error", "failed") if self._fails else Reply(b"null")

    def until(self, condition: Callable[[], Any]) -> None:
        async def run() -> None:
            running = asyncio.ensure_future(self.poller.run())
            async with asyncio.timeout(20):
                # Any condition, also one of the fakes.
                while not condition() and not running.done():  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            self.poller.stop()
            await running

        asyncio.run(run())
        self._logs.close()


def test_stream_that_is_not_there_yet_does_not_end_the_poller(tmp_path: Path) -> None:
    stream = Stream(2)
    stream.failing_descriptions = 1
    run = Run(tmp_path, stream)
    run.until(lambda: len(run.delivered) == 2)
    assert run.delivered == stream.numbers


def test_poller_of_a_stream_that_is_gone_stops(tmp_path: Path) -> None:
    stream = Stream(2)
    stream.failing_descriptions = 1_000_000
    run = Run(tmp_path, stream)
    run.until(lambda: stream.failing_descriptions < 1_000_000)
    assert run.delivered == []


def test_position_is_saved_after_a_batch_was_taken(tmp_path: Path) -> None:
    stream = Stream(5)
    run = Run(tmp_path, stream)
    run.until(lambda: len(run.delivered) == 5)
    assert run.delivered == stream.numbers
    assert run.control.read[-1] == stream.numbers[-1]


def test_mapping_continues_at_its_saved_position(tmp_path: Path) -> None:
    stream = Stream(5)
    run = Run(tmp_path, stream, read={"M": stream.numbers[2]})
    run.until(lambda: len(run.delivered) == 2)
    assert run.delivered == stream.numbers[3:]


def test_mapping_whose_record_was_dropped_continues_with_the_oldest_record_left(
    tmp_path: Path,
) -> None:
    stream = Stream(5)
    stream.dropped = 3
    run = Run(tmp_path, stream, read={"M": stream.numbers[2]})
    run.until(lambda: len(run.delivered) == 2)
    assert run.delivered == stream.numbers[3:]


@pytest.mark.parametrize("at", ["2", "4"])
def test_expired_iterator_is_replaced_by_one_after_the_last_record(tmp_path: Path, at: str) -> None:
    stream = Stream(6)
    stream.expired = {at}
    run = Run(tmp_path, stream)

    def has_come() -> bool:
        if len(stream.asked) > 1:
            stream.expired.clear()
        return len(run.delivered) == 6

    run.until(has_come)
    assert run.delivered == stream.numbers
    assert stream.asked[1] == {
        "type": "AFTER_SEQUENCE_NUMBER",
        "number": stream.numbers[int(at) - 1],
    }


def test_nothing_is_read_past_an_abandoned_batch_before_it_was_reported(
    tmp_path: Path,
) -> None:
    stream = Stream(2)
    stream.refusals = 1
    run = Run(tmp_path, stream, fails=True)
    positions: list[list[str]] = []
    stream.at_report = lambda: positions.append(list(run.control.read))
    run.until(lambda: stream.reports)
    assert [report["DDBStreamBatchInfo"]["batchSize"] for report in stream.reports] == [2]
    assert stream.reports[0]["requestContext"]["functionArn"] == FUNCTION_ARN
    assert positions == [[], []], "no position was kept before the report was taken"


@pytest.mark.parametrize(
    ("has_raised", "error"),
    [(True, {"functionError": "Unhandled"}), (False, {})],
    ids=["raised", "reported failed items"],
)
def test_report_names_the_last_call_of_the_function(
    tmp_path: Path, has_raised: bool, error: dict[str, str]
) -> None:
    stream = Stream(2)
    run = Run(tmp_path, stream, fails=has_raised, reports_failures=not has_raised)
    run.until(lambda: stream.reports)
    (report,) = stream.reports
    assert report["requestContext"] == {
        "requestId": run.request_ids[-1],
        "functionArn": FUNCTION_ARN,
        "condition": "RetryAttemptsExhausted",
        "approximateInvokeCount": 1,
    }
    context = {"statusCode": 200, "executedVersion": "$LATEST", **error}
    assert report["responseContext"] == context


def test_bucket_gets_the_report_with_its_records_under_lambdas_names(tmp_path: Path) -> None:
    stream = Stream(2)
    stream.refusals = 1
    run = Run(tmp_path, stream, fails=True, on_failure_arn="arn:aws:s3:::reports")
    run.until(lambda: stream.reports)
    ((bucket, key),), (report,) = stream.stored, stream.reports
    assert bucket == "reports"
    assert re.fullmatch(r"aws/lambda/[0-9a-f-]{36}/shard/[0-9-]{10}T[0-9.]{8}-[0-9a-f-]{36}", key)
    records = json.loads(report.pop("payload"))["Records"]
    assert [each["dynamodb"]["SequenceNumber"] for each in records] == stream.numbers
    assert report["DDBStreamBatchInfo"]["batchSize"] == 2


def test_report_of_lost_records_in_a_bucket_names_none(tmp_path: Path) -> None:
    stream = Stream(1)
    run = Run(tmp_path, stream, lost={"M"}, on_failure_arn="arn:aws:s3:::reports")
    run.until(lambda: run.delivered)
    assert "payload" not in stream.reports[0]
    assert stream.reports[0]["DDBStreamBatchInfo"]["batchSize"] == 0


def test_stop_before_the_report_is_taken_saves_no_position(tmp_path: Path) -> None:
    stream = Stream(2)
    stream.refusals = 10**6
    run = Run(tmp_path, stream, fails=True)
    run.until(lambda: stream.refusals < 10**6)
    assert run.control.read == []


def test_lost_records_are_reported_once_with_everything_before_them(tmp_path: Path) -> None:
    stream = Stream(1)
    run = Run(tmp_path, stream, lost={"M"})
    run.until(lambda: run.delivered)
    facts = stream.reports[0]["DDBStreamBatchInfo"]
    assert (facts["startSequenceNumber"], facts["endSequenceNumber"], facts["batchSize"]) == (
        "0",
        "0",
        0,
    )
    assert run.control.reported == ["M"]


def test_report_of_lost_records_that_the_queue_refuses_is_retried_and_made_once(
    tmp_path: Path,
) -> None:
    stream = Stream(1)
    stream.refusals = 1
    stream.expired = {"0"}
    run = Run(tmp_path, stream, lost={"M"})
    # The iterator has expired before a record was read: another one is made.
    run.until(lambda: len(stream.asked) > 1)
    assert (len(stream.reports), run.control.reported) == (1, ["M"])


def test_stream_that_gives_no_iterator_is_requested_again(tmp_path: Path) -> None:
    stream = Stream(1)
    stream.failing_iterators = 1
    run = Run(tmp_path, stream)
    run.until(lambda: run.delivered)
