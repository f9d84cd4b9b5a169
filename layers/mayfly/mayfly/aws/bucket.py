"""One S3 bucket: lists, reads and deletes its objects."""

from typing import TYPE_CHECKING, Final

from botocore.exceptions import BotoCoreError, ClientError

from mayfly.core.errors import StoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

__all__ = ["Bucket"]

_GONE: Final = {"404", "NoSuchKey"}


class Bucket:
    """One S3 bucket, by boto3's client. Every method raises StoreUnavailable."""

    def __init__(self, client: "S3Client", name: str) -> None:
        self._client = client
        self._name = name

    def keys(self, prefix: str, *, limit: int, after: str = "") -> list[str]:
        """Returns up to `limit` keys that begin with `prefix`, by one call; at most 1,000.

        They are in order, and begin after the key `after`.
        """
        try:
            reply = self._client.list_objects_v2(
                Bucket=self._name, Prefix=prefix, MaxKeys=limit, StartAfter=after
            )
        except (ClientError, BotoCoreError) as problem:
            raise _error("list the objects", problem) from problem
        return [entry["Key"] for entry in reply.get("Contents", [])]

    def read(self, key: str) -> bytes | None:
        """Returns the whole of an object, None if there is none."""
        try:
            return self._client.get_object(Bucket=self._name, Key=key)["Body"].read()
        except (ClientError, BotoCoreError) as problem:
            if _code(problem) in _GONE:
                return None
            raise _error("read the object", problem) from problem

    def delete(self, key: str) -> None:
        """Deletes an object, if there is one."""
        try:
            self._client.delete_object(Bucket=self._name, Key=key)
        except (ClientError, BotoCoreError) as problem:
            raise _error("delete the object", problem) from problem


def _code(problem: Exception) -> str:
    return problem.response["Error"]["Code"] if isinstance(problem, ClientError) else ""


def _error(operation: str, problem: Exception) -> StoreUnavailable:
    return StoreUnavailable(operation, _code(problem) or type(problem).__name__)
