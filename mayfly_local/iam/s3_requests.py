"""The permissions that an S3 request needs.

The actions are not named like the operations, and a query parameter selects the operation.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote
from xml.sax.saxutils import unescape

__all__ = ["s3_actions"]

#: Actions on an object, by the query parameter that selects the operation. Each entry has the
#: actions to read, write and delete.
_OBJECT: Final = {
    "acl": ("GetObjectAcl", "PutObjectAcl", None),
    "attributes": ("GetObjectAttributes", None, None),
    "legal-hold": ("GetObjectLegalHold", "PutObjectLegalHold", None),
    "restore": (None, "RestoreObject", None),
    "retention": ("GetObjectRetention", "PutObjectRetention", None),
    "select": (None, "GetObject", None),
    "tagging": ("GetObjectTagging", "PutObjectTagging", "DeleteObjectTagging"),
    "torrent": ("GetObjectTorrent", None, None),
    "uploadId": ("ListMultipartUploadParts", "PutObject", "AbortMultipartUpload"),
    "uploads": (None, "PutObject", None),
    "": ("GetObject", "PutObject", "DeleteObject"),
}
#: The same for a bucket.
_BUCKET: Final = {
    "accelerate": ("GetAccelerateConfiguration", "PutAccelerateConfiguration", None),
    "acl": ("GetBucketAcl", "PutBucketAcl", None),
    "cors": ("GetBucketCORS", "PutBucketCORS", "PutBucketCORS"),
    "encryption": (
        "GetEncryptionConfiguration",
        "PutEncryptionConfiguration",
        "PutEncryptionConfiguration",
    ),
    "lifecycle": (
        "GetLifecycleConfiguration",
        "PutLifecycleConfiguration",
        "PutLifecycleConfiguration",
    ),
    "location": ("GetBucketLocation", None, None),
    "logging": ("GetBucketLogging", "PutBucketLogging", None),
    "notification": ("GetBucketNotification", "PutBucketNotification", None),
    "object-lock": ("GetBucketObjectLockConfiguration", "PutBucketObjectLockConfiguration", None),
    "ownershipControls": (
        "GetBucketOwnershipControls",
        "PutBucketOwnershipControls",
        "PutBucketOwnershipControls",
    ),
    "policy": ("GetBucketPolicy", "PutBucketPolicy", "DeleteBucketPolicy"),
    "policyStatus": ("GetBucketPolicyStatus", None, None),
    "publicAccessBlock": (
        "GetBucketPublicAccessBlock",
        "PutBucketPublicAccessBlock",
        "PutBucketPublicAccessBlock",
    ),
    "replication": (
        "GetReplicationConfiguration",
        "PutReplicationConfiguration",
        "PutReplicationConfiguration",
    ),
    "requestPayment": ("GetBucketRequestPayment", "PutBucketRequestPayment", None),
    "tagging": ("GetBucketTagging", "PutBucketTagging", "PutBucketTagging"),
    "uploads": ("ListBucketMultipartUploads", None, None),
    "versioning": ("GetBucketVersioning", "PutBucketVersioning", None),
    "versions": ("ListBucketVersions", None, None),
    "website": ("GetBucketWebsite", "PutBucketWebsite", "DeleteBucketWebsite"),
    "": ("ListBucket", "CreateBucket", "DeleteBucket"),
}
_METHODS: Final = {"GET": 0, "HEAD": 0, "PUT": 1, "POST": 1, "DELETE": 2}
#: Actions on one version of an object have their own names.
_OF_VERSION: Final = {
    action: action.replace("Object", "ObjectVersion", 1)
    for action in (
        "GetObject", "GetObjectAcl", "PutObjectAcl", "GetObjectAttributes", "GetObjectTagging",
        "PutObjectTagging", "DeleteObjectTagging",
        "DeleteObject",
    )
}  # fmt: skip


def s3_actions(
    method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str], body: bytes
) -> Iterator[tuple[str, str]]:
    """Yields actions, without `s3:`, each with the ARN that it is on.

    `?` is the action of an unknown operation.
    """
    bucket, _, key = path.lstrip("/").partition("/")
    if not bucket:
        yield "ListAllMyBuckets", "*"
        return
    if method == "POST" and "delete" in query:
        for block in re.findall(
            r"<Object>(.*?)</Object>", body.decode("utf-8", "replace"), re.DOTALL
        ):
            match = re.search(r"<Key>(.*?)</Key>", block, re.DOTALL)
            action = "DeleteObjectVersion" if "<VersionId>" in block else "DeleteObject"
            yield action, f"arn:aws:s3:::{bucket}/{unescape(match[1]) if match else ''}"
        return
    table, resource = (
        (_OBJECT, f"arn:aws:s3:::{bucket}/{key}") if key else (_BUCKET, f"arn:aws:s3:::{bucket}")
    )
    part = next((part for part in (*_OBJECT, *_BUCKET) if part and part in query), "")
    named = table.get(part, (None, None, None))[_METHODS[method]] if method in _METHODS else None
    if named is None:
        yield "?", resource
        return
    yield _OF_VERSION.get(named, named) if "versionId" in query else named, resource
    if source := headers.get("x-amz-copy-source"):
        place, version, _ = unquote(source).lstrip("/").partition("?versionId=")
        yield "GetObjectVersion" if version else "GetObject", f"arn:aws:s3:::{place}"
    for header, action in (("x-amz-acl", "PutObjectAcl"), ("x-amz-tagging", "PutObjectTagging")):
        if key and method in ("PUT", "POST") and header in headers:
            yield action, resource
