"""Jobs table stream -> queues: announces each job that waits to be run to its workers.

The template's filter passes QUEUED and SCHEDULED records only. A record that could not be sent is
reported alone. A second announcement does no harm, since only one claim succeeds.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from mayfly.core import deadline
from mayfly.jobs.routing.outbox import Announcement, announcement

from .deps import Deps

__all__ = ["build"]


def build(deps: Deps) -> Callable[[dict[str, Any], LambdaContext], Any]:
    """Returns the handler of the relay."""

    def handler(event: dict[str, Any], context: LambdaContext) -> Any:
        with deps.observe.invocation():
            return relay(event, context)

    def relay(event: dict[str, Any], context: LambdaContext) -> Any:
        wakes = announcements(event["Records"])
        # A queue that does not answer must not make one batch outlast the function.
        remaining_ms = context.get_remaining_time_in_millis()
        with deadline.limited(remaining_ms, monotonic=deps.monotonic):
            unsent = deps.outbox.send(wakes)
        if unsent:
            deps.observe.count("JobNotAnnounced", len(unsent))
            deps.observe.log.warning(
                "jobs could not be announced; the stream delivers them again", jobs=len(unsent)
            )
        return {
            "batchItemFailures": [
                {"itemIdentifier": number} for number in wakes if number in unsent
            ]
        }

    def announcements(records: Sequence[Mapping[str, Any]]) -> dict[str, Announcement]:
        wakes, now_ms = {}, deps.clock()
        for record in records:
            number, image = record["dynamodb"]["SequenceNumber"], record["dynamodb"]["NewImage"]
            try:
                wake = announcement(image, now_ms)
            except (LookupError, TypeError, ValueError):
                # A retry would find the same item, and hold up every job behind it.
                deps.observe.count("UnreadableItem")
                deps.observe.log.exception(
                    "a job's item cannot be read, and is not announced", key=image.get("pk")
                )
                continue
            if wake is not None:
                wakes[number] = wake
        return wakes

    return handler
