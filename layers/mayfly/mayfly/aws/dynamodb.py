"""Adapter to DynamoDB: sends one request, and raises an error that names the failure.

Stores deal with tables and conditions. This module deals with the client and its errors.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

from mayfly.aws.client import as_client
from mayfly.aws.errors import Refused, Unanswered, Unsent
from mayfly.aws.items import Item
from mayfly.core.deadline import seconds_left
from mayfly.core.errors import StoreUnavailable

__all__ = [
    "AnswerLost",
    "ConditionFailed",
    "DynamoDB",
    "Item",
    "NoAnswer",
    "Reason",
    "RequestRefused",
    "TransactionCancelled",
    "Unwritten",
    "longest_pause",
]

#: Errors that a retry cannot help: a malformed request, a missing permission, a missing table.
_REFUSED: Final = {"ValidationException", "AccessDeniedException", "ResourceNotFoundException"}
#: The most keys of one BatchGetItem.
_BATCH_KEYS: Final = 100
#: Calls for one batch; each repeats the keys that the call before left unprocessed.
_BATCH_TRIES: Final = 6
#: Error codes of load. The request was refused before it could write anything.
_LOAD: Final = {
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
}
#: Reasons of a cancelled transaction after which it may be sent again.
_PASSING: Final = {
    "None",
    "ProvisionedThroughputExceeded",
    "ThrottlingError",
    "TransactionConflict",
}
#: Tries of a request that is refused for load, by a client that sends each request once.
_LOAD_TRIES: Final = 3
#: The longest pause after no attempt at all, in seconds. Each attempt doubles it.
_PAUSE_SECONDS: Final = 0.02
#: Tries of a plain write while transactions hold its item. A transaction takes some 20 ms.
_CONFLICT_TRIES: Final = 8


def longest_pause(attempt: int) -> float:
    """Returns the longest pause after attempt number `attempt`, in seconds."""
    return _PAUSE_SECONDS * 2.0**attempt


class ConditionFailed(Exception):
    """The condition of a write did not hold.

    `item` is the item as it was. It is None if there was no item, or if the request did not ask for
    it. `was_repeated` is true if the SDK sent the write more than once: a write whose response was
    lost may have happened, and may be the reason why this condition did not hold.
    """

    def __init__(self, item: Item | None, *, was_repeated: bool = False) -> None:
        self.item = item
        self.was_repeated = was_repeated
        super().__init__("the condition of a write did not hold")


@dataclass(frozen=True)
class Reason:
    """The reason why one write of several was refused.

    The code is the text "None" if this write was not the reason. `item` is as in ConditionFailed.
    """

    code: str
    item: Item | None = None


class TransactionCancelled(Exception):
    """A transaction was refused, and nothing of it was written.

    `reasons` has one entry for each of its writes, in their order.
    """

    def __init__(self, reasons: Sequence[Reason]) -> None:
        self.reasons = tuple(reasons)
        super().__init__(
            "a transaction was cancelled: " + ", ".join(reason.code for reason in reasons)
        )


class RequestRefused(StoreUnavailable):
    """The request was refused, and nothing of it was written.

    `is_malformed` is true if the request itself is invalid. Otherwise a table or a permission is
    missing.
    """

    def __init__(self, operation: str, code: str, message: str) -> None:
        self.is_malformed = code == "ValidationException"
        self.message = message
        super().__init__(operation, message)


class Unwritten(StoreUnavailable):
    """A request was refused for a reason that passes. Nothing of it was written.

    It is sent up to `tries` times. `was_repeated` is true if an earlier try may have taken effect.
    """

    def __init__(self, operation: str, reason: str, *, tries: int, was_repeated: bool) -> None:
        self.tries = tries
        self.was_repeated = was_repeated
        super().__init__(operation, reason)


class AnswerLost(StoreUnavailable):
    """The request was sent, but its response was lost: it may or may not have taken effect.

    The same holds for a request whose last answer is damaged, or has a status of 500 or more.
    """


class NoAnswer(AnswerLost):
    """The last try had no answer at all: the connection was lost, or the time was over."""


class DynamoDB:
    """One client of DynamoDB: boto3's, or the lean one.

    `pause(attempt)` waits before a retry, for `longest_pause(attempt)` at most: with jitter in
    production. Every method raises StoreUnavailable; its `operation` is for the error's message.
    `sends_once` says that the client does not retry.
    """

    def __init__(
        self, client: Any, pause: Callable[[int], None], *, sends_once: bool = False
    ) -> None:
        self._client = as_client(client)
        self._pause = pause
        self._load_tries = _LOAD_TRIES if sends_once else 1

    def pause(self, attempt: int) -> bool:
        """Waits before the retry after attempt number `attempt`. Returns whether there is time.

        If the request's deadline could come first, it does not wait: the caller then gives up, as
        after its last try.
        """
        if longest_pause(attempt) >= seconds_left():
            return False
        self._pause(attempt)
        return True

    def get(self, operation: str, table: str, key: Item) -> Item | None:
        """Returns an item, strongly consistent, None if there is none."""
        item: Item | None = self._call(
            operation, "GetItem", TableName=table, Key=key, ConsistentRead=True
        ).get("Item")
        return item

    def get_many(self, operation: str, table: str, keys: Sequence[Item]) -> list[Item]:
        """Returns those of the items that exist, strongly consistent, in any order.

        Makes one call for each hundred keys, which must differ. Keys that DynamoDB leaves
        unprocessed are requested again and never treated as absent; if they stay unprocessed, this
        raises StoreUnavailable.
        """
        return [
            item
            for start in range(0, len(keys), _BATCH_KEYS)
            for item in self._get_some(operation, table, keys[start : start + _BATCH_KEYS])
        ]

    def put(self, operation: str, **request: Any) -> None:
        """Calls PutItem. Raises ConditionFailed."""
        self._call(operation, "PutItem", **request)

    def update(
        self, operation: str, *, tried: Callable[[int], None] | None = None, **request: Any
    ) -> Item:
        """Calls UpdateItem, and returns the attributes that `ReturnValues` asks for.

        `tried` is called with the number of tries if conflicts or load made more than one of them
        necessary. Raises ConditionFailed.
        """
        reply = self._call(operation, "UpdateItem", tried, **request)
        return dict(reply.get("Attributes", {}))

    def delete(self, operation: str, **request: Any) -> None:
        """Calls DeleteItem. Raises ConditionFailed."""
        self._call(operation, "DeleteItem", **request)

    def transact(
        self,
        operation: str,
        writes: Sequence[Mapping[str, Any]],
        *,
        token: str | None = None,
        tries: int = 1,
    ) -> None:
        """Calls TransactWriteItems. Raises TransactionCancelled, RequestRefused.

        The SDK retries under one token, which DynamoDB deduplicates for ten minutes. A call with
        another token is another transaction. With `tries`, a transaction without a token is sent
        again if it was cancelled only for conflicts or load.
        """
        for attempt in count(1):
            try:
                self._call(
                    operation,
                    "TransactWriteItems",
                    TransactItems=list(writes),
                    **({} if token is None else {"ClientRequestToken": token}),
                )
                return
            except TransactionCancelled as refusal:
                codes = {reason.code for reason in refusal.reasons}
                if attempt >= tries or not codes <= _PASSING or not self.pause(attempt):
                    raise

    def execute_many(self, operation: str, statements: Sequence[Mapping[str, Any]]) -> list[Reason]:
        """Calls BatchExecuteStatement with up to 25 independent writes; returns their Reasons."""
        reply = self._call(operation, "BatchExecuteStatement", Statements=list(statements))
        return [Reason(*_code_and_item(response)) for response in reply["Responses"]]

    def query(self, operation: str, **request: Any) -> dict[str, Any]:
        """Calls Query, and returns the whole reply."""
        return dict(self._call(operation, "Query", **request))

    def scan(self, operation: str, **request: Any) -> dict[str, Any]:
        """Calls Scan, and returns the whole reply."""
        return dict(self._call(operation, "Scan", **request))

    def _get_some(self, operation: str, table: str, keys: Sequence[Item]) -> list[Item]:
        items: list[Item] = []
        left: Any = {table: {"Keys": list(keys), "ConsistentRead": True}}
        for attempt in range(_BATCH_TRIES):
            if attempt and not self.pause(attempt):
                break
            reply = self._call(operation, "BatchGetItem", RequestItems=left)
            items += reply.get("Responses", {}).get(table, [])
            left = reply.get("UnprocessedKeys")
            if not left:
                return items
        raise StoreUnavailable(operation, "keys unprocessed in every try")

    def _call(
        self,
        operation: str,
        method: str,
        tried: Callable[[int], None] | None = None,
        /,
        **request: Any,
    ) -> Any:
        """Calls an operation. A write that meets a transaction on its item is repeated.

        DynamoDB refuses such a write, and SDKs do not repeat it. Nothing of it was written, so a
        repeat is safe for every write, also for a plain increment. The same holds for a request
        that is refused for load, which a client that sends once does not repeat either.
        https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html
        """
        is_repeated, attempt = False, 1
        try:
            while True:
                try:
                    return self._try(operation, method, request, is_repeated=is_repeated)
                except Unwritten as refusal:
                    if attempt >= refusal.tries or not self.pause(attempt):
                        raise
                    is_repeated |= refusal.was_repeated
                attempt += 1
        finally:
            if tried is not None and attempt > 1:
                tried(attempt)

    def _try(
        self, operation: str, method: str, request: Mapping[str, Any], *, is_repeated: bool
    ) -> Any:
        try:
            return self._client.call(method, request)
        except Refused as refusal:
            if refusal.code in _LOAD and not refusal.follows_loss:
                raise Unwritten(
                    operation, refusal.code, tries=self._load_tries, was_repeated=is_repeated
                ) from refusal
            raise _error_for(operation, refusal, is_repeated=is_repeated) from refusal
        except Unanswered as problem:
            kind = AnswerLost if problem.is_damaged else NoAnswer
            raise kind(operation, problem.reason) from problem
        except Unsent as problem:
            raise RequestRefused(operation, "ValidationException", str(problem)) from problem


def _error_for(operation: str, refusal: Refused, *, is_repeated: bool) -> Exception:
    code, answer = refusal.code, refusal.answer
    is_repeated |= refusal.tries > 1
    if code == "ConditionalCheckFailedException":
        return ConditionFailed(answer.get("Item"), was_repeated=is_repeated)
    if code == "TransactionCanceledException" and answer.get("CancellationReasons"):
        return TransactionCancelled(
            [Reason(entry["Code"], entry.get("Item")) for entry in answer["CancellationReasons"]]
        )
    if code == "TransactionConflictException":
        return Unwritten(
            operation,
            "transactions held the item in every try",
            tries=_CONFLICT_TRIES,
            was_repeated=is_repeated,
        )
    if refusal.follows_loss:
        # Only the last try was refused. An earlier one may have taken effect.
        return AnswerLost(operation, code)
    if code in _REFUSED:
        return RequestRefused(operation, code, refusal.message)
    if refusal.status >= 500:
        return AnswerLost(operation, code)
    return StoreUnavailable(operation, code)


def _code_and_item(response: dict[str, Any]) -> tuple[str, Item | None]:
    error = response.get("Error")
    return (error["Code"], error.get("Item")) if error else ("None", None)
