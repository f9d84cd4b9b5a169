"""Imports on the wire: the payload of their jobs, and the notices of S3."""

from typing import Any, Final
from urllib.parse import unquote_plus

from mayfly.core.envelopes import Envelope, envelope
from mayfly.core.errors import InvalidRequest
from mayfly.core.ids import derived_id
from mayfly.core.json_input import NAME, Fields, parse_json
from mayfly.imports.model import Upload

__all__ = ["read_key", "read_uploads"]

_KEY_CHARACTERS: Final = 1000
_EVENT_LIMIT: Final = 1024 * 1024
#: The way out if S3's notices reach the uploads queue by another service.
_WAYS_OUT: Final = {
    Envelope.SNS: ": turn on raw message delivery of the subscription",
    Envelope.EVENTBRIDGE: ": let the bucket notify the uploads queue itself, or by an SNS topic "
    "with raw message delivery",
}


def read_key(payload: Any) -> str:
    """Returns the object's key in a job's payload, without the tenant in front of it.

    Raises InvalidRequest.
    """
    fields = Fields(payload, "payload")
    key: str = fields.text("key")
    fields.finish()
    if not 1 <= len(key) <= _KEY_CHARACTERS:
        raise InvalidRequest("key", f"must have 1 to {_KEY_CHARACTERS} characters")
    # S3 keeps them as they are, but proxies and clients may resolve them.
    if {".", ".."} & set(key.split("/")):
        raise InvalidRequest("key", "must not have '.' or '..' as a part")
    return key


def read_uploads(body: str, bucket: str) -> list[Upload | None]:
    """Returns the uploads in a notice of S3; None for one outside of any tenant's prefix.

    A notice that comes by way of another service is named. Raises InvalidRequest, PayloadTooLarge.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    """
    notice = parse_json(body, limit=_EVENT_LIMIT)
    # S3 sends a test event once, when the notification is set up.
    if isinstance(notice, dict) and notice.get("Event") == "s3:TestEvent":
        return []
    try:
        records = [
            record["s3"]
            for record in notice["Records"]
            if record["eventName"].removeprefix("s3:").startswith("ObjectCreated:")
        ]
        return [_upload(put["object"]) for put in records if put["bucket"]["name"] == bucket]
    except (KeyError, TypeError, AttributeError):
        form = envelope(notice)
        problem = f"; this is {form}{_WAYS_OUT.get(form, '')}" if form else ""
        raise InvalidRequest("body", f"is not a notice of S3{problem}") from None


def _upload(stored: dict[str, str]) -> Upload | None:
    path = unquote_plus(stored["key"])
    tenant, _, key = path.partition("/")
    # Consoles make keys that end with a slash to show a folder.
    if not NAME.fullmatch(tenant) or not key or key.endswith("/"):
        return None
    return Upload(
        tenant,
        key,
        derived_id(
            "upload",
            path,
            stored.get("sequencer", ""),
            stored.get("versionId", ""),
            stored.get("eTag", ""),
        ),
    )
