"""Verbs of sessions. Each takes the store first.

Sessions are in a store with time expiration, never in the process (twelve factors, VI), so any
process can serve any session. A token is returned once, when it is made; the store has only the
hash of its secret. Verbs raise SessionNotFound if a token is unknown, expired, ended or rotated
away, and StoreUnavailable if the store did not answer.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from mayfly.core.errors import InvalidRequest, StoreUnavailable
from mayfly.core.ids import hash_secret
from mayfly.core.json_input import canonical_json
from mayfly.sessions import rules, tokens
from mayfly.sessions.errors import SessionNotFound
from mayfly.sessions.model import Page, Session
from mayfly.sessions.rules import DEFAULT_ABSOLUTE_SECONDS, DEFAULT_IDLE_SECONDS, merge_patch
from mayfly.sessions.store import SessionStore, StaleWrite

__all__ = [
    "change",
    "create",
    "end",
    "end_all",
    "end_one",
    "end_read",
    "list_by_subject",
    "patch",
    "read",
    "rotate",
]

#: Tries of a write. A try fails with a conflict only if another writer has succeeded.
_TRIES: Final = 30

#: A function that returns new data for the old. It does not change the old data, and may be called
#: several times.
Edit = Callable[[dict[str, Any]], dict[str, Any]]


def create(
    store: SessionStore,
    *,
    tenant: str,
    subject: str | None = None,
    data: Mapping[str, Any] | None = None,
    idle_seconds: int = DEFAULT_IDLE_SECONDS,
    absolute_seconds: int = DEFAULT_ABSOLUTE_SECONDS,
) -> tuple[str, Session]:
    """Creates a session, and returns its token and the session.

    The session ends when it has not been used for `idle_seconds`, and after `absolute_seconds` in
    any case. Costs one write; with a subject also one read. Raises PayloadTooLarge for data above
    256 KiB of JSON. Raises InvalidRequest for data that is not JSON, for a subject that does not
    match `core.json_input.NAME`, and for seconds that are not whole, below 1 or above 400 days.
    """
    rules.check_lifetime(idle_seconds, absolute_seconds)
    now_ms, session_id, secret = store.clock(), store.new_id(), store.new_secret()
    partition = (
        tokens.anonymous_partition(session_id)
        if subject is None
        else store.partition(tenant, subject)
    )
    blank = Session(
        tenant=tenant,
        partition=partition,
        id=session_id,
        subject=subject,
        data={},
        version=0,
        generation=0 if subject is None else store.generation(tenant, partition),
        secret_hash=hash_secret(secret),
        created_at_ms=now_ms,
        idle_ms=idle_seconds * 1000,
        absolute_ms=absolute_seconds * 1000,
        idle_expires_at_ms=0,
        absolute_expires_at_ms=now_ms + absolute_seconds * 1000,
        nonce="",
    )
    session = rules.changed(blank, dict(data or {}), nonce=store.new_nonce(), now_ms=now_ms)
    store.create(session)
    return tokens.write_token(session, secret), session


def read(store: SessionStore, token: str, *, tenant: str) -> Session:
    """Returns the session of a token.

    Costs one read; also a write if this use moves the idle deadline by a tenth of the idle time.
    """
    now_ms = store.clock()
    session, _ = store.find(tenant, tokens.read_token(token), now_ms=now_ms)
    return store.touch(session, now_ms=now_ms) if rules.is_touch_due(session, now_ms) else session


def patch(
    store: SessionStore,
    token: str,
    body: Mapping[str, Any],
    *,
    tenant: str,
    if_match: frozenset[str] | None = None,
) -> Session:
    """Merges a JSON Merge Patch into the data (RFC 7396), and returns the session.

    Concurrent patches are all applied, one after the other. `if_match` has the versions that may be
    patched (`wire.read_if_match`). Raises VersionConflict if the session is at another version.
    """
    return change(
        store, token, lambda data: merge_patch(data, body), tenant=tenant, if_match=if_match
    )


def change(
    store: SessionStore,
    token: str,
    edit: Edit,
    *,
    tenant: str,
    if_match: frozenset[str] | None = None,
    lifetime: tuple[int, int] | None = None,
) -> Session:
    """Replaces the data by the result of `edit`, and returns the session.

    No write of another caller is lost: after a conflict, `edit` is called again with the new data.
    Costs a read and a write, more after conflicts. If `edit` changes nothing, there is no write
    except a touch that is due. `lifetime` sets other idle and absolute seconds, counted from now.
    Raises InvalidRequest for data and seconds as `create` does.
    """

    def next_version(before: Session, now_ms: int, _: int) -> Session:
        rules.check_version(before, if_match)
        data = edit(before.data)
        # Compared as JSON, because True equals 1 and 1.0 in Python.
        if lifetime is None and rules.data_json(data) == canonical_json(before.data):
            return before
        after = rules.changed(before, data, nonce=store.new_nonce(), now_ms=now_ms)
        return after if lifetime is None else rules.lasting(after, *lifetime, now_ms=now_ms)

    return _write(store, token, tenant, next_version)


def rotate(
    store: SessionStore,
    token: str,
    *,
    tenant: str,
    subject: str | None = None,
    edit: Edit = lambda data: data,
    lifetime: tuple[int, int] | None = None,
) -> tuple[str, Session]:
    """Replaces a session's token, and returns the new one and the session.

    The old token is refused from then on. Rotate at every change of privilege (ASVS 5.0, 7.2.4).
    With a `subject` the session becomes that subject's. Another subject means a login, so it starts
    the absolute deadline again. Costs a read and a write. `edit` and `lifetime` are as for
    `change`, in the same write. If the caller crashes before it has the new token, it has lost the
    session, because the old token must not stay usable.
    """
    secret = store.new_secret()
    partition = None if subject is None else store.partition(tenant, subject)

    def next_version(before: Session, now_ms: int, generation: int) -> Session:
        after = rules.changed(before, edit(before.data), nonce=store.new_nonce(), now_ms=now_ms)
        if lifetime is not None:
            after = rules.lasting(after, *lifetime, now_ms=now_ms)
        return rules.rotated(
            after,
            secret,
            subject=subject,
            partition=partition or "",
            generation=generation,
            now_ms=now_ms,
        )

    session = _write(store, token, tenant, next_version, and_generation_of=partition)
    return tokens.write_token(session, secret), session


def end(store: SessionStore, token: str, *, tenant: str) -> None:
    """Ends a session (logout). The token is refused from now on. One call.

    A write that is still on its way cannot bring the session back.
    """
    store.end(tenant, tokens.read_token(token), now_ms=store.clock())


def end_read(store: SessionStore, session: Session) -> None:
    """Ends a session that was read, even if another request has rotated its token since.

    One call.
    """
    store.end_by_id(session.tenant, session.partition, session.id, now_ms=store.clock())


def end_all(store: SessionStore, subject: str, *, tenant: str) -> None:
    """Ends all sessions of a subject immediately, by one call for any number of them."""
    store.end_all(tenant, store.partition(tenant, subject))


def end_one(store: SessionStore, subject: str, *, tenant: str, session_id: str) -> None:
    """Ends one of a subject's sessions by its id, such as that of another device. One call."""
    if not tokens.ID.fullmatch(session_id):
        raise SessionNotFound
    store.end_by_id(tenant, store.partition(tenant, subject), session_id, now_ms=store.clock())


