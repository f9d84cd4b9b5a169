"""What follows from a session's values: its token, its deadlines, its changes, its public shape.

A token is `mfs_<place>_<secret>`. The place is `a` and the session's id (nobody has logged in), or
`s`, a hash of the subject and the id: so that a subject's sessions and its generation share one
partition, and the token alone says where to read.
"""

import base64
import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from mayfly.core.clock import rfc3339
from mayfly.core.errors import InvalidRequest, PayloadTooLarge
from mayfly.core.ids import key
from mayfly.core.json_input import NAME, Fields, canonical_json
from mayfly.sessions.errors import SessionNotFound, VersionConflict
from mayfly.sessions.model import Session, Token

__all__ = [
    "BASE62",
    "DATA_LIMIT",
    "DEFAULT_ABSOLUTE_SECONDS",
    "DEFAULT_IDLE_SECONDS",
    "ID",
    "MAX_SECONDS",
    "ROTATION_GRACE_MS",
    "SECRET_CHARACTERS",
    "Creation",
    "anonymous_partition",
    "changed",
    "check_version",
    "hash_secret",
    "is_anonymous",
    "is_touch_due",
    "is_valid",
    "lasting",
    "merge_patch",
    "public",
    "read_creation",
    "read_cursor",
    "read_if_match",
    "read_rotation",
    "read_token",
    "rotated",
    "subject_partition",
    "touched_until",
    "was_rotated_away",
    "write_cursor",
    "write_token",
]

#: A session's data above this many bytes of JSON is refused; S3 is the place for it.
DATA_LIMIT: Final = 256 * 1024
#: How long a session lasts without being used: NIST SP 800-63B-3 asks for re-authentication after
#: 30 minutes of inactivity and after 12 hours in any case (AAL2, 4.2.3); ASVS 5.0, 7.3.1 and 7.3.2
#: ask for both deadlines.
DEFAULT_IDLE_SECONDS: Final = 30 * 60
DEFAULT_ABSOLUTE_SECONDS: Final = 12 * 3600
#: Browsers keep no cookie for longer than 400 days (RFC 6265bis, 5.5).
MAX_SECONDS: Final = 400 * 24 * 3600
#: How long a token that was rotated away is told from an unknown one, in milliseconds: requests
#: that were sent together with the one that rotated it still come in with it, and must not be given
#: another session.
ROTATION_GRACE_MS: Final = 60_000
#: The part of the idle time that must have passed before a read is worth a write.
_TOUCH_PART: Final = 10

BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
SECRET_CHARACTERS: Final = 43  # 62^43 > 2^256
#: The shape of a session's id.
ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_TOKEN: Final = re.compile(
    rf"mfs_(?:a(?P<alone>[0-9a-f]{{32}})|s(?P<subject>[0-9a-f]{{32}})(?P<id>[0-9a-f]{{32}}))_(?P<secret>[0-9A-Za-z]{{{SECRET_CHARACTERS}}})",
    re.ASCII,
)
_IF_MATCH: Final = re.compile(r'\s*(?:W/)?"[^"]*"\s*(?:,\s*(?:W/)?"[^"]*"\s*)*')


# ---------------------------------------------------------------- tokens and places


def write_token(session: Session, secret: str) -> str:
    """The token of a session, to show its holder once."""
    place = session.partition if session.subject is None else session.partition + session.id
    return f"mfs_{place}_{secret}"


def read_token(text: str) -> Token:
    """A token taken apart.

    Raises SessionNotFound for what cannot be one: it is input, and checked before it is hashed.
    """
    found = _TOKEN.fullmatch(text)
    if found is None:
        raise SessionNotFound
    if found["alone"]:
        return Token("a" + found["alone"], found["alone"], found["secret"])
    return Token("s" + found["subject"], found["id"], found["secret"])


def is_anonymous(text: str) -> bool:
    """Whether a token, if it is one, is that of a session which nobody has logged in to."""
    return text.startswith("mfs_a")


def hash_secret(secret: str) -> str:
    """What is stored of a secret.

    It has 256 random bits, so a plain SHA-256 hides it (ASVS 5.0, 6.5.2).
    """
    return hashlib.sha256(secret.encode()).hexdigest()


def subject_partition(subject_key: str, tenant: str, subject: str) -> str:
    """Where a subject's sessions live. Keyed, so that a token tells nobody whether it is a certain
    person's.

    Raises InvalidRequest for a subject by which nobody could list or end them.
    """
    if not NAME.fullmatch(subject):
        raise InvalidRequest("subject", f"must match {NAME.pattern}")
    return (
        "s"
        + hmac.new(subject_key.encode(), key(tenant, subject).encode(), "sha256").hexdigest()[:32]
    )


def anonymous_partition(session_id: str) -> str:
    """Where a session lives that has no subject: alone."""
    return "a" + session_id


# ---------------------------------------------------------------- validity and changes


def is_valid(session: Session, secret: str, generation: int, now_ms: int) -> bool:
    """Whether a secret opens this session now: it is the right one, the subject has ended none
    since, no deadline has passed.
    """
    is_right = hmac.compare_digest(
        session.secret_hash, hash_secret(secret)
    )  # constant time: ASVS 5.0, 11.2.4
    return is_right and session.generation == generation and now_ms < session.idle_expires_at_ms


