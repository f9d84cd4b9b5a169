"""Jobs table stream -> jobs queue: whatever has become QUEUED is announced to the workers (the outbox's second half).

The template's filter lets only such records through. A record that could not be sent is reported alone; sent twice is
harmless, since a claim is won once.
"""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from mayfly.wiring import RelayDeps

__all__ = ["build"]


def build(deps: RelayDeps) -> Callable[[dict[str, Any], LambdaContext], Any]:
    """The handler of the relay."""

    def handler(event: dict[str, Any], context: LambdaContext) -> Any:
        wakes = {}
        for record in event["Records"]:
            image = record["dynamodb"]["NewImage"]
            wakes[record["dynamodb"]["SequenceNumber"]] = {"tenant": image["tenant"]["S"], "id": image["id"]["S"]}
        unsent = deps.queue.send(wakes)
        if unsent:
            deps.observe.log.warning("jobs could not be announced; the stream gives them again", jobs=len(unsent))
        return {"batchItemFailures": [{"itemIdentifier": number} for number in wakes if number in unsent]}

    return handler
