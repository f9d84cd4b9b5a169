"""A session store with a clock and secrets that a test controls."""

from dataclasses import dataclass, field
from itertools import count
from typing import Any

from mayfly.aws.dynamodb import DynamoDB
from mayfly.sessions import SessionStore

from tests.support.fakes import FixedClock


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