def was_rotated_away(session: Session, secret: str, now_ms: int) -> bool:
    """Whether a secret that does not open what stands here may have done so a moment ago, before a
    rotation.
    """
    is_it_no_longer = (
        session.secret_hash != hash_secret(secret)
        or session.idle_expires_at_ms == session.rotated_at_ms
    )
    return is_it_no_longer and now_ms < session.rotated_at_ms + ROTATION_GRACE_MS


def touched_until(session: Session, now_ms: int) -> int:
    """When a session ends that is used now."""
    return min(now_ms + session.idle_ms, session.absolute_expires_at_ms)


def is_touch_due(session: Session, now_ms: int) -> bool:
    """Whether a tenth of the idle time has passed since the last use that was written, so that this
    one is worth a write.
    """
    return (
        touched_until(session, now_ms) - session.idle_expires_at_ms >= session.idle_ms / _TOUCH_PART
    )


def changed(session: Session, data: dict[str, Any], *, nonce: str, now_ms: int) -> Session:
    """A session with other data. Raises PayloadTooLarge, InvalidRequest for what is not JSON."""
    try:
        size = len(canonical_json(data).encode())
    except (ValueError, RecursionError) as problem:  # NaN, half a surrogate pair, no end of nesting
        raise InvalidRequest("data", f"is not JSON ({type(problem).__name__})") from problem
    if size > DATA_LIMIT:
        raise PayloadTooLarge("data", size, DATA_LIMIT)
    return replace(
        session,
        data=data,
        version=session.version + 1,
        nonce=nonce,
        idle_expires_at_ms=max(session.idle_expires_at_ms, touched_until(session, now_ms)),
    )


def lasting(session: Session, idle_seconds: int, absolute_seconds: int, *, now_ms: int) -> Session:
    """A session with other deadlines, both counted from now."""
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
    """A changed session with a new secret, for another subject if one is given.

    Another subject is another authentication: its absolute deadline starts anew. The same one keeps
    it, so that rotating does not make a session last for ever.
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
    """`target` with a JSON Merge Patch applied (RFC 7396, 2): null removes a member, objects merge,
    all else replaces.
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


# ---------------------------------------------------------------- requests and answers


@dataclass(frozen=True)
class Creation:
    """A session as it was asked for."""

    subject: str | None = None
    data: dict[str, Any] | None = None
    idle_seconds: int = DEFAULT_IDLE_SECONDS
    absolute_seconds: int = DEFAULT_ABSOLUTE_SECONDS


def read_creation(body: Any) -> Creation:
    """The body of POST /sessions. Raises InvalidRequest."""
    fields = Fields(body)
    asked = Creation(
        subject=fields.text("subject", pattern=NAME, default=None),
        data=_object(fields.anything("data", default={}), "data"),
        idle_seconds=fields.integer("idle_seconds", 1, MAX_SECONDS, default=DEFAULT_IDLE_SECONDS),
        absolute_seconds=fields.integer(
            "absolute_seconds", 1, MAX_SECONDS, default=DEFAULT_ABSOLUTE_SECONDS
        ),
    )
    fields.finish()
    return asked


def read_rotation(body: Any) -> str | None:
    """The subject in the body of POST /sessions/current/rotate, None where it is to stay.

    Raises InvalidRequest.
    """
    fields = Fields(body)
    subject: str | None = fields.text("subject", pattern=NAME, default=None)
    fields.finish()
    return subject


def read_if_match(header: str | None) -> frozenset[str] | None:
    """The versions that an If-Match header allows, None where it allows any (absent, or `*`).

    Weak tags are left out, since they never match here (RFC 9110, 13.1.1). Raises InvalidRequest
    for what is no list of tags.
    """
    if header is None or header.strip() == "*":
        return None
    if not _IF_MATCH.fullmatch(header):
        raise InvalidRequest("If-Match", 'must be a version as ETag showed it, such as "3"')
    return frozenset(tag for weak, tag in re.findall(r'(W/)?"([^"]*)"', header) if not weak)


def check_version(session: Session, allowed: frozenset[str] | None) -> None:
    """Raises VersionConflict unless a session's version is one of those that If-Match allows."""
    if allowed is not None and str(session.version) not in allowed:
        raise VersionConflict(session.version)


def public(session: Session) -> dict[str, Any]:
    """A session as its holder sees it; times are RFC 3339."""
    return {
        "id": session.id,
        "subject": session.subject,
        "data": session.data,
        "version": session.version,
        "created_at": rfc3339(session.created_at_ms),
        "idle_expires_at": rfc3339(session.idle_expires_at_ms),
        "absolute_expires_at": rfc3339(session.absolute_expires_at_ms),
    }


def write_cursor(session_id: str) -> str:
    """Where a listing goes on, for its caller to hand back.

    It names no tenant: it is read in one subject's own partition only.
    """
    return base64.urlsafe_b64encode(f"after/{session_id}".encode()).decode().rstrip("=")


def read_cursor(text: str) -> str:
    """The session id in a cursor. Raises InvalidRequest."""
    try:
        word, _, session_id = (
            base64.urlsafe_b64decode(text.encode("ascii") + b"==").decode("ascii").partition("/")
        )
        if word == "after" and (not session_id or ID.fullmatch(session_id)):
            return session_id
    except ValueError:
        pass
    raise InvalidRequest("cursor", "must be the `next` of a page before")


def _object(value: Any, field: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidRequest(field, "must be a JSON object")
    return value
