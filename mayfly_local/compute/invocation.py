"""An invocation of a function: the event that it gets, and the reply or failure that comes back."""

import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

__all__ = ["ASYNCHRONOUS_LIMIT", "PAYLOAD_LIMIT", "Failure", "Invocation", "NotSent", "Reply"]

#: Largest synchronous request or response, in bytes.
#: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
PAYLOAD_LIMIT: Final = 6 * 1024 * 1024
#: Largest event of an asynchronous invocation, in bytes, by the same page.
ASYNCHRONOUS_LIMIT: Final = 1024 * 1024


@dataclass(frozen=True)
class Invocation:
    """An event for a function, with its request id. The trace header is X-Ray's."""

    event: bytes
    request_id: str
    trace: str
    #: JSON that the caller sent with the event; empty if there is none.
    client_context: str = ""

    @classmethod
    def of(cls, event: Any) -> "Invocation":
        """Returns an invocation with new ids."""
        try:
            text = json.dumps(event, ensure_ascii=False).encode()
        except UnicodeEncodeError:  # a lone surrogate, which JSON can hold, and UTF-8 cannot
            text = json.dumps(event).encode()
        return cls(text, str(uuid.uuid4()), _new_trace())

    @classmethod
    def of_json(cls, event: str, *, request_id: str, client_context: str = "") -> "Invocation":
        """Returns an invocation with an event that is JSON already, and a new trace."""
        return cls(event.encode(), request_id, _new_trace(), client_context)


def _new_trace() -> str:
    root = f"1-{int(time.time()):08x}-{uuid.uuid4().hex[:24]}"
    return f"Root={root};Parent={uuid.uuid4().hex[:16]};Sampled=0"


@dataclass(frozen=True)
class Reply:
    """The handler's result, as JSON."""

    payload: bytes


@dataclass(frozen=True)
class Failure:
    """The reason for a missing reply.

    Either the handler raised, or its process timed out, exited, was killed or ran out of memory.
    """

    kind: str
    message: str
    #: Other members of the report of the runtime, such as `stackTrace` and `requestId`.
    details: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def payload(self) -> bytes:
        """The error in the form that Lambda returns to a caller.

        https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html
        """
        error = {"errorMessage": self.message, "errorType": self.kind, **self.details}
        return json.dumps(error).encode()


class NotSent(Exception):
    """The process died before it read its event; another environment may run the invocation."""
