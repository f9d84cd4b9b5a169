"""Jobs table stream -> jobs queue: whatever waits to be run is announced to the workers (the outbox's second half).

The template's filter lets only QUEUED and SCHEDULED records through. A scheduled job is announced with the delay that is
left; one whose time is too far for that still stands in the `due` index, and comes again when a sweep takes it out.
A record that could not be sent is reported alone; sent twice is harmless, since a claim is won once.
"""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from mayfly.wiring import RelayDeps

__all__ = ["build"]


def build(deps: RelayDeps) -> Callable[[dict[str, Any], LambdaContext], Any]:
    """The handler of the relay."""

    def handler(event: dict[str, Any], context: LambdaContext) -> Any:
        wakes, delays, now_ms = {}, {}, deps.clock()
        for record in event["Records"]:
            number, image = record["dynamodb"]["SequenceNumber"], record["dynamodb"]["NewImage"]
            if "due" in image:
                continue
            wakes[number] = {"tenant": image["tenant"]["S"], "id": image["id"]["S"]}
            if "not_before" in image:
                delays[number] = max(0.0, (int(image["not_before"]["N"]) - now_ms) / 1000)
        unsent = deps.queue.send(wakes, delays)
        if unsent:
            deps.observe.log.warning("jobs could not be announced; the stream gives them again", jobs=len(unsent))
        return {"batchItemFailures": [{"itemIdentifier": number} for number in wakes if number in unsent]}

    return handler
