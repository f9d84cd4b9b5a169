"""The objects of the imports bucket, read in pieces."""

from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from mayfly.core.errors import StoreUnavailable
from mayfly.imports.errors import BadImport
from mayfly.imports.model import Source

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Objects"]

#: Without the permission to list, S3 answers 403 for a missing object.
_MISSING = {"404", "403", "NoSuchKey", "AccessDenied", "NotFound", "Forbidden"}
_TRIES = 3
_CHANGED = {"412", "PreconditionFailed"}


class Objects:
    """Objects of all tenants: `<tenant>/<key>`."""

    def __init__(self, client: "S3Client", bucket: str) -> None:
        self._client = client
        self._bucket = bucket

    def find(self, tenant: str, key: str) -> Source:
        """Returns an object as it is now.

        Raises BadImport if it does not exist, StoreUnavailable.
        """
        path = f"{tenant}/{key}"
        try:
            head = self._client.head_object(Bucket=self._bucket, Key=path)
        except (ClientError, BotoCoreError) as problem:
            raise _error(problem, path) from problem
        return Source(path, head["ContentLength"], head["ETag"])

    def read(self, source: Source, start: int, size: int) -> bytes:
        """Returns up to `size` bytes from `start` on.

        Raises BadImport if the object has been deleted or replaced, StoreUnavailable.
        """
        span = f"bytes={start}-{min(start + size, source.size) - 1}"
        for attempt in range(_TRIES):
            try:
                return self._client.get_object(
                    Bucket=self._bucket, Key=source.path, Range=span, IfMatch=source.etag
                )["Body"].read()
            except ClientError as problem:
                raise _error(problem, source.path) from problem
            except BotoCoreError as problem:
                # The SDK does not retry a body that breaks off in the middle.
                if attempt == _TRIES - 1:
                    raise _error(problem, source.path) from problem
        raise AssertionError("the last try returns or raises")


def _error(problem: Exception, path: str) -> Exception:
    code = problem.response["Error"]["Code"] if isinstance(problem, ClientError) else ""
    if code in _MISSING:
        return BadImport(
            path, "there is no such object in the imports bucket, or it may not be read"
        )
    if code in _CHANGED:
        return BadImport(
            path, "the object was replaced while it was being imported; submit a new job"
        )
    return StoreUnavailable("read object", code or type(problem).__name__)
