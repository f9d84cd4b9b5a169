"""Imports on the wire: the payload of their jobs, and the notices of S3."""

from typing import Any, Final
from urllib.parse import unquote_plus

from mayfly.core.errors import InvalidRequest
from mayfly.core.ids import derived_id
from mayfly.core.json_input import NAME, Fields, parse_json
from mayfly.imports.model import Upload

__all__ = ["read_key", "read_uploads"]

_KEY_CHARACTERS: Final = 1000
_EVENT_LIMIT: Final = 1024 * 1024


def read_key(payload: Any) -> str:
    """The object's key in a job's payload, without the tenant in front of it.

    Raises InvalidRequest.
    """
    fields = Fields(payload, "payload")
    found: str = fields.text("key")
    fields.finish()
    if not 1 <= len(found) <= _KEY_CHARACTERS:
        raise InvalidRequest("key", f"must have 1 to {_KEY_CHARACTERS} characters")
    if {".", ".."} & set(
        found.split("/")
    ):  # S3 takes them as they are; not everybody on the way there does
        raise InvalidRequest("key", "must not have '.' or '..' as a part")
    return found


def read_uploads(body: str, bucket: str) -> list[Upload | None]:
    """The uploads that a notice of S3 tells of; None for one outside of any tenant's prefix. Raises
    InvalidRequest, PayloadTooLarge.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    """
    notice = parse_json(body, limit=_EVENT_LIMIT)
    if (
        isinstance(notice, dict) and notice.get("Event") == "s3:TestEvent"
    ):  # sent once, when the notification is set up
        return []
    try:
        records = [
            each["s3"]
            for each in notice["Records"]
            if each["eventName"].removeprefix("s3:").startswith("ObjectCreated:")
        ]
        return [_upload(each["object"]) for each in records if each["bucket"]["name"] == bucket]
    except (KeyError, TypeError, AttributeError):
        raise InvalidRequest("body", "is no notice of S3") from None


def _upload(found: dict[str, str]) -> Upload | None:
    path = unquote_plus(found["key"])
    tenant, _, key = path.partition("/")
    if (
        not NAME.fullmatch(tenant) or not key or key.endswith("/")
    ):  # what consoles make when they show a folder
        return None
    return Upload(
        tenant,
        key,
        derived_id(
            "upload",
            path,
            found.get("sequencer", ""),
            found.get("versionId", ""),
            found.get("eTag", ""),
        ),
    )