def list_by_subject(
    store: SessionStore, subject: str, *, tenant: str, limit: int = 50, after: str | None = None
) -> Page:
    """Returns a page of a subject's live sessions.

    Costs one call for the first page, two for a following one. `after` is the `next` of the page
    before. Raises InvalidRequest for a `limit` below 1.
    """
    if not isinstance(limit, int) or limit < 1:
        raise InvalidRequest("limit", f"must be a whole number of 1 at least, not {limit!r}")
    return store.page(
        tenant, store.partition(tenant, subject), limit=limit, after=after, now_ms=store.clock()
    )


def _write(
    store: SessionStore,
    token: str,
    tenant: str,
    next_version: Callable[[Session, int, int], Session],
    *,
    and_generation_of: str | None = None,
) -> Session:
    """Reads a session, writes its next version if it has not changed, and retries after a conflict.

    A session that has expired after the read is not written. A write that was sent before the
    deadline counts as made in time.
    """
    parts = tokens.read_token(token)
    for attempt in range(_TRIES):
        if attempt and not store.pause(min(attempt, 5)):
            break
        now_ms = store.clock()
        before, generation = store.find(
            tenant, parts, now_ms=now_ms, and_generation_of=and_generation_of
        )
        after = next_version(before, now_ms, generation)
        if after is before:
            is_due = rules.is_touch_due(before, now_ms)
            return store.touch(before, now_ms=now_ms) if is_due else before
        try:
            store.replace(before, after, now_ms=now_ms)
        except StaleWrite:
            continue
        return after
    raise StoreUnavailable("write the session", "conflicts with other writers in every try")
