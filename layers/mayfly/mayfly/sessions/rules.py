"""Rules of sessions: which secrets are valid, and the next version after each change."""

import hmac
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from mayfly.core.errors import InvalidRequest, PayloadTooLarge
from mayfly.core.ids import hash_secret
from mayfly.core.json_input import canonical_json
from mayfly.sessions.errors import VersionConflict
from mayfly.sessions.model import Session

__all__ = [
    "DATA_LIMIT",
    "DEFAULT_ABSOLUTE_SECONDS",
    "DEFAULT_IDLE_SECONDS",
    "MAX_SECONDS",
    "ROTATION_GRACE_MS",
    "changed",
    "check_lifetime",
    "check_version",
    "data_json",
    "is_touch_due",
    "is_valid",
    "lasting",
    "merge_patch",
    "rotated",
    "touched_until",
    "was_rotated_away",
]

#: The most data of a session, in bytes of JSON. More data belongs in S3.
DATA_LIMIT: Final = 256 * 1024
#: Default time for which an unused session lasts, and the time after which any session ends. NIST
#: SP 800-63B-3 requires re-authentication after 30 minutes of inactivity and after 12 hours in any
#: case (AAL2, 4.2.3). ASVS 5.0, 7.3.1 and 7.3.2, requires both deadlines.
DEFAULT_IDLE_SECONDS: Final = 30 * 60
DEFAULT_ABSOLUTE_SECONDS: Final = 12 * 3600
#: The longest deadline: browsers do not keep a cookie for longer than 400 days (RFC 6265bis, 5.5).
MAX_SECONDS: Final = 400 * 24 * 3600
#: Time for which a token that was rotated away is distinguished from an unknown one, in
#: milliseconds. A browser may send requests with the old token while another request rotates it;
#: those requests must not get a new session.
ROTATION_GRACE_MS: Final = 60_000
#: A use moves the idle deadline only if it moves it by at least 1/10 of the idle time.
_TOUCH_PART: Final = 10


def is_valid(session: Session, secret: str, generation: int, now_ms: int) -> bool:
    """Returns True if a secret opens this session now.

    The secret must be right, the subject's generation the same, and the deadlines in the future.
    """
    # In constant time (ASVS 5.0, 11.2.4).
    is_right = hmac.compare_digest(session.secret_hash, hash_secret(secret))
    return is_right and session.generation == generation and now_ms < session.idle_expires_at_ms


def was_rotated_away(session: Session, secret: str, now_ms: int) -> bool:
    """Returns True if a secret that does not open this session may have opened it until just now.

    The session was rotated within `ROTATION_GRACE_MS`, so the secret may be the one before.
    """
    is_another_secret = session.secret_hash != hash_secret(secret)
    has_moved_away = session.idle_expires_at_ms == session.rotated_at_ms  # (`writes.move_away`)
    is_recent = now_ms < session.rotated_at_ms + ROTATION_GRACE_MS
    return (is_another_secret or has_moved_away) and is_recent


def touched_until(session: Session, now_ms: int) -> int:
    """Returns the idle deadline of a session that is used now."""
    return min(now_ms + session.idle_ms, session.absolute_expires_at_ms)


def is_touch_due(session: Session, now_ms: int) -> bool:
    """Returns True if a use now moves the idle deadline by at least a tenth of the idle time."""
    return (
        touched_until(session, now_ms) - session.idle_expires_at_ms >= session.idle_ms / _TOUCH_PART
    )


def changed(session: Session, data: dict[str, Any], *, nonce: str, now_ms: int) -> Session:
    """Returns the next version of a session, with other data and a new idle deadline.

    Raises PayloadTooLarge, or InvalidRequest if the data is not JSON.
    """
    size = len(data_json(data).encode())
    if size > DATA_LIMIT:
        raise PayloadTooLarge("data", size, DATA_LIMIT)
    return replace(
        session,
        data=data,
        version=session.version + 1,
        nonce=nonce,
        idle_expires_at_ms=max(session.idle_expires_at_ms, touched_until(session, now_ms)),
    )


def data_json(data: Mapping[str, Any]) -> str:
    """Returns a session's data as the JSON to store. Raises InvalidRequest, which names the key."""
    try:
        text = canonical_json(data)
        text.encode()
    except (TypeError, ValueError, RecursionError) as problem:
        raise InvalidRequest(
            "data", f"{_bad_key(data)!r} is not JSON ({type(problem).__name__})"
        ) from problem
    return text


def _bad_key(data: Mapping[str, Any]) -> Any:
    """Returns the first key whose value JSON cannot hold; None if only the keys are at fault."""
    for name, value in data.items():
        try:
            canonical_json({name: value}).encode()
        except (TypeError, ValueError, RecursionError):
            return name
    return None


def check_lifetime(idle_seconds: int, absolute_seconds: int) -> None:
    """Raises InvalidRequest unless both are whole seconds, from 1 to `MAX_SECONDS` (400 days)."""
    for field, seconds in (
        ("idle_seconds", idle_seconds),
        ("absolute_seconds", absolute_seconds),
    ):
        is_whole = isinstance(seconds, int) and not isinstance(seconds, bool)
        if not is_whole or not 1 <= seconds <= MAX_SECONDS:
            raise InvalidRequest(
                field, f"must be a whole number from 1 to {MAX_SECONDS} (400 days), not {seconds!r}"
            )


def lasting(session: Session, idle_seconds: int, absolute_seconds: int, *, now_ms: int) -> Session:
    """Returns a session with other deadlines, both counted from now. Raises InvalidRequest."""
    check_lifetime(idle_seconds, absolute_seconds)
    idle_ms, absolute_ms = idle_seconds * 1000, absolute_seconds * 1000
    after = replace(
        session,
        idle_ms=idle_ms,
        absolute_ms=absolute_ms,
        absolute_expires_at_ms=now_ms + absolute_ms,
    )
    return replace(after, idle_expires_at_ms=touched_until(after, now_ms))


def rotated(
    session: Session,
    secret: str,
    *,
    subject: str | None,
    partition: str,
    generation: int,
    now_ms: int,
) -> Session:
    """Returns a changed session with a new secret, and with another subject if one is given.

    A new subject means a new authentication, so the absolute deadline starts again. With the same
    subject the deadline stays; otherwise a session could last for ever by rotations.
    """
    after = replace(session, secret_hash=hash_secret(secret), rotated_at_ms=now_ms)
    if subject in (None, session.subject):
        return after
    absolute = now_ms + session.absolute_ms
    return replace(
        after,
        subject=subject,
        partition=partition,
        generation=generation,
        absolute_expires_at_ms=absolute,
        idle_expires_at_ms=min(now_ms + session.idle_ms, absolute),
    )


def merge_patch(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `target` with a JSON Merge Patch applied (RFC 7396, 2).

    Null removes a member, objects are merged, and any other value replaces.
    """
    merged = dict(target)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, dict):
            inner = merged.get(name)
            merged[name] = merge_patch(inner if isinstance(inner, dict) else {}, value)
        else:
            merged[name] = value
    return merged


def check_version(session: Session, allowed: frozenset[str] | None) -> None:
    """Raises VersionConflict unless If-Match allows the session's version."""
    if allowed is not None and str(session.version) not in allowed:
        raise VersionConflict(session.version)
