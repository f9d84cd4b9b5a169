"""Buckets whose notifications call functions.

https://docs.aws.amazon.com/lambda/latest/dg/with-s3.html
"""

import json
import logging
from typing import TYPE_CHECKING, Any, Final

from ministack.services import s3

if TYPE_CHECKING:
    from mayfly_local.emulator.durable import Durable

__all__ = ["hook_buckets"]

_LOG: Final = logging.getLogger("mayfly.buckets")


def hook_buckets(durable: "Durable") -> None:
    """Makes ministack request asynchronous invocations for the notifications of buckets."""
    getattr(s3, "_deliver_event_to_lambda")  # noqa: B009 - a missing name ends the start

    def deliver(arn: str, event: dict[str, Any], region: str) -> None:
        function = durable.functions.find(arn)
        if function is None:
            _LOG.warning("a notification was not delivered: there is no function %s", arn)
            return
        durable.invocations.add(function, json.dumps(event))

    s3._deliver_event_to_lambda = deliver
