"""Sessions on DynamoDB: sends the requests of writes.py, and says what their refusals mean."""

import dataclasses
import logging
from collections.abc import Callable
from typing import Any, Final

from mayfly.aws.dynamodb import ConditionFailed, DynamoDB, RequestRefused, TransactionCancelled
from mayfly.core.clock import Clock
from mayfly.core.errors import StoreUnavailable
from mayfly.sessions import writes
from mayfly.sessions.errors import SessionNotFound
from mayfly.sessions.items import (
    Item,
    generation_key,
    generation_of,
    read_item,
    session_id_in,
    session_key,
    session_sort,
)
from mayfly.sessions.model import Page, Session, Token
from mayfly.sessions.rules import (
    hash_secret,
    is_valid,
    subject_partition,
    touched_until,
    was_rotated_away,
)

__all__ = ["SessionRotated", "SessionStore", "StaleWrite"]

_LOG: Final = logging.getLogger(__name__)

#: Refusals of a transaction by what another writer did, or does at this moment: what stands there
#: now is to be read again.
_PASSING: Final = {
    "ConditionalCheckFailed",
    "TransactionConflict",
    "ThrottlingError",
    "ProvisionedThroughputExceeded",
}


class StaleWrite(Exception):
    """A write met another writer's, or one at work at the same moment; nothing of it was written.

    Read again, and try again.
    """


class SessionRotated(SessionNotFound):
    """The token opened a session until a moment ago, when another request rotated it.

    Nobody outside is told the difference.
    """


