"""Sessions on DynamoDB: sends the requests of writes.py, and raises an error for each refusal."""

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from mayfly.aws.dynamodb import ConditionFailed, DynamoDB, RequestRefused, TransactionCancelled
from mayfly.aws.items import UNREADABLE
from mayfly.core import deadline
from mayfly.core.clock import Clock
from mayfly.core.errors import StoreUnavailable
from mayfly.core.ids import hash_secret
from mayfly.sessions import writes
from mayfly.sessions.errors import SessionNotFound
from mayfly.sessions.items import (
    Item,
    generation_key,
    generation_of,
    read_item,
    session_id_in,
    session_key,
)
from mayfly.sessions.model import Page, Session, Token
from mayfly.sessions.rules import is_valid, touched_until, was_rotated_away
from mayfly.sessions.tokens import subject_partition

__all__ = ["SessionRotated", "SessionStore", "StaleWrite"]

_LOG: Final = logging.getLogger(__name__)

#: Tries of a new session's transaction that meets a conflict or load.
_CREATE_TRIES: Final = 6
#: Reasons of a cancelled transaction that mean a stale write: another writer has changed the item,
#: or writes to it at the same time.
_PASSING: Final = {
    "ConditionalCheckFailed",
    "TransactionConflict",
    "ThrottlingError",
    "ProvisionedThroughputExceeded",
}


class StaleWrite(Exception):
    """Another writer has changed the session since it was read, or writes to it at the same time.

    Nothing was written. Read the session again, and retry.
    """


class SessionRotated(SessionNotFound):
    """The token opened a session until just now, when another request rotated it.

    Callers of the API get the same answer as for SessionNotFound.
    """


