"""Reports on records that the relay could not send, from their bucket to the queue of dead letters.

The mapping writes its reports to a bucket, since the queues may be the reason why the records could
not be sent.
https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from mayfly.aws.bucket import Bucket
from mayfly.core.errors import StoreUnavailable
from mayfly.core.turns import work_off
from mayfly.jobs.errors import NotForwarded

__all__ = ["PREFIX", "Reports", "as_message"]

#: The prefix under which Lambda stores reports.
PREFIX: Final = "aws/lambda/"
#: Reports of one call to list them.
_PAGE: Final = 1_000
#: The most characters of an object that is not a report. A message takes 256 KiB.
_TEXT: Final = 60_000
#: Characters that SQS refuses:
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
_REFUSED: Final = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Reports:
    """The bucket of the reports, and the queue that takes them.

    `send` has texts by name, and returns the names of those that were not sent.
    """

    bucket: Bucket
    send: Callable[[Mapping[str, str]], set[str]]
    threads: int = 4

    def forward(self, *, is_over: Callable[[], bool]) -> int:
        """Sends every report to the queue, then deletes it; returns their number.

        A report is deleted after it was sent. If a crash comes between the two, it is sent twice,
        which does no harm. A report that cannot be forwarded holds up no other: raises NotForwarded
        at the end. The next call continues.
        """
        forwarded, after = 0, ""
        errors: list[StoreUnavailable] = []

        def forward_one(key: str) -> int:
            try:
                return self._forward(key)
            except StoreUnavailable as error:
                errors.append(error)
                return 0

        while not is_over():
            try:
                keys = self.bucket.keys(PREFIX, limit=_PAGE, after=after)
            except StoreUnavailable as error:
                errors.append(error)
                break
            if not keys:
                break
            forwarded += work_off(forward_one, keys, threads=self.threads, is_over=is_over)
            after = keys[-1]
        if errors:
            raise NotForwarded(errors[0], left=len(errors), forwarded=forwarded)
        return forwarded

    def _forward(self, key: str) -> int:
        report = self.bucket.read(key)
        if report is None:  # another sweep was quicker
            return 0
        if self.send({key: as_message(report)}):
            raise StoreUnavailable("forward a report", "the queue did not take it")
        self.bucket.delete(key)
        return 1


def as_message(report: bytes) -> str:
    """Returns a report as a text that a message can hold.

    The records that a bucket gets with the report are left out: `bury_jobs` reads the stream, or
    the jobs. An object that is not a report stays a text, which `bury_jobs` stores as unreadable;
    one with characters that SQS refuses becomes the JSON of that text.
    """
    try:
        facts = json.loads(report)
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict):
        text = report[:_TEXT].decode("utf-8", "replace") or "an empty object"
        # An escape takes six characters.
        return json.dumps(text[: _TEXT // 2]) if _REFUSED.search(text) else text
    facts.pop("payload", None)
    return json.dumps(facts)[:_TEXT]
