"""Stores of deliveries: signing secrets (Parameter Store), and notes on receivers (DynamoDB).

A note says that an endpoint answered 410, or whether a receiver is quick.
"""

import hashlib
from contextlib import suppress
from typing import Any

from mayfly.aws.dynamodb import ConditionFailed, DynamoDB, Item
from mayfly.aws.parameters import Parameters
from mayfly.core.clock import Clock
from mayfly.core.errors import MayflyError
from mayfly.core.ids import key
from mayfly.webhooks.errors import UnknownSecret
from mayfly.webhooks.receivers import NOTES_KEPT_SECONDS, Note
from mayfly.webhooks.rules import read_secrets

__all__ = ["Endpoints", "ReceiverNotes", "Secrets", "parameter"]

#: The time for which a 410 is remembered, in seconds.
_GONE_SECONDS = 90 * 24 * 3600
#: The time for which it is remembered that a receiver has turned slow, in seconds.
_TURNED_SECONDS = 60


class Secrets:
    """Signing secrets of all tenants: parameters `<prefix>/<tenant>/<name>`."""

    def __init__(self, parameters: Parameters, prefix: str) -> None:
        self._parameters = parameters
        self._prefix = prefix

    def read(self, tenant: str, name: str) -> list[bytes]:
        """Returns the signing keys, newest first.

        Raises UnknownSecret, BadSecret, StoreUnavailable.
        """
        secret = self._parameters.read(f"{self._prefix}/{parameter(tenant, name)}")
        if secret is None:
            raise UnknownSecret(name)
        return read_secrets(secret, name)


class Endpoints:
    """Endpoints of all tenants that answered 410.

    Each is remembered for ninety days, or until a redriven job is delivered to it.
    """

    def __init__(self, db: DynamoDB, table: str, clock: Clock) -> None:
        self._db = db
        self.table = table
        self._clock = clock

    def is_gone(self, tenant: str, url: str) -> bool:
        """Returns True if an endpoint has answered 410. Raises StoreUnavailable."""
        item = self._db.get("read endpoint", self.table, self.key(tenant, url))
        return item is not None and int(item["expires_at"]["N"]) * 1000 >= self._clock()

    def end(self, tenant: str, url: str) -> None:
        """Remembers that an endpoint has answered 410. Raises StoreUnavailable."""
        expires = {"N": str(self._clock() // 1000 + _GONE_SECONDS)}
        self._db.put(
            "end endpoint",
            TableName=self.table,
            Item={**self.key(tenant, url), "expires_at": expires},
        )

    def reopen(self, tenant: str, url: str) -> None:
        """Forgets that an endpoint has answered 410. Raises StoreUnavailable."""
        self._db.delete("reopen endpoint", TableName=self.table, Key=self.key(tenant, url))

    @staticmethod
    def key(tenant: str, url: str) -> Item:
        """Returns the key of an endpoint.

        It has a hash of the URL, since some URLs contain secrets.
        """
        return {"pk": {"S": key(tenant, hashlib.sha256(url.encode()).hexdigest())}}


class ReceiverNotes:
    """Notes on receivers by which processes tell each other of their last answers.

    There is an item for each receiver, so notes stay small however many there are. Notes are a help
    only: without them, each process finds out by itself. So nothing is raised if the table does not
    answer.
    """

    def __init__(self, db: DynamoDB, table: str, clock: Clock) -> None:
        self._db = db
        self._table = table
        self._clock = clock

    def read(self, tenant: str, origin: str) -> Note | None:
        """Returns the last note of any process within an hour, None without one."""
        with suppress(MayflyError):
            item = self._db.get("read receiver", self._table, self._key(tenant, origin))
            if item is not None and int(item["expires_at"]["N"]) * 1000 >= self._clock():
                age_ms = self._clock() - int(item["noted_at"]["N"])
                late_seconds = int(item["late_ms"]["N"]) / 1000 if "late_ms" in item else None
                return Note(item["quick"]["BOOL"], max(0, age_ms) / 1000, late_seconds)
        return None

    def write(
        self, tenant: str, origin: str, *, is_quick: bool, late_seconds: float | None = None
    ) -> None:
        """Replaces the note on a receiver, for an hour. The last one counts.

        Releases up to 0.3.0 neither write nor read `late_ms`.
        """
        now_ms = self._clock()
        note: Item = {
            "quick": {"BOOL": is_quick},
            "noted_at": {"N": str(now_ms)},
            "expires_at": {"N": str(now_ms // 1000 + NOTES_KEPT_SECONDS)},
        }
        if late_seconds is not None:
            note["late_ms"] = {"N": str(int(late_seconds * 1000))}
        with suppress(MayflyError):
            self._db.put(
                "note receiver",
                TableName=self._table,
                Item={**self._key(tenant, origin), **note},
            )

    def note_turned(self, tenant: str, origin: str) -> None:
        """Notes that a receiver has turned slow, for a minute or until after the next one."""
        now_s = self._clock() // 1000
        # A hash of one byte: enough to count a few, and the item stays small.
        values: Item = {
            ":one": {"SS": [hashlib.sha256(origin.encode()).hexdigest()[:2]]},
            ":until": {"N": str(now_s + _TURNED_SECONDS)},
        }
        has_expired = "attribute_not_exists(#expires_at) OR #expires_at < :now"
        with suppress(MayflyError):
            try:
                self._note_turned(
                    tenant,
                    {**values, ":now": {"N": str(now_s)}},
                    UpdateExpression="SET #origins = :one, #expires_at = :until",
                    ConditionExpression=has_expired,
                )
            except ConditionFailed:
                self._note_turned(
                    tenant,
                    values,
                    UpdateExpression="SET #expires_at = :until ADD #origins :one",
                )

    def count_turned(self, tenant: str) -> int:
        """Returns the number of a tenant's receivers that have turned slow.

        Each has done so within a minute of another one, the last one within this minute.
        """
        with suppress(MayflyError):
            item = self._db.get("read receivers", self._table, self._turned_key(tenant))
            if item is not None and int(item["expires_at"]["N"]) * 1000 >= self._clock():
                return len(item["origins"]["SS"])
        return 0

    def _note_turned(self, tenant: str, values: Item, **request: Any) -> None:
        self._db.update(
            "note receivers",
            TableName=self._table,
            Key=self._turned_key(tenant),
            ExpressionAttributeNames={"#origins": "origins", "#expires_at": "expires_at"},
            ExpressionAttributeValues=values,
            **request,
        )

    @staticmethod
    def _turned_key(tenant: str) -> Item:
        return Endpoints.key(tenant, "turned slow")

    @staticmethod
    def _key(tenant: str, origin: str) -> Item:
        # No URL has a space, so this is not the key of an endpoint.
        return Endpoints.key(tenant, f"receiver {origin}")


def parameter(tenant: str, name: str) -> str:
    """Returns the end of a secret's path.

    Parameter Store allows letters, digits and `.-_` in names. Any other character is written as `_`
    and its code, so that different names have different paths.
    """
    return f"{_escaped(tenant)}/{_escaped(name)}"


def _escaped(name: str) -> str:
    return "".join(char if char.isalnum() or char in ".-" else f"_{ord(char):02x}" for char in name)
