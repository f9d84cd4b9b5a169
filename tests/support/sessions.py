"""A session store with a clock and secrets that a test controls."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from typing import Any

from mayfly.aws.dynamodb import DynamoDB
from mayfly.sessions import SessionStore

from tests.support.fakes import FixedClock

__all__ = ["UNSTORABLE", "Sequence", "Sessions"]

_CIRCLE: list[Any] = []
_CIRCLE.append(_CIRCLE)

#: Values that JSON cannot hold, each with the error that an adapter raises.
UNSTORABLE: dict[str, tuple[Any, type[Exception]]] = {
    "NaN": (float("nan"), ValueError),
    "infinity": (float("inf"), ValueError),
    "minus infinity": (float("-inf"), ValueError),
    "NaN inside": ({"a": [1, float("nan")]}, ValueError),
    "lone surrogate": ("\ud800", ValueError),
    "lone surrogate in a key": ({"\udfff": 1}, ValueError),
    "10^5000": (10**5000, ValueError),
    "circle": (_CIRCLE, ValueError),
    "set": ({1, 2}, TypeError),
    "bytes": (b"x", TypeError),
    "decimal": (Decimal("1.5"), TypeError),
    "datetime": (datetime(2027, 1, 15, tzinfo=UTC), TypeError),
    "object": (object(), TypeError),
    "mixed keys": ({1: 1, "a": 1}, TypeError),
}


@dataclass
class Sequence:
    """Texts of one length, in order: secrets that a test can predict."""

    prefix: str
    length: int
    _numbers: Any = field(default_factory=lambda: count(1))

    def __call__(self) -> str:
        return self.at(next(self._numbers))

    def at(self, number: int) -> str:
        """Returns the text of this number, whether it was drawn or not."""
        return self.prefix + str(number).zfill(self.length - len(self.prefix))


class Sessions(SessionStore):
    """Sessions on a client, by its own clock."""

    def __init__(
        self,
        client: Any,
        table: str = "SessionsTable",
        *,
        clock: FixedClock | None = None,
        prefix: str = "",
    ) -> None:
        self.time = clock or FixedClock()
        self.pauses: list[int] = []
        self.secrets = Sequence(prefix or "S", 43)
        super().__init__(
            DynamoDB(client, self.pauses.append),
            table,
            subject_key="test",
            clock=self.time,
            new_id=Sequence((prefix.lower() or "a").encode().hex()[:8], 32),
            new_secret=self.secrets,
            new_nonce=Sequence(prefix or "n", 16),
        )
