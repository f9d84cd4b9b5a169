"""Dead letters -> back to work, or kept: what the jobs queue and the relay could not get rid of ends here, and is never lost."""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from aws_lambda_powertools.utilities.typing import LambdaContext
from mayfly import sqs
from mayfly.wiring import BuryDeps

__all__ = ["build"]


def build(deps: BuryDeps) -> Callable[[dict[str, Any], LambdaContext], Any]:
    """The handler of dead letters."""

    def settle(record: SQSRecord) -> None:
        is_from_relay = record.event_source_arn == deps.relay_failures_arn
        deps.dead_letters.settle(record.body, record.message_id, is_from_relay=is_from_relay)

    return sqs.each(settle, observe=deps.observe)
