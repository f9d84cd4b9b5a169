"""Requests to APIs that are signed with an access key of the stack (Signature Version 4).

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from mayfly_local.account import REGION
from mayfly_local.iam.credentials import Credentials, Keys

__all__ = ["BadSignature", "Signer", "signer_of"]

_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<id>[^/,]+)/(?P<scope>[^, ]+), *"
    r"SignedHeaders=(?P<headers>[^, ]+), *Signature=(?P<signature>[0-9a-f]{64})"
)
#: Most seconds between the time of a signature and the time of its check.
_SKEW_SECONDS: Final = 300


class BadSignature(ValueError):
    """A request without a valid signature. `code` is the type of a REST API's response."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Signer:
    """The owner of the key that signed a request. `function` is empty for people and tools."""

    key_id: str
    function: str


def signer_of(
    keys: Keys,
    *,
    method: str,
    url: str,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    service: str,
    now: datetime,
) -> Signer:
    """Returns the signer of a request. Names in `headers` are in lower case.

    Raises BadSignature if the request is not signed for `service` with a key of this stack.
    """
    given = dict(headers)
    if "authorization" not in given:
        raise BadSignature("MISSING_AUTHENTICATION_TOKEN", "Missing Authentication Token")
    parts = _AUTHORIZATION.fullmatch(given["authorization"].strip())
    if parts is None or "x-amz-date" not in given:
        raise BadSignature(
            "INCOMPLETE_SIGNATURE",
            "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature', and the "
            "request requires X-Amz-Date.",
        )
    owners = {keys.people.id: ("", keys.people)} | {
        key.id: (name, key) for name, key in keys.functions.items()
    }
    if parts["id"] not in owners:
        raise BadSignature(
            "UNRECOGNIZED_CLIENT", "The security token included in the request is invalid."
        )
    function, key = owners[parts["id"]]
    date = given["x-amz-date"]
    _check_time(date, now)
    if parts["scope"] != f"{date[:8]}/{REGION}/{service}/aws4_request":
        raise BadSignature(
            "INVALID_SIGNATURE",
            f"Credential should be scoped to {date[:8]}/{REGION}/{service}/aws4_request.",
        )
    names = parts["headers"].split(";")
    signed = {name: given[name] for name in names if name in given}
    wanted = _signature(key, method, url, signed, body, date=date, service=service)
    if not hmac.compare_digest(parts["signature"], wanted):
        raise BadSignature(
            "INVALID_SIGNATURE",
            "The request signature we calculated does not match the signature you provided. Check "
            "your AWS Secret Access Key and signing method.",
        )
    return Signer(parts["id"], function)


def _check_time(date: str, now: datetime) -> None:
    try:
        signed_at = datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise BadSignature("INVALID_SIGNATURE", f"X-Amz-Date {date!r} is not a time") from None
    if abs((now - signed_at).total_seconds()) > _SKEW_SECONDS:
        raise BadSignature("INVALID_SIGNATURE", f"Signature expired: {date}")


def _signature(
    key: Credentials,
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    date: str,
    service: str,
) -> str:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials as BotoCredentials

    auth = SigV4Auth(BotoCredentials(key.id, key.secret), service, REGION)
    request = AWSRequest(method=method, url=url, headers=dict(headers), data=body)
    request.context["timestamp"] = date
    text = auth.string_to_sign(request, auth.canonical_request(request))
    return str(auth.signature(text, request))
