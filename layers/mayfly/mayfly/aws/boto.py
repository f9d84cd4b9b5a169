"""A client of boto3, with the errors of this package."""

import re
from collections.abc import Mapping
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from botocore.parsers import ResponseParserError

from mayfly.aws.errors import Refused, Unanswered, Unsent

__all__ = ["BotoClient"]

_WORD: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


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
