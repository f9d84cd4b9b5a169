"""Tokens of sessions: `mfs_<place>_<secret>`.

The place of an anonymous session is `a` and the session's id. The place of another session is `s`,
a hash of its subject, and the session's id. So a subject's sessions and its generation share one
partition, and the token alone tells what to read.
"""

import hmac
import re
from typing import Final

from mayfly.core.errors import InvalidRequest
from mayfly.core.ids import SECRET_CHARACTERS, key
from mayfly.core.json_input import NAME, NAME_PROBLEM
from mayfly.sessions.errors import SessionNotFound
from mayfly.sessions.model import Session, Token

__all__ = [
    "ID",
    "anonymous_partition",
    "is_anonymous",
    "read_token",
    "subject_partition",
    "write_token",
]

#: The shape of a session's id.
ID: Final = re.compile(r"[0-9a-f]{32}", re.ASCII)
_TOKEN: Final = re.compile(
    r"mfs_(?:a(?P<alone>[0-9a-f]{32})|s(?P<subject>[0-9a-f]{32})(?P<id>[0-9a-f]{32}))"
    rf"_(?P<secret>[0-9A-Za-z]{{{SECRET_CHARACTERS}}})",
    re.ASCII,
)


def write_token(session: Session, secret: str) -> str:
    """Returns the token of a session, to show its holder once."""
    place = session.partition if session.subject is None else session.partition + session.id
    return f"mfs_{place}_{secret}"


def read_token(text: str) -> Token:
    """Returns the parts of a token.

    Raises SessionNotFound if the text does not have the shape of a token. It comes from a caller,
    so it is checked before it is hashed.
    """
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise SessionNotFound
    if match["alone"]:
        return Token("a" + match["alone"], match["alone"], match["secret"])
    return Token("s" + match["subject"], match["id"], match["secret"])


def is_anonymous(text: str) -> bool:
    """Returns True if a token is that of a session without a subject. Checks the prefix only."""
    return text.startswith("mfs_a")


def subject_partition(subject_key: str, tenant: str, subject: str) -> str:
    """Returns the partition of a subject's sessions.

    It is a keyed hash, so a token does not reveal its subject to people who guess names. Raises
    InvalidRequest if the subject is not a valid name: it could not be used in a path to list or end
    its sessions.
    """
    if not NAME.fullmatch(subject):
        raise InvalidRequest("subject", NAME_PROBLEM)
    return (
        "s"
        + hmac.new(subject_key.encode(), key(tenant, subject).encode(), "sha256").hexdigest()[:32]
    )


def anonymous_partition(session_id: str) -> str:
    """Returns the partition of a session without a subject: it has one of its own."""
    return "a" + session_id
