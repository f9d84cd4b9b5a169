"""API keys as they are stored: with the hash of the secret, never with the secret."""

from dataclasses import dataclass

__all__ = ["ApiKey"]


@dataclass(frozen=True)
class ApiKey:
    """A credential of one tenant.

    `secret_hash` is the SHA-256 of a 256-bit random secret, in hex (ASVS 5.0, 6.5.2).
    `expires_at_ms` is None if the key does not expire. `last_used_at_ms` is at most an hour behind
    (`rules.NOTED_EVERY_MS`), and None if the key was never used. `error` says why the record of a
    listed key cannot be read; then it has neither a secret nor scopes, and opens nothing.
    """

    key_id: str
    tenant: str
    scopes: frozenset[str]
    secret_hash: str
    created_at_ms: int
    expires_at_ms: int | None = None
    last_used_at_ms: int | None = None
    error: str | None = None
