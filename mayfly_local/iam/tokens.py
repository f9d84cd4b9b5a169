"""JSON Web Tokens of the local issuer, which takes the place of those that a template names.

`mayfly token` makes them, and the authorizers of APIs accept no others. They are signed with the
stack's own key (HS256, RFC 7518, 3.2), while the issuers of deployed APIs sign with RSA keys. A
function that reads the claims without a check gets what the deployed issuer would write.
"""

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any

__all__ = ["BadToken", "make_token", "read_token"]


class BadToken(ValueError):
    """A token that the local issuer did not make, or that is not valid now."""


def make_token(secret: str, claims: dict[str, Any]) -> str:
    """Returns a signed token with these claims (RFC 7519)."""
    head = _packed({"alg": "HS256", "typ": "JWT"})
    text = f"{head}.{_packed(claims)}"
    return f"{text}.{_signature(secret, text)}"


def read_token(secret: str, token: str, *, now: float) -> dict[str, Any]:
    """Returns the claims of a token. `now` is in seconds.

    Raises BadToken if another issuer made it, or at a time outside `nbf` and `exp`.
    """
    text, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature.encode(), _signature(secret, text).encode()):
        raise BadToken("the local issuer did not sign the token; make one with: mayfly token")
    try:
        claims = json.loads(_unpacked(text.partition(".")[2]))
        expires, begins = float(claims["exp"]), float(claims.get("nbf", 0))
    except (binascii.Error, ValueError, TypeError, KeyError) as problem:
        raise BadToken(f"the token has no claims that can be read: {problem}") from None
    if now >= expires:
        raise BadToken("the token has expired")
    if now < begins:
        raise BadToken("the token is not valid yet")
    return dict(claims)


def _signature(secret: str, text: str) -> str:
    digest = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode().rstrip("=")


def _packed(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _unpacked(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
