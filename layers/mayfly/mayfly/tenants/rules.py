"""Rules of API keys: their shape is `mf_<env>_<id>_<secret><checksum>`.

The checksum is CRC-32, in 6 characters of base 62. By it a mistyped key is refused without a read,
and secret scanners recognise a leaked key. The checksum is not a protection; the secret is.
"""

import hmac
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mayfly.core.ids import BASE62, SECRET_CHARACTERS, hash_secret
from mayfly.tenants.model import ApiKey
from mayfly.web.errors import Unauthenticated

__all__ = [
    "ALL_SCOPES",
    "NOTED_EVERY_MS",
    "Credential",
    "mint",
    "must_note_use",
    "read_credential",
    "verify",
]

#: The shortest time between two writes of a key's last use, in milliseconds.
NOTED_EVERY_MS: Final = 3600 * 1000

#: Scopes that exist, one per feature and verb.
ALL_SCOPES: Final = frozenset(
    {
        "counters:read",
        "counters:write",
        "jobs:read",
        "jobs:write",
        "limits:read",
        "limits:write",
        "schedules:read",
        "schedules:write",
        "sessions:read",
        "sessions:write",
    }
)

_CREDENTIAL: Final = re.compile(
    r"(?i:bearer) +mf_(?P<env>[a-z]{2,8})_(?P<id>[0-9A-Za-z]{12})"
    rf"_(?P<secret>[0-9A-Za-z]{{{SECRET_CHARACTERS}}})(?P<sum>[0-9A-Za-z]{{6}})",
    re.ASCII,
)


@dataclass(frozen=True)
class Credential:
    """A well-formed key as its holder sends it."""

    key_id: str
    #: Left out of the representation, which may end in a log.
    secret: str = field(repr=False)


def mint(
    env: str,
    tenant: str,
    scopes: frozenset[str],
    *,
    now_ms: int,
    new_secret: Callable[[str, int], str],
    expires_at_ms: int | None = None,
) -> tuple[str, ApiKey]:
    """Makes a key: returns the text to show its holder once, and the record to store.

    `new_secret(alphabet, length)` draws its parts.
    """
    key_id, secret = new_secret(BASE62, 12), new_secret(BASE62, SECRET_CHARACTERS)
    body = f"mf_{env}_{key_id}_{secret}"
    return body + _checksum(body), ApiKey(
        key_id, tenant, scopes, hash_secret(secret), now_ms, expires_at_ms
    )


def read_credential(authorization: str) -> Credential:
    """Returns the credential in an Authorization header.

    Raises Unauthenticated, with the reason, if the header does not have the shape of a key.
    """
    match = _CREDENTIAL.fullmatch(authorization.strip())
    if match is None:
        raise Unauthenticated("the Authorization header holds no Mayfly key")
    body = f"mf_{match['env']}_{match['id']}_{match['secret']}"
    if match["sum"] != _checksum(body):
        raise Unauthenticated("the key is mistyped or cut short (its checksum does not match)")
    return Credential(match["id"], match["secret"])


def verify(credential: Credential, stored: ApiKey | None, *, now_ms: int) -> ApiKey:
    """Returns `stored` if the credential has its secret and the key has not expired.

    Raises Unauthenticated. An unknown id and a wrong secret give the same reason; only a caller
    with the right secret learns that the key has expired.
    """
    expected = stored.secret_hash if stored else ""
    # In constant time (ASVS 5.0, 11.2.4).
    matches = hmac.compare_digest(hash_secret(credential.secret), expected)
    if stored is None or not matches:
        raise Unauthenticated("the key is not known")
    if stored.expires_at_ms is not None and stored.expires_at_ms <= now_ms:
        raise Unauthenticated("the key has expired")
    return stored


def must_note_use(api_key: ApiKey, now_ms: int) -> int | None:
    """Returns None if the stored time of a key's last use is recent enough.

    Otherwise returns the latest time that counts as too old.
    """
    before_ms, noted_ms = now_ms - NOTED_EVERY_MS, api_key.last_used_at_ms
    return before_ms if noted_ms is None or noted_ms <= before_ms else None


def _checksum(body: str) -> str:
    number, digits = zlib.crc32(body.encode()), ""
    while len(digits) < 6:
        number, digit = divmod(number, 62)
        digits = BASE62[digit] + digits
    return digits
