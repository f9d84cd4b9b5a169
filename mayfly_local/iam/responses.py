"""Responses of the guard itself, most of them in the forms that SDKs of AWS parse."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final
from xml.sax.saxutils import escape

from mayfly_local.iam.bodies import Message
from mayfly_local.iam.requests import Request

__all__ = [
    "Send",
    "access_denied",
    "not_written",
    "plain_error",
    "requested_conflict",
    "requested_fault",
    "respond",
    "unknown_key",
]

Send = Callable[[Message], Awaitable[None]]

#: The content type of errors of the services that use JSON.
_JSON: Final = "application/x-amz-json-1.0"


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
    if service == "s3":
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code>'
            f"<Message>{escape(sentence)}</Message></Error>"
        )
        return 403, text.encode(), "application/xml"
    if service == "sns":
        text = f"<Code>AuthorizationError</Code><Message>{escape(sentence)}</Message>"
        error = f"<ErrorResponse><Error><Type>Sender</Type>{text}</Error></ErrorResponse>"
        return 403, error.encode(), "text/xml"
    status = 403 if service == "lambda" else 400
    return (
        status,
        json.dumps({"__type": "AccessDeniedException", "message": sentence}).encode(),
        _JSON,
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
        ).encode(), _JSON
    text = f"<Code>{code}</Code><Message>{escape(sentence)}</Message>"
    body = (
        f"<Error>{text}</Error>"
        if service == "s3"
        else f"<ErrorResponse><Error><Type>Sender</Type>{text}</Error></ErrorResponse>"
    )
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'.encode(), "application/xml"


def not_written(problem: OSError) -> tuple[bytes, str]:
    """Returns the error for a request whose changes could not be written."""
    text = f"the state could not be written, so the request failed: {problem.strerror}"
    return json.dumps({"__type": "InternalServerError", "message": text}).encode(), _JSON


def requested_conflict(request: Request) -> tuple[bytes, str]:
    """Returns DynamoDB's error of a write whose item is in another transaction.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html
    """
    # The requests of other services have no such body.
    body = json.loads(request.body) if request.service == "dynamodb" else {}
    count = len(body.get("TransactItems", ()))
    kind = "TransactionCanceledException" if count else "TransactionConflictException"
    error: dict[str, Any] = {
        "__type": f"com.amazonaws.dynamodb.v20120810#{kind}",
        "message": "a conflict that a test requested",
    }
    if count:
        others = [{"Code": "None"}] * (count - 1)
        error["CancellationReasons"] = [{"Code": "TransactionConflict"}, *others]
    return json.dumps(error).encode(), _JSON


def requested_fault() -> tuple[bytes, str]:
    """Returns the error of a call that fails because a test requested it."""
    body = b'{"__type": "InternalServerError", "message": "a fault that a test requested"}'
    return body, _JSON
