"""Random ids and secrets, derived ids, and table keys."""

import hashlib
import re
import secrets
from typing import Final
from urllib.parse import quote

__all__ = [
    "BASE62",
    "SECRET_CHARACTERS",
    "derived_id",
    "hash_secret",
    "key",
    "new_id",
    "new_nonce",
    "new_secret",
]

BASE62: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: The length of a secret in base 62.
SECRET_CHARACTERS: Final = 43  # 62^43 > 2^256

#: Texts that need no encoding: nearly all of them.
_PLAIN: Final = re.compile(r"[A-Za-z0-9._:@+-]*", re.ASCII)


def new_id() -> str:
    """Returns a random id of 128 bits, 32 characters."""
    return secrets.token_hex(16)


def new_nonce() -> str:
    """Returns a random name of 64 bits for one attempt at one write.

    It is unique among the few attempts on one item.
    """
    return secrets.token_hex(8)


def new_secret(alphabet: str, length: int) -> str:
    """Returns characters drawn from a cryptographic source (ASVS 5.0, 11.5.1)."""
    return "".join(secrets.choice(alphabet) for _ in range(length))


def hash_secret(secret: str) -> str:
    """Returns the hash that is stored of a secret.

    A plain SHA-256 is enough, because the secret has 256 random bits (ASVS 5.0, 6.5.2).
    """
    return hashlib.sha256(secret.encode()).hexdigest()


def derived_id(*parts: str) -> str:
    """Returns an id that depends on the parts only: 128 bits of their SHA-256."""
    return hashlib.sha256(key(*parts).encode()).hexdigest()[:32]


def key(*parts: str) -> str:
    """Returns a table key made of parts.

    Different parts give different keys: parts are percent-encoded, so none contains the separator.
    """
    return "/".join(
        part if _PLAIN.fullmatch(part) else quote(part, safe="._:@+-") for part in parts
    )
