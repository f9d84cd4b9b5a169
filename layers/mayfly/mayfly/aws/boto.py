"""A client of boto3, with the errors of this package."""

import re
import zlib
from collections.abc import Mapping
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ChecksumError, ClientError, ParamValidationError
from botocore.parsers import ResponseParserError

from mayfly.aws.errors import Refused, Unanswered, Unsent, out_of_time
from mayfly.core.deadline import seconds_left

__all__ = ["BotoClient", "limit_retries", "refuse_damaged_answers"]

_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


def limit_retries(client: Any, *, attempts: int) -> None:
    """Makes a boto3 client leave out retries that could outlast the request's deadline.

    The longest pause of botocore before a retry counts (`mayfly.core.deadline`).
    """
    most = attempts

    def stop(
        attempts: int, response: Any = None, caught_exception: Exception | None = None, **_: Any
    ) -> None:
        if attempts >= most or seconds_left() > _longest_pause(attempts):
            return
        if caught_exception is not None:
            raise caught_exception
        parsed = response[1]
        if "Error" in parsed and response[0].status_code >= 300:
            facts = {**parsed.get("ResponseMetadata", {}), "RetryAttempts": attempts - 1}
            error = client.exceptions.from_code(parsed["Error"].get("Code"))
            raise error({**parsed, "ResponseMetadata": facts}, "call")

    client.meta.events.register_first("needs-retry.*", stop)


def _longest_pause(attempts: int) -> float:
    """Returns botocore's longest pause after some attempts, in seconds.

    https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
    """
    return min(2.0 ** (attempts - 1), 20.0)


def refuse_damaged_answers(client: Any, *, attempts: int) -> None:
    """Makes a boto3 client of a JSON protocol raise an error for an answer that is damaged.

    With its last attempt, botocore would take an answer whose checksum is wrong. Text
    that is not JSON would be an empty answer.
    """
    most = attempts
    is_never_empty = client.meta.service_model.signing_name == "dynamodb"

    def check(response: Any, attempts: int, **_: Any) -> int | None:
        if response is None or response[0].status_code >= 300:
            return None
        problem = _damage(
            response[0].headers.get("x-amz-crc32"),
            response[0].content,
            is_never_empty=is_never_empty,
        )
        if problem is not None and attempts >= most:
            raise problem
        return None if problem is None else 0  # seconds until the next try

    client.meta.events.register_first("needs-retry.*", check)


def _damage(checksum: str | None, body: bytes, *, is_never_empty: bool) -> Exception | None:
    if checksum is not None and checksum != str(zlib.crc32(body)):
        return ChecksumError(
            checksum_type="crc32",
            expected_checksum=checksum,
            actual_checksum=str(zlib.crc32(body)),
        )
    if (is_never_empty and not body) or (body and not body.startswith(b"{")):
        return ResponseParserError("the answer is no JSON object")
    return None


class BotoClient:
    """Calls operations of a boto3 client by their names in the API reference."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Calls an operation, and returns the answer. Raises Refused, Unanswered, Unsent.

        A request without time left (`mayfly.core.deadline`) is not sent, and Refused.
        """
        if seconds_left() <= 0:
            raise out_of_time()
        method = getattr(self._client, _WORD.sub("_", operation).lower())
        try:
            return dict(method(**request))
        except ClientError as refusal:
            answer: dict[str, Any] = dict(refusal.response)
            facts = answer.get("ResponseMetadata", {})
            tries = facts.get("RetryAttempts", 0) + 1
            raise Refused(
                answer["Error"]["Code"],
                answer["Error"].get("Message", answer["Error"]["Code"]),
                status=facts.get("HTTPStatusCode", 400),
                answer=answer,
                tries=tries,
                follows_loss=tries > 1,  # botocore tells the number of retries, and no reasons
            ) from refusal
        except (ResponseParserError, UnicodeDecodeError, AttributeError) as problem:
            # There was a response, but it cannot be parsed: for botocore, every JSON is an object.
            raise Unanswered(type(problem).__name__) from problem
        except (ParamValidationError, TypeError, ValueError) as problem:
            # The request cannot be serialized, so it was not sent.
            raise Unsent(str(problem)) from problem
        except BotoCoreError as problem:
            raise Unanswered(type(problem).__name__) from problem
