"""Names of things: random ids, derived ids, and the one way to build a table key."""

import hashlib
import re
import secrets
from typing import Final
from urllib.parse import quote

__all__ = ["derived_id", "key", "new_id", "new_nonce", "new_secret"]

#: What needs no encoding, which is nearly everything.
_PLAIN: Final = re.compile(r"[A-Za-z0-9._:@+-]*", re.ASCII)


def new_id() -> str:
    """A random id of 128 bits, 32 characters."""
    return secrets.token_hex(16)


def new_nonce() -> str:
    """The name of one attempt at one write, 64 bits: unique among the few attempts on one item."""
    return secrets.token_hex(8)


def new_secret(alphabet: str, length: int) -> str:
    """Characters drawn from a cryptographic source (ASVS 5.0, 11.5.1)."""
    return "".join(secrets.choice(alphabet) for _ in range(length))


def derived_id(*parts: str) -> str:
    """An id that the same parts always give and other parts never do (SHA-256, 128 bits kept)."""
    return hashlib.sha256(key(*parts).encode()).hexdigest()[:32]


def key(*parts: str) -> str:
    """A table key from its parts.

    Injective: parts are percent-encoded, so that no part can contain the separator.
    """
    return "/".join(
        part if _PLAIN.fullmatch(part) else quote(part, safe="._:@+-") for part in parts
    )