class SessionStore:
    """Sessions of all tenants. Holds where time, ids and secrets come from, so that the verbs take
    facts only.

    `subject_key` hides subjects in tokens: with another one, a subject's former sessions are out of
    reach of list and end-all.
    """

    def __init__(
        self,
        db: DynamoDB,
        table: str,
        *,
        subject_key: str,
        clock: Clock,
        new_id: Callable[[], str],
        new_secret: Callable[[], str],
        new_nonce: Callable[[], str],
    ) -> None:
        self._db = db
        self._table = table
        self._subject_key = subject_key
        self.clock = clock
        self.new_id = new_id
        self.new_secret = new_secret
        self.new_nonce = new_nonce

    def partition(self, tenant: str, subject: str) -> str:
        """Where a subject's sessions live."""
        return subject_partition(self._subject_key, tenant, subject)

    def pause(self, attempt: int) -> None:
        """Waits before a write that met another one is tried again."""
        self._db.pause(attempt)

    def generation(self, tenant: str, partition: str) -> int:
        """A subject's generation. Raises StoreUnavailable, as every method here does."""
        return generation_of(
            self._db.get("read the generation", self._table, generation_key(tenant, partition))
        )

    def create(self, session: Session) -> None:
        """Stores a new session."""
        try:
            self._db.transact("create the session", [{"Put": writes.create(self._table, session)}])
        except TransactionCancelled as refusal:
            (reason,) = refusal.reasons
            if not _is_mine(
                reason.item, session
            ):  # or the answer to the first of two tries was lost
                raise StoreUnavailable("create the session", reason.code) from refusal

    def find(
        self, tenant: str, token: Token, *, now_ms: int, and_generation_of: str | None = None
    ) -> tuple[Session, int]:
        """The session that a token opens, and the generation of one more partition. One call,
        strongly consistent.

        The two or three items are not read at one instant. They need not be: a session that end-all
        has ended is not written any more, so what is read here was the session at some moment of
        this call, before that end-all or without it.

        Raises SessionNotFound for a token that is unknown, ended, expired or rotated away;
        SessionRotated where that was just now.
        """
        key = session_key(tenant, token.partition, token.session_id)
        partitions = {
            each for each in (token.partition, and_generation_of) if each and each[0] == "s"
        }
        keys = [key, *(generation_key(tenant, each) for each in sorted(partitions))]
        items = self._read(keys)
        generations = {
            each: generation_of(_named(items, generation_key(tenant, each))) for each in partitions
        }
        item = _named(items, key)
        if item is None:
            raise SessionNotFound
        session = read_item(tenant, item)
        if is_valid(session, token.secret, generations.get(token.partition, 0), now_ms):
            return session, generations.get(and_generation_of or "", 0)
        raise SessionRotated if was_rotated_away(session, token.secret, now_ms) else SessionNotFound

    def touch(self, seen: Session, *, now_ms: int) -> Session:
        """The session with its deadline moved on.

        Where that cannot be written now it is what was read: the next use moves it.
        """
        until_ms = touched_until(seen, now_ms)
        try:
            self._refuse_late(seen)
            self._db.update("touch the session", **writes.touch(self._table, seen, until_ms))
        except (
            RequestRefused
        ):  # not for now: without the permission, sessions would end although they are used
            raise
        except (ConditionFailed, SessionNotFound):
            return seen
        except StoreUnavailable:
            _LOG.warning("a session's deadline could not be moved on; its next use tries again")
            return seen
        return dataclasses.replace(seen, idle_expires_at_ms=until_ms)

    def replace(self, seen: Session, after: Session, *, now_ms: int) -> None:
        """Writes the next version of a session, in another subject's partition where it has another
        subject.

        Raises StaleWrite where it is not as it was seen, and SessionNotFound where it has expired
        since.
        """
        tenant, table = seen.tenant, self._table
        checked = {
            each.partition: each.generation for each in (seen, after) if each.subject is not None
        }
        is_moved = seen.partition != after.partition
        together: list[dict[str, Any]] = (
            [
                {"Put": writes.move_in(table, after)},
                {"Update": writes.move_away(table, seen, now_ms)},
            ]
            if is_moved
            else [{"Put": writes.replace(table, seen, after)}]
        )
        together += [
            {"ConditionCheck": writes.check_generation(table, tenant, *each)}
            for each in checked.items()
        ]
        self._refuse_late(seen)
        try:
            self._db.transact("write the session", together)
        except TransactionCancelled as refusal:
            if _is_mine(
                refusal.reasons[0].item, after
            ):  # the answer to the first of two tries was lost
                return
            codes = [reason.code for reason in refusal.reasons]
            if _PASSING.isdisjoint(codes):
                raise StoreUnavailable("write the session", ", ".join(codes)) from refusal
            raise StaleWrite from refusal

    def end(self, tenant: str, token: Token, *, now_ms: int) -> None:
        """Deletes the session that a token opens. Raises SessionNotFound."""
        place = (tenant, token.partition, token.session_id)
        self._delete(
            writes.end(self._table, *place, secret_hash=hash_secret(token.secret), now_ms=now_ms)
        )

    def end_by_id(self, tenant: str, partition: str, session_id: str, *, now_ms: int) -> None:
        """Deletes one of a subject's sessions. Raises SessionNotFound."""
        self._delete(writes.end_by_id(self._table, tenant, partition, session_id, now_ms=now_ms))

    def end_all(self, tenant: str, partition: str) -> None:
        """Ends all sessions of a subject, at once."""
        self._db.update("end all sessions", **writes.end_all(self._table, tenant, partition))

    def page(
        self, tenant: str, partition: str, *, limit: int, after: str | None, now_ms: int
    ) -> Page:
        """A page of a subject's sessions, by id. A page may be short, even empty, and not the last
        one.

        One call for the first page, which meets the generation on its way; two for each that
        follows.
        """
        start = (
            {} if after is None else {"ExclusiveStartKey": session_key(tenant, partition, after)}
        )
        reply = self._db.query(
            "list sessions",
            TableName=self._table,
            KeyConditionExpression="pk = :pk",
            ExpressionAttributeValues={":pk": generation_key(tenant, partition)["pk"]},
            ConsistentRead=True,
            Limit=limit,
            **start,
        )
        items = reply["Items"]
        generation = (
            generation_of(_named(items, generation_key(tenant, partition)))
            if after is None
            else self.generation(tenant, partition)
        )
        sessions = [
            read_item(tenant, item)
            for item in items
            if item["sk"]["S"].startswith(session_sort(""))
        ]
        alive = [
            each
            for each in sessions
            if each.generation == generation and now_ms < each.idle_expires_at_ms
        ]
        last = reply.get("LastEvaluatedKey")
        return Page(alive, None if last is None else session_id_in(last))

    def _read(self, keys: list[Item]) -> list[Item]:
        if len(keys) > 1:
            return self._db.get_many("read the session", self._table, keys)
        item = self._db.get("read the session", self._table, keys[0])
        return [item] if item else []

    def _refuse_late(self, seen: Session) -> None:
        """Raises SessionNotFound where the session has expired since it was read: others have been
        told so.
        """
        if self.clock() >= seen.idle_expires_at_ms:
            raise SessionNotFound

    def _delete(self, request: dict[str, Any]) -> None:
        try:
            self._db.delete("end the session", **request)
        except ConditionFailed as refusal:
            # After a lost answer its absence may be this very call's doing. That it is gone is what
            # was asked for.
            if not (refusal.was_repeated and refusal.item is None):
                raise SessionNotFound from refusal


def _is_mine(found: Item | None, after: Session) -> bool:
    return found is not None and found.get("nonce") == {"S": after.nonce}


def _named(items: list[Item], key: Item) -> Item | None:
    return next(
        (item for item in items if (item["pk"], item["sk"]) == (key["pk"], key["sk"])), None
    )
