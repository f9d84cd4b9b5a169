"""Dead letters -> back to work, or stored: messages that failed too often, and the relay's reports.

No message is lost here.
"""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from mayfly.jobs.worker import invocation
from mayfly.jobs.worker.invocation import SQSRecord

from .deps import Deps

__all__ = ["build"]

#: A search stops with this much left before the deadline, in milliseconds. A store call with its
#: retries takes less.
_MARGIN_MS = 15_000


def build(deps: Deps) -> Callable[[dict[str, Any], LambdaContext], Any]:
    """Returns the handler of dead letters.

    If the search for a message is not done, the message is reported like a failed one, so that it
    comes again. It is not logged as a failure.
    """

    def handler(event: dict[str, Any], context: LambdaContext) -> Any:
        unsettled: list[str] = []

        def is_over() -> bool:
            return context.get_remaining_time_in_millis() <= _MARGIN_MS

        def settle(record: SQSRecord) -> None:
            is_from_relay = record.event_source_arn == deps.relay_failures_arn
            if not is_from_relay:
                deps.observe.count("DeadLetterReceived")
            sent = record.raw_event["attributes"].get("SentTimestamp")
            is_settled = deps.dead_letters.settle(
                record.body,
                record.message_id,
                is_from_relay=is_from_relay,
                sent_ms=None if sent is None else int(sent),
                is_over=is_over,
            )
            if not is_settled:
                unsettled.append(record.message_id)

        report = invocation.each(settle, observe=deps.observe)(event, context)
        report["batchItemFailures"] += [{"itemIdentifier": message_id} for message_id in unsettled]
        return report

    return handler
