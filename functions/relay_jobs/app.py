"""Jobs table stream -> queues: whatever waits to be run is announced to its workers (the outbox's
second half).

The template's filter lets only QUEUED and SCHEDULED records through. A record that could not be
sent is reported alone; sent twice is harmless, since a claim is won once.
"""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from mayfly.jobs.routing.outbox import announcement

from .deps import Deps

__all__ = ["build"]


def build(deps: Deps) -> Callable[[dict[str, Any], LambdaContext], Any]:
    """The handler of the relay."""

    def handler(event: dict[str, Any], context: LambdaContext) -> Any:
        wakes, now_ms = {}, deps.clock()
        for record in event["Records"]:
            found = announcement(record["dynamodb"]["NewImage"], now_ms)
            if found is not None:
                wakes[record["dynamodb"]["SequenceNumber"]] = found
        unsent = deps.outbox.send(wakes)
        if unsent:
            deps.observe.log.warning(
                "jobs could not be announced; the stream gives them again", jobs=len(unsent)
            )
        return {
            "batchItemFailures": [
                {"itemIdentifier": number} for number in wakes if number in unsent
            ]
        }

    return handler