class SessionStore:
    """Sessions of all tenants.

    The store holds the clock and the functions that draw ids, secrets and nonces. `subject_key`
    hides subjects in tokens. With another key, list and end-all do not find a subject's former
    sessions. Every method raises StoreUnavailable.
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
        """Returns the partition of a subject's sessions. Raises InvalidRequest."""
        return subject_partition(self._subject_key, tenant, subject)

    def pause(self, attempt: int) -> bool:
        """Waits before a retry of a write that met a conflict. Returns whether there is time."""
        return self._db.pause(attempt)

    def generation(self, tenant: str, partition: str) -> int:
        """Returns a subject's generation."""
        return generation_of(
            self._db.get("read the generation", self._table, generation_key(tenant, partition))
        )

    def create(self, session: Session) -> None:
        """Stores a new session."""
        try:
            self._db.transact(
                "create the session",
                [{"Put": writes.create(self._table, session)}],
                tries=_CREATE_TRIES,
            )
        except TransactionCancelled as refusal:
            (reason,) = refusal.reasons
            # If it is, the SDK sent the write twice, and the first response was lost.
            if not _is_own_write(reason.item, session):
                raise StoreUnavailable("create the session", reason.code) from refusal

    def find(
        self, tenant: str, token: Token, *, now_ms: int, and_generation_of: str | None = None
    ) -> tuple[Session, int]:
        """Returns the session of a token, and the generation of one more partition.

        Makes one call, strongly consistent. It does not read the two or three items at the same
        instant, and need not: a session that end-all has ended is never written again. So the
        result is the session as it was at some moment of this call, before any end-all.

        Raises SessionNotFound for a token that is unknown, ended, expired or rotated away, and
        SessionRotated if it was rotated just now.
        """
        key = session_key(tenant, token.partition, token.session_id)
        partitions = {
            partition
            for partition in (token.partition, and_generation_of)
            if partition and partition[0] == "s"
        }
        keys = [key, *(generation_key(tenant, partition) for partition in sorted(partitions))]
        items = self._read(keys)
        generations = {
            partition: generation_of(_item_of(items, generation_key(tenant, partition)))
            for partition in partitions
        }
        item = _item_of(items, key)
        if item is None:
            raise SessionNotFound
        session = read_item(tenant, item)
        if is_valid(session, token.secret, generations.get(token.partition, 0), now_ms):
            return session, generations.get(and_generation_of or "", 0)
        raise SessionRotated if was_rotated_away(session, token.secret, now_ms) else SessionNotFound

    def touch(self, session: Session, *, now_ms: int) -> Session:
        """Returns the session with a later idle deadline.

        If that cannot be written now, returns the session unchanged; the next use retries.
        """
        until_ms = touched_until(session, now_ms)
        try:
            self._refuse_late(session)
            with deadline.optional():
                self._db.update("touch the session", **writes.touch(self._table, session, until_ms))
        except RequestRefused:
            # A retry does not help. Without the permission, sessions in use would expire.
            raise
        except (ConditionFailed, SessionNotFound):
            return session
        except StoreUnavailable:
            _LOG.warning("a session's idle deadline could not be moved; its next use retries")
            return session
        return dataclasses.replace(session, idle_expires_at_ms=until_ms)

    def replace(self, before: Session, after: Session, *, now_ms: int) -> None:
        """Writes the next version of a session; with another subject, in that one's partition.

        Raises StaleWrite if the session has changed since it was read, and SessionNotFound if it
        has expired since.
        """
        tenant, table = before.tenant, self._table
        generations = {
            session.partition: session.generation
            for session in (before, after)
            if session.subject is not None
        }
        is_moved = before.partition != after.partition
        requests: list[dict[str, Any]] = (
            [
                {"Put": writes.move_in(table, after)},
                {"Update": writes.move_away(table, before, now_ms)},
            ]
            if is_moved
            else [{"Put": writes.replace(table, before, after)}]
        )
        requests += [
            {"ConditionCheck": writes.check_generation(table, tenant, partition, generation)}
            for partition, generation in generations.items()
        ]
        self._refuse_late(before)
        try:
            self._db.transact("write the session", requests)
        except TransactionCancelled as refusal:
            if _is_own_write(refusal.reasons[0].item, after):
                return  # The SDK sent the write twice, and the first response was lost.
            codes = [reason.code for reason in refusal.reasons]
            if _PASSING.isdisjoint(codes):
                raise StoreUnavailable("write the session", ", ".join(codes)) from refusal
            raise StaleWrite from refusal

    def end(self, tenant: str, token: Token, *, now_ms: int) -> None:
        """Deletes the session of a token. Raises SessionNotFound."""
        place = (tenant, token.partition, token.session_id)
        self._delete(
            writes.end(self._table, *place, secret_hash=hash_secret(token.secret), now_ms=now_ms)
        )

    def end_by_id(self, tenant: str, partition: str, session_id: str, *, now_ms: int) -> None:
        """Deletes one of a subject's sessions. Raises SessionNotFound."""
        self._delete(writes.end_by_id(self._table, tenant, partition, session_id, now_ms=now_ms))

    def end_all(self, tenant: str, partition: str) -> None:
        """Ends all sessions of a subject immediately."""
        self._db.update("end all sessions", **writes.end_all(self._table, tenant, partition))

    def page(
        self, tenant: str, partition: str, *, limit: int, after: str | None, now_ms: int
    ) -> Page:
        """Returns a page of a subject's live sessions, by id.

        A page may have fewer sessions than `limit`, even none, although more follow. A session
        whose record cannot be read is left out and logged with its id: its token opens nothing.
        Costs one call for the first page, which reads the generation too; two for each following
        page.
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
            generation_of(_item_of(items, generation_key(tenant, partition)))
            if after is None
            else self.generation(tenant, partition)
        )
        live = [
            session
            for session in _read_sessions(tenant, items)
            if session.generation == generation and now_ms < session.idle_expires_at_ms
        ]
        last = reply.get("LastEvaluatedKey")
        return Page(live, None if last is None else session_id_in(last))

    def _read(self, keys: list[Item]) -> list[Item]:
        if len(keys) > 1:
            return self._db.get_many("read the session", self._table, keys)
        item = self._db.get("read the session", self._table, keys[0])
        return [item] if item else []

    def _refuse_late(self, session: Session) -> None:
        """Raises SessionNotFound if the session has expired since it was read.

        Other callers may already have got that answer, so the session must not be written.
        """
        if self.clock() >= session.idle_expires_at_ms:
            raise SessionNotFound

    def _delete(self, request: dict[str, Any]) -> None:
        try:
            self._db.delete("end the session", **request)
        except ConditionFailed as refusal:
            # After a lost response, this call itself may have deleted the session. In any case it
            # is deleted, as the caller requested.
            if not (refusal.was_repeated and refusal.item is None):
                raise SessionNotFound from refusal


def _read_sessions(tenant: str, items: Iterable[Item]) -> Iterator[Session]:
    """Yields the sessions in items of a subject's partition, without those that cannot be read."""
    for item in items:
        if not (session_id := session_id_in(item)):
            continue
        try:
            yield read_item(tenant, item)
        except UNREADABLE as problem:
            _LOG.warning(
                "the record of session %s of tenant %s cannot be read, so it is not listed; end it "
                "by its id (%s: %s)",
                *(session_id, tenant, type(problem).__name__, problem),
            )


def _is_own_write(item: Item | None, after: Session) -> bool:
    return item is not None and item.get("nonce") == {"S": after.nonce}


def _item_of(items: list[Item], key: Item) -> Item | None:
    return next(
        (item for item in items if (item["pk"], item["sk"]) == (key["pk"], key["sk"])), None
    )
