"""Reports on records that the relay could not send, from their bucket to the queue of dead letters.

The mapping writes its reports to a bucket, since the queues may be the reason why the records could
not be sent.
https://docs.aws.amazon.com/lambda/latest/dg/services-dynamodb-errors.html
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from mayfly.aws.bucket import Bucket
from mayfly.core.errors import StoreUnavailable
from mayfly.core.turns import work_off

__all__ = ["PREFIX", "Reports", "as_message"]

#: The prefix under which Lambda stores reports.
PREFIX: Final = "aws/lambda/"
#: Reports of one call to list them.
_PAGE: Final = 1_000
#: The most characters of an object that is not a report. A message takes 256 KiB.
_TEXT: Final = 60_000


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
        which does no harm. Raises StoreUnavailable: the next call continues.
        """
        forwarded = 0
        while not is_over():
            keys = self.bucket.keys(PREFIX, limit=_PAGE)
            if not keys:
                break
            forwarded += work_off(self._forward, keys, threads=self.threads, is_over=is_over)
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
    the jobs. An object that is not a report stays a text, which `bury_jobs` stores as unreadable.
    """
    try:
        facts = json.loads(report)
    except ValueError:
        facts = None
    if not isinstance(facts, dict):
        return report[:_TEXT].decode("utf-8", "replace") or "an empty object"
    facts.pop("payload", None)
    return json.dumps(facts)[:_TEXT]
