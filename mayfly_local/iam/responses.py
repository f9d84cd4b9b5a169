"""Responses of the guard itself, most of them in the forms that SDKs of AWS parse."""

import json
from collections.abc import Awaitable, Callable, Container, Mapping
from typing import Any, Final
from xml.sax.saxutils import escape

from mayfly_local.iam.bodies import Message
from mayfly_local.iam.requests import Request

__all__ = [
    "CONFLICT_MESSAGE",
    "JSON",
    "Send",
    "access_denied",
    "not_written",
    "plain_error",
    "requested_fault",
    "respond",
    "throttled",
    "transaction_cancelled",
    "transaction_conflict",
    "transaction_in_progress",
    "unknown_key",
]

Send = Callable[[Message], Awaitable[None]]

#: The content type of the services that use JSON.
JSON: Final = "application/x-amz-json-1.0"
#: Services of the AWS Query protocol, whose errors are XML.
_QUERY: Final = {"cloudformation", "iam", "sns", "sts"}
#: The message of DynamoDB about an item that is in a transaction.
CONFLICT_MESSAGE: Final = "Transaction is ongoing for the item"


async def respond(
    send: Send, status: int, body: bytes, kind: str, more: Mapping[str, str] | None = None
) -> None:
    """Sends a whole response. `kind` is its content type, and `more` are other headers."""
    headers = {"content-type": kind, "content-length": str(len(body)), **(more or {})}
    encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})


def plain_error(text: str) -> tuple[bytes, str]:
    """Returns an error that AWS does not have, as a sentence for the sender."""
    return json.dumps({"message": text}).encode(), "application/json"


def access_denied(service: str, sentence: str) -> tuple[int, bytes, str]:
    """Returns AWS's error for a call of a function that its role does not allow."""
    if service == "s3" or service in _QUERY:
        code = "AuthorizationError" if service == "sns" else "AccessDenied"
        return 403, *_xml(service, code, sentence)
    status = 403 if service == "lambda" else 400
    return (
        status,
        json.dumps({"__type": "AccessDeniedException", "message": sentence}).encode(),
        JSON,
    )


def unknown_key(request: Request, service: str, *, is_signed: bool) -> tuple[bytes, str]:
    """Returns AWS's error for an unknown key, with advice for this stack."""
    advice = 'use this stack\'s credentials, in a shell: eval "$(mayfly env)"'
    sentence = f"The security token included in the request is invalid: {advice}"
    code = "InvalidAccessKeyId" if service == "s3" else "InvalidClientTokenId"
    if not is_signed:
        code, sentence = "MissingAuthenticationToken", f"The request is not signed: {advice}"
    if service == "lambda" or "x-amz-target" in request.headers:
        return json.dumps(
            {"__type": "UnrecognizedClientException" if is_signed else code, "message": sentence}
        ).encode(), JSON
    return _xml(service, code, sentence)


def not_written(problem: OSError) -> tuple[bytes, str]:
    """Returns the error for a request whose changes could not be written."""
    text = f"the state could not be written, so the request failed: {problem.strerror}"
    return json.dumps({"__type": "InternalServerError", "message": text}).encode(), JSON


def throttled() -> tuple[bytes, str]:
    """Returns DynamoDB's error of a request that was refused for load."""
    return _error(
        "ProvisionedThroughputExceededException", message="a throttle that a test requested"
    )


def transaction_conflict() -> tuple[bytes, str]:
    """Returns DynamoDB's error of a write whose item is in a transaction.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html
    """
    return _error("TransactionConflictException", message=CONFLICT_MESSAGE)


def transaction_cancelled(count: int, met: Container[int]) -> tuple[bytes, str]:
    """Returns DynamoDB's error of a transaction of which items are in another one.

    It has `count` items; those at the places `met` are in the other one.
    https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
    """
    reasons = [
        {"Code": "TransactionConflict", "Message": CONFLICT_MESSAGE}
        if place in met
        else {"Code": "None"}
        for place in range(count)
    ]
    codes = ", ".join(reason["Code"] for reason in reasons)
    return _error(
        "TransactionCanceledException",
        Message="Transaction cancelled, please refer cancellation reasons for specific reasons "
        f"[{codes}]",
        CancellationReasons=reasons,
    )


def transaction_in_progress() -> tuple[bytes, str]:
    """Returns DynamoDB's error of a transaction with the token of one that is in progress."""
    return _error(
        "TransactionInProgressException",
        Message="The transaction with the given request token is already in progress.",
    )


def _error(kind: str, **members: Any) -> tuple[bytes, str]:
    return json.dumps(
        {"__type": f"com.amazonaws.dynamodb.v20120810#{kind}", **members}
    ).encode(), JSON


def requested_fault(service: str) -> tuple[bytes, str]:
    """Returns the error of a call that fails because a test requested it."""
    sentence = "a fault that a test requested"
    if service == "s3" or service in _QUERY:
        return _xml(service, "InternalError" if service == "s3" else "InternalFailure", sentence)
    return json.dumps({"__type": "InternalServerError", "message": sentence}).encode(), JSON


def _xml(service: str, code: str, sentence: str) -> tuple[bytes, str]:
    """Returns an error in the form of S3, or of the Query protocol."""
    text = f"<Code>{code}</Code><Message>{escape(sentence)}</Message>"
    body = (
        f"<Error>{text}</Error>"
        if service == "s3"
        else f"<ErrorResponse><Error><Type>Sender</Type>{text}</Error></ErrorResponse>"
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'.encode(), "application/xml"
