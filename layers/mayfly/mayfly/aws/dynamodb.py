"""The DynamoDB edge: sends one request and names its failure.

Stores know tables and conditions; this knows botocore, and what each of its refusals means.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError, ParamValidationError
from botocore.parsers import ResponseParserError

from mayfly.core.errors import StoreUnavailable

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

__all__ = [
    "AnswerLost",
    "ConditionFailed",
    "DynamoDB",
    "Item",
    "Reason",
    "RequestRefused",
    "TransactionCancelled",
]

#: An item or a key as DynamoDB's JSON has it.
Item = dict[str, Any]

#: Refusals of the request as it stands: malformed, not allowed to this role, or for a table that is
#: not there.
_REFUSED: Final = {"ValidationException", "AccessDeniedException", "ResourceNotFoundException"}
#: Keys of one BatchGetItem.
_BATCH_KEYS: Final = 100
#: How often what a batch left undone is asked for again.
_BATCH_TRIES: Final = 6


class ConditionFailed(Exception):
    """The condition of a write did not hold. `item` is what stood there, None where nothing did or
    nobody asked to see it.

    `was_repeated` where the SDK had sent it before and got no answer: the first one may have held,
    and changed what it was about.
    """

    def __init__(self, item: Item | None, *, was_repeated: bool = False) -> None:
        self.item = item
        self.was_repeated = was_repeated
        super().__init__("the condition of a write did not hold")


@dataclass(frozen=True)
class Reason:
    """Why one write of several was refused; code `None` where it was not.

    `item` as in ConditionFailed.
    """

    code: str
    item: Item | None = None


class TransactionCancelled(Exception):
    """A transaction was refused and nothing of it was written; `reasons` has one entry for each of
    its writes, in their order.
    """

    def __init__(self, reasons: Sequence[Reason]) -> None:
        self.reasons = tuple(reasons)
        super().__init__(
            "a transaction was cancelled: " + ", ".join(reason.code for reason in reasons)
        )


class RequestRefused(StoreUnavailable):
    """The request was not accepted as it stands; nothing of it was written.

    `is_malformed` where it never will be; otherwise a table or a permission is missing.
    """

    def __init__(self, operation: str, code: str, message: str) -> None:
        self.is_malformed = code == "ValidationException"
        self.message = message
        super().__init__(operation, message)


class AnswerLost(StoreUnavailable):
    """The request was sent, and nobody knows whether it took effect."""


class DynamoDB:
    """One client.

    `pause(attempt)` waits before what a batch left undone is sent again: with jitter in production.
    """

    def __init__(self, client: "DynamoDBClient", pause: Callable[[int], None]) -> None:
        self._client: Any = (
            client  # the stubs describe neither cancellation reasons nor built requests
        )
        self.pause = pause

    def get(self, operation: str, table: str, key: Item) -> Item | None:
        """The item, strongly consistent.

        Raises StoreUnavailable, as every method here does; `operation` is for its message.
        """
        found: Item | None = self._call(
            operation, "get_item", TableName=table, Key=key, ConsistentRead=True
        ).get("Item")
        return found

    def get_many(self, operation: str, table: str, keys: Sequence[Item]) -> list[Item]:
        """Those of the items that exist, strongly consistent, in any order. The keys must differ;
        one call for each hundred.

        Keys that the store leaves unprocessed are asked for again, and never taken for absent:
        where they stay unanswered this raises.
        """
        return [
            item
            for start in range(0, len(keys), _BATCH_KEYS)
            for item in self._get_some(operation, table, keys[start : start + _BATCH_KEYS])
        ]

    def put(self, operation: str, **request: Any) -> None:
        """PutItem. Raises ConditionFailed."""
        self._call(operation, "put_item", **request)

    def update(self, operation: str, **request: Any) -> Item:
        """UpdateItem; returns the attributes that `ReturnValues` asks for.

        Raises ConditionFailed.
        """
        return dict(self._call(operation, "update_item", **request).get("Attributes", {}))

    def delete(self, operation: str, **request: Any) -> None:
        """DeleteItem. Raises ConditionFailed."""
        self._call(operation, "delete_item", **request)

    def transact(
        self, operation: str, writes: Sequence[Mapping[str, Any]], *, token: str | None = None
    ) -> None:
        """TransactWriteItems. Raises TransactionCancelled, RequestRefused.

        The SDK repeats it under one token, which counts once for ten minutes; a call of this with a
        new token is another transaction.
        """
        self._call(
            operation,
            "transact_write_items",
            TransactItems=list(writes),
            **({} if token is None else {"ClientRequestToken": token}),
        )

    def execute_many(self, operation: str, statements: Sequence[Mapping[str, Any]]) -> list[Reason]:
        """BatchExecuteStatement of up to 25 writes, each on its own; one Reason for each."""
        reply = self._call(operation, "batch_execute_statement", Statements=list(statements))
        return [Reason(*_error(response)) for response in reply["Responses"]]

    def query(self, operation: str, **request: Any) -> dict[str, Any]:
        """Query; the whole reply."""
        return dict(self._call(operation, "query", **request))

    def scan(self, operation: str, **request: Any) -> dict[str, Any]:
        """Scan; the whole reply."""
        return dict(self._call(operation, "scan", **request))

    def _get_some(self, operation: str, table: str, keys: Sequence[Item]) -> list[Item]:
        found: list[Item] = []
        left: Any = {table: {"Keys": list(keys), "ConsistentRead": True}}
        for attempt in range(_BATCH_TRIES):
            if attempt:
                self.pause(attempt)
            reply = self._call(operation, "batch_get_item", RequestItems=left)
            found += reply.get("Responses", {}).get(table, [])
            left = reply.get("UnprocessedKeys")
            if not left:
                return found
        raise StoreUnavailable(operation, f"keys unprocessed {_BATCH_TRIES} times in a row")

    def _call(self, operation: str, method: str, **request: Any) -> Any:
        try:
            return getattr(self._client, method)(**request)
        except ClientError as refusal:
            raise _named(operation, refusal) from refusal
        except (
            ResponseParserError,
            UnicodeDecodeError,
        ) as problem:  # it was answered, in words that nobody understands
            raise AnswerLost(operation, type(problem).__name__) from problem
        except (
            ParamValidationError,
            TypeError,
            ValueError,
        ) as problem:  # it cannot even be written down, and never left
            raise RequestRefused(operation, "ValidationException", str(problem)) from problem
        except BotoCoreError as problem:
            raise AnswerLost(operation, type(problem).__name__) from problem


def _named(operation: str, refusal: ClientError) -> Exception:
    answer: dict[str, Any] = dict(refusal.response)
    code = answer["Error"]["Code"]
    if code == "ConditionalCheckFailedException":
        return ConditionFailed(
            answer.get("Item"), was_repeated=answer["ResponseMetadata"].get("RetryAttempts", 0) > 0
        )
    if code == "TransactionCanceledException" and answer.get("CancellationReasons"):
        return TransactionCancelled(
            [Reason(each["Code"], each.get("Item")) for each in answer["CancellationReasons"]]
        )
    if code in _REFUSED:
        return RequestRefused(operation, code, answer["Error"].get("Message", code))
    if answer["ResponseMetadata"]["HTTPStatusCode"] >= 500:
        return AnswerLost(operation, code)
    return StoreUnavailable(operation, code)


def _error(response: dict[str, Any]) -> tuple[str, Item | None]:
    error = response.get("Error")
    return (error["Code"], error.get("Item")) if error else ("None", None)
