"""A client of boto3, with the errors of this package."""

import re
import zlib
from collections.abc import Mapping
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ChecksumError, ClientError, ParamValidationError
from botocore.parsers import ResponseParserError

from mayfly.aws.errors import Refused, Unanswered, Unsent

__all__ = ["BotoClient", "refuse_damaged_answers"]

_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


def refuse_damaged_answers(client: Any, *, attempts: int) -> None:
    """Makes a boto3 client of a JSON protocol raise an error for an answer that is damaged.

    With its last attempt, botocore would take an answer whose checksum is wrong. Text
    that is not JSON would be an empty answer.
    """
    most = attempts

    def check(response: Any, attempts: int, **_: Any) -> int | None:
        if response is None or response[0].status_code >= 300:
            return None
        problem = _damage(response[0].headers.get("x-amz-crc32"), response[0].content)
        if problem is not None and attempts >= most:
            raise problem
        return None if problem is None else 0  # seconds until the next try

    client.meta.events.register_first("needs-retry.*", check)


def _damage(checksum: str | None, body: bytes) -> Exception | None:
    if checksum is not None and checksum != str(zlib.crc32(body)):
        return ChecksumError(
            checksum_type="crc32",
            expected_checksum=checksum,
            actual_checksum=str(zlib.crc32(body)),
        )
    if body and not body.startswith(b"{"):
        return ResponseParserError("the answer is no JSON object")
    return None


class BotoClient:
    """Calls operations of a boto3 client by their names in the API reference."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Calls an operation, and returns the answer. Raises Refused, Unanswered, Unsent."""
        method = getattr(self._client, _WORD.sub("_", operation).lower())
        try:
            return dict(method(**request))
        except ClientError as refusal:
            answer: dict[str, Any] = dict(refusal.response)
            facts = answer.get("ResponseMetadata", {})
            raise Refused(
                answer["Error"]["Code"],
                answer["Error"].get("Message", answer["Error"]["Code"]),
                status=facts.get("HTTPStatusCode", 400),
                answer=answer,
                tries=facts.get("RetryAttempts", 0) + 1,
            ) from refusal
        except (ResponseParserError, UnicodeDecodeError) as problem:
            # There was a response, but it cannot be parsed.
            raise Unanswered(type(problem).__name__) from problem
        except (ParamValidationError, TypeError, ValueError) as problem:
            # The request cannot be serialized, so it was not sent.
            raise Unsent(str(problem)) from problem
        except BotoCoreError as problem:
            raise Unanswered(type(problem).__name__) from problem
