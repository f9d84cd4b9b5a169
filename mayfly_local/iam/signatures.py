"""Requests to APIs that are signed with an access key of the stack (Signature Version 4).

The signature is in the Authorization header, or in the query of a presigned URL.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-authentication-methods.html
"""

import hmac
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import parse_qsl

from mayfly_local.account import REGION
from mayfly_local.iam.credentials import Credentials, Keys

__all__ = ["BadSignature", "Signer", "signer_of"]

_AUTHORIZATION: Final = re.compile(
    r"AWS4-HMAC-SHA256 +Credential=(?P<id>[^/,]+)/(?P<scope>[^, ]+), *"
    r"SignedHeaders=(?P<headers>[^, ]+), *Signature=(?P<signature>[0-9a-f]{64})"
)
_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_IN_QUERY: Final = (
    "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-SignedHeaders", "X-Amz-Signature",
)  # fmt: skip
#: Most seconds between the time of a signature and the time of its check.
_SKEW_SECONDS: Final = 300
#: Most seconds that a presigned URL may say it is valid for: 7 days.
_LONGEST_SECONDS: Final = 604_800


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


@dataclass(frozen=True)
class _Claim:
    """The parts of a signature as a request has them.

    `url` is the URL that was signed, and `seconds` how long the signature is valid.
    """

    key_id: str
    scope: str
    date: str
    signed_headers: tuple[str, ...]
    signature: str
    url: str
    seconds: int = _SKEW_SECONDS


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
    claim = _in_header(given, url) if "authorization" in given else _in_query(url)
    owners = {keys.people.id: ("", keys.people)} | {
        key.id: (name, key) for name, key in keys.functions.items()
    }
    if claim.key_id not in owners:
        raise BadSignature(
            "UNRECOGNIZED_CLIENT", "The security token included in the request is invalid."
        )
    function, key = owners[claim.key_id]
    _check_time(claim, now)
    if claim.scope != f"{claim.date[:8]}/{REGION}/{service}/aws4_request":
        raise BadSignature(
            "INVALID_SIGNATURE",
            f"Credential should be scoped to {claim.date[:8]}/{REGION}/{service}/aws4_request.",
        )
    signed = {name: given[name] for name in claim.signed_headers if name in given}
    wanted = _signature(key, method, claim, signed, body, service=service)
    if not hmac.compare_digest(claim.signature, wanted):
        raise BadSignature(
            "INVALID_SIGNATURE",
            "The request signature we calculated does not match the signature you provided. Check "
            "your AWS Secret Access Key and signing method.",
        )
    return Signer(claim.key_id, function)


def _in_header(headers: Mapping[str, str], url: str) -> _Claim:
    parts = _AUTHORIZATION.fullmatch(headers["authorization"].strip())
    if parts is None or "x-amz-date" not in headers:
        raise BadSignature(
            "INCOMPLETE_SIGNATURE",
            "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature', and the "
            "request requires X-Amz-Date.",
        )
    names = tuple(parts["headers"].split(";"))
    return _Claim(
        parts["id"], parts["scope"], headers["x-amz-date"], names, parts["signature"], url
    )


def _in_query(url: str) -> _Claim:
    """Returns the signature of a presigned URL. It signs the other parameters of the query.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-query-string-auth.html
    """
    start, _, query = url.partition("?")
    given = dict(parse_qsl(query, keep_blank_values=True))
    if not any(name in given for name in _IN_QUERY):
        raise BadSignature("MISSING_AUTHENTICATION_TOKEN", "Missing Authentication Token")
    if missing := [name for name in _IN_QUERY if not given.get(name)]:
        raise BadSignature(
            "INCOMPLETE_SIGNATURE",
            f"AWS query-string parameters must include '{missing[0]}'. Re-examine the query-string "
            "parameters.",
        )
    if given["X-Amz-Algorithm"] != _ALGORITHM:
        raise BadSignature(
            "INCOMPLETE_SIGNATURE", f"Unsupported AWS 'algorithm': {given['X-Amz-Algorithm']!r}."
        )
    seconds = given.get("X-Amz-Expires", str(_SKEW_SECONDS))
    # int() fails for a text of some thousands of digits.
    if not re.fullmatch("[0-9]{1,8}", seconds) or not 1 <= int(seconds) <= _LONGEST_SECONDS:
        raise BadSignature(
            "INCOMPLETE_SIGNATURE", f"X-Amz-Expires must be from 1 to {_LONGEST_SECONDS} seconds."
        )
    signed = "&".join(part for part in query.split("&") if not part.startswith("X-Amz-Signature="))
    key_id, _, scope = given["X-Amz-Credential"].partition("/")
    return _Claim(
        key_id, scope, given["X-Amz-Date"], tuple(given["X-Amz-SignedHeaders"].split(";")),
        given["X-Amz-Signature"], f"{start}?{signed}", int(seconds),
    )  # fmt: skip


def _check_time(claim: _Claim, now: datetime) -> None:
    try:
        signed_at = datetime.strptime(claim.date, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        raise BadSignature(
            "INVALID_SIGNATURE", f"X-Amz-Date {claim.date!r} is not a time"
        ) from None
    if not -_SKEW_SECONDS <= (now - signed_at).total_seconds() <= claim.seconds:
        raise BadSignature("INVALID_SIGNATURE", f"Signature expired: {claim.date}")


def _signature(
    key: Credentials,
    method: str,
    claim: _Claim,
    headers: Mapping[str, str],
    body: bytes,
    *,
    service: str,
) -> str:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials as BotoCredentials

    auth = SigV4Auth(BotoCredentials(key.id, key.secret), service, REGION)
    request = AWSRequest(method=method, url=claim.url, headers=dict(headers), data=body)
    request.context["timestamp"] = claim.date
    text = auth.string_to_sign(request, auth.canonical_request(request))
    return str(auth.signature(text, request))
