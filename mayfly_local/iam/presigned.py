"""Presigned URLs of S3 with a signature of version 2, which SDKs still use in some regions.

The emulator checks version 4 itself. "Signing and authenticating REST requests", query string
authentication:
https://docs.aws.amazon.com/AmazonS3/latest/userguide/RESTAuthentication.html
"""

from hmac import compare_digest
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from mayfly_local.iam.requests import Request

__all__ = ["presigned_v2_problem"]


def presigned_v2_problem(request: Request, secret: str, *, now: float) -> str | None:
    """Returns the error of a presigned URL, or None."""
    from botocore.auth import HmacV1Auth
    from botocore.compat import HTTPHeaders
    from botocore.credentials import Credentials

    expires = request.query.get("Expires", "")
    if not expires.isdigit() or int(expires) < now:
        return "the presigned URL has expired"
    others = {
        name: value
        for name, value in request.query.items()
        if name not in ("AWSAccessKeyId", "Signature", "Expires")
    }
    split = urlsplit(f"http://store{quote(request.path)}?{urlencode(others)}")
    headers: Any = HTTPHeaders()
    for name, value in request.headers.items():
        headers[name] = value
    auth: Any = HmacV1Auth(Credentials("", secret))
    auth._get_date = lambda: expires  # A URL is signed with its expiry as the date.
    signature = auth.sign_string(auth.canonical_string(request.method, split, headers))
    return (
        None
        if compare_digest(signature, request.query.get("Signature", ""))
        else "the signature of the presigned URL is wrong"
    )
