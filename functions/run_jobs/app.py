"""Jobs queue -> tasks: runs each message's job, in batches that fail record by record."""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from mayfly import sqs
from mayfly.errors import InvalidRequest, PayloadTooLarge, UnreadableMessage
from mayfly.jobs.rules import LEASE_MS, read_message
from mayfly.jobs.worker import Runner
from mayfly.wiring import RunDeps

__all__ = ["build"]


def build(deps: RunDeps) -> Callable[[dict[str, Any], LambdaContext], Any]:
    """The handler of the worker."""
    runner = Runner(deps.worker)

    def run_one(record: SQSRecord, context: LambdaContext) -> None:
        try:
            message = read_message(record.body)
        except (InvalidRequest, PayloadTooLarge) as problem:
            raise UnreadableMessage(record.message_id, str(problem)) from None
        runner.run(message, record.message_id, context)

    return sqs.entrypoint(run_one, beat=runner.beat, queue=deps.queue, lease_seconds=LEASE_MS / 1000, observe=deps.observe)
