"""Errors of AWS clients that callers may want to distinguish."""

from collections.abc import Mapping
from typing import Any, Final

from mayfly.core.errors import MayflyError

__all__ = ["NewerFormat", "Refused", "StreamTrimmed", "Unanswered", "Unsent", "out_of_time"]


#: Reasons of an answer that came and is damaged, as botocore names them. AttributeError and
#: UnicodeDecodeError come from its parser.
_DAMAGED: Final = frozenset(
    {"AttributeError", "ChecksumError", "ResponseParserError", "UnicodeDecodeError"}
)


class Refused(Exception):
    """The service has answered with an error.

    `answer` is the whole answer as JSON. `tries` is the number of requests that were sent: if it is
    more than one, a request whose answer was lost may have taken effect. `follows_loss` is true if
    an answer was lost before, or may have been.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int,
        answer: Mapping[str, Any],
        tries: int,
        follows_loss: bool = False,
    ) -> None:
        self.code = code
        self.message = message
        self.status = status
        self.answer = answer
        self.tries = tries
        self.follows_loss = follows_loss
        super().__init__(f"{code}: {message}")


def out_of_time() -> Refused:
    """Returns the refusal of a call that was not sent, since its request has no time left."""
    text = "the request has no time left for a call"
    return Refused("DeadlineExceeded", text, status=400, answer={}, tries=0)


class Unanswered(Exception):
    """No answer came that could be read: the request may or may not have taken effect.

    `reason` names the failure as botocore does. `is_damaged` is true if an answer came that cannot
    be read, false if the connection was lost or the time was over.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.is_damaged = reason in _DAMAGED
        super().__init__(reason)


class Unsent(Exception):
    """The request cannot be written as JSON, so it was not sent."""


class NewerFormat(MayflyError, ValueError):
    """A later release has written this item, in a format that this release does not read.

    It is a ValueError, too, since the item does not have the form that its reader expects.
    """

    def __init__(self, kind: str, number: int, known: int) -> None:
        super().__init__(
            f"the {kind} has format {number}, and this release reads formats up to {known}: "
            "deploy the later release again (mayfly doctor)"
        )


class StreamTrimmed(MayflyError):
    """The table's stream no longer has these records (it keeps them for 24 hours)."""

    retryable = False

    def __init__(self, stream_arn: str, first: str, last: str) -> None:
        super().__init__(f"the stream {stream_arn} no longer has the records {first} to {last}")
