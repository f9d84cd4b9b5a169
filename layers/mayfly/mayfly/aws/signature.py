"""Signature Version 4: signs requests to AWS.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

Only POST requests to the path `/` are signed, since the JSON protocols use no others.
"""

import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Final

from mayfly.aws.credentials import Credentials

__all__ = ["Signer"]

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
#: Names of the signed headers, in the order of the alphabet; with a session token, one more.
_SIGNED: Final = "content-type;host;x-amz-date;x-amz-target"


class Signer:
    """Signs requests to one service in one region."""

    def __init__(self, service: str, region: str) -> None:
        self._service = service
        self._region = region
        self._derived: tuple[tuple[str, str], bytes] = (("", ""), b"")

    def headers(
        self,
        *,
        host: str,
        target: str,
        content_type: str,
        body: bytes,
        credentials: Credentials,
        at: float,
    ) -> Mapping[str, str]:
        """Returns the headers that authenticate a request.

        `host` is the Host header, `target` the X-Amz-Target header, and `at` the time in seconds
        since the epoch. AWS accepts a request for five minutes.
        """
        now = time.gmtime(at)
        timestamp = time.strftime("%Y%m%dT%H%M%SZ", now)
        scope = f"{timestamp[:8]}/{self._region}/{self._service}/aws4_request"
        token, signed = "", _SIGNED
        if credentials.token is not None:
            token = f"x-amz-security-token:{_trimmed(credentials.token)}\n"
            signed = _SIGNED.replace("x-amz-target", "x-amz-security-token;x-amz-target")
        canonical = (
            "POST\n/\n\n"
            f"content-type:{content_type}\nhost:{host}\nx-amz-date:{timestamp}\n{token}"
            f"x-amz-target:{target}\n\n{signed}\n{hashlib.sha256(body).hexdigest()}"
        )
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        to_sign = f"{_ALGORITHM}\n{timestamp}\n{scope}\n{digest}"
        key = self._key(credentials.secret, timestamp[:8])
        signature = hmac.new(key, to_sign.encode(), hashlib.sha256).hexdigest()
        headers = {
            "X-Amz-Date": timestamp,
            "Authorization": f"{_ALGORITHM} Credential={credentials.key_id}/{scope}, "
            f"SignedHeaders={signed}, Signature={signature}",
        }
        if credentials.token is not None:
            headers["X-Amz-Security-Token"] = credentials.token
        return headers

    def _key(self, secret: str, day: str) -> bytes:
        """Returns the signing key of a day. It is the same for all requests of that day."""
        found, key = self._derived
        if found == (secret, day):
            return key
        key = f"AWS4{secret}".encode()
        for part in (day, self._region, self._service, "aws4_request"):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        self._derived = ((secret, day), key)
        return key


def _trimmed(value: str) -> str:
    """Returns a header's value as the canonical request has it: without repeated spaces."""
    return " ".join(value.split())
