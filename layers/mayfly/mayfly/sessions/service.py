"""Sessions in a store with time expiration, never in the process (twelve factors, VI): any process
serves any of them.

Every verb takes the store first. A token is shown when it is made and never again; what is stored
opens nothing. Where a token opens nothing (unknown, expired, ended, rotated away) verbs raise
SessionNotFound, where the store did not answer StoreUnavailable.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from mayfly.core.errors import StoreUnavailable
from mayfly.core.json_input import canonical_json
from mayfly.sessions import rules
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

#: How often a write that meets others is tried again. Each try that fails for another writer's sake
#: is that one's success.
_TRIES: Final = 30

#: Makes new data of the old, which it leaves as it is; may be called several times.
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
    """A new session and its token. It ends when nobody uses it for `idle_seconds`, and after
    `absolute_seconds` in any case.

    One write; with a subject also one read. Raises PayloadTooLarge for data above 256 KiB of JSON,
    InvalidRequest for data that is not JSON and for a subject that does not match `fields.NAME`.
    """
    now_ms, session_id, secret = store.clock(), store.new_id(), store.new_secret()
    partition = (
        rules.anonymous_partition(session_id)
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
        secret_hash=rules.hash_secret(secret),
        created_at_ms=now_ms,
        idle_ms=idle_seconds * 1000,
        absolute_ms=absolute_seconds * 1000,
        idle_expires_at_ms=0,
        absolute_expires_at_ms=now_ms + absolute_seconds * 1000,
        nonce="",
    )
    session = rules.changed(blank, dict(data or {}), nonce=store.new_nonce(), now_ms=now_ms)
    store.create(session)
    return rules.write_token(session, secret), session


def read(store: SessionStore, token: str, *, tenant: str) -> Session:
    """The session that a token opens.

    One call; a second one, a write, once a tenth of its idle time has passed unwritten.
    """
    now_ms = store.clock()
    session, _ = store.find(tenant, rules.read_token(token), now_ms=now_ms)
    return store.touch(session, now_ms=now_ms) if rules.is_touch_due(session, now_ms) else session


def patch(
    store: SessionStore,
    token: str,
    body: Mapping[str, Any],
    *,
    tenant: str,
    if_match: frozenset[str] | None = None,
) -> Session:
    """Merges a JSON Merge Patch into the data (RFC 7396). Patches that overlap are all applied, one
    after the other.

    `if_match` names the versions that may be patched (`rules.read_if_match`); raises
    VersionConflict for another one.
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
    """Replaces the data by what `edit` makes of it, without losing what others write meanwhile:
    `edit` is called again on theirs.

    Two calls where no other writer is met. What changes nothing is not written, but for a touch
    that is due. `lifetime` sets other idle and absolute seconds, counted from now.
    """

    def next_version(seen: Session, now_ms: int, _: int) -> Session:
        rules.check_version(seen, if_match)
        data = edit(seen.data)
        if lifetime is None and canonical_json(data) == canonical_json(
            seen.data
        ):  # to Python, True is 1 and 1.0
            return seen
        after = rules.changed(seen, data, nonce=store.new_nonce(), now_ms=now_ms)
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
    """A new token in the place of this one, which opens nothing from then on; for every change of
    privilege (ASVS 5.0, 7.2.4).

    With a `subject` the session becomes that one's: another subject is a login, and starts the
    absolute deadline anew. Two calls. `edit` and `lifetime` as for `change`, in the same write. A
    caller that dies before it has the new token has lost the session: the old one was given up so
    that nobody else could use it.
    """
    secret = store.new_secret()
    partition = None if subject is None else store.partition(tenant, subject)

    def next_version(seen: Session, now_ms: int, generation: int) -> Session:
        after = rules.changed(seen, edit(seen.data), nonce=store.new_nonce(), now_ms=now_ms)
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
    return rules.write_token(session, secret), session


def end(store: SessionStore, token: str, *, tenant: str) -> None:
    """Logout: the token opens nothing from now on, whatever is still on its way. One call."""
    store.end(tenant, rules.read_token(token), now_ms=store.clock())


def end_read(store: SessionStore, session: Session) -> None:
    """Ends a session that was read, even if another request has given it another token since.

    One call.
    """
    store.end_by_id(session.tenant, session.partition, session.id, now_ms=store.clock())


def end_all(store: SessionStore, *, tenant: str, subject: str) -> None:
    """Ends all sessions of a subject, at once and however many there are. One call."""
    store.end_all(tenant, store.partition(tenant, subject))


def end_one(store: SessionStore, *, tenant: str, subject: str, session_id: str) -> None:
    """Ends one of a subject's sessions, by its id: another device's, say. One call."""
    if not rules.ID.fullmatch(session_id):
        raise SessionNotFound
    store.end_by_id(tenant, store.partition(tenant, subject), session_id, now_ms=store.clock())


def list_by_subject(
    store: SessionStore, *, tenant: str, subject: str, limit: int = 50, after: str | None = None
) -> Page:
    """A page of a subject's sessions that are alive.

    One call, two for a following page. `after` is the `next` of the page before.
    """
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
    """Reads, writes the next version on condition of what was read, and begins again where another
    writer came first.

    What has expired between the two is not written. A write that is on its way when the deadline
    passes counts as made in time.
    """
    read_from = rules.read_token(token)
    for attempt in range(_TRIES):
        if attempt:
            store.pause(min(attempt, 5))
        now_ms = store.clock()
        seen, generation = store.find(
            tenant, read_from, now_ms=now_ms, and_generation_of=and_generation_of
        )
        after = next_version(seen, now_ms, generation)
        if after is seen:
            return store.touch(seen, now_ms=now_ms) if rules.is_touch_due(seen, now_ms) else seen
        try:
            store.replace(seen, after, now_ms=now_ms)
        except StaleWrite:
            continue
        return after
    raise StoreUnavailable("write the session", f"other writers came first {_TRIES} times in a row")
