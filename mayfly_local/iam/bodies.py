"""Bodies of ASGI requests: read whole or from their start, and given on afterwards."""

import re
from collections.abc import Awaitable, Callable
from typing import Any, Final

__all__ = ["Message", "Receive", "posted_key", "replay", "whole_body"]

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]

#: The form field with the access key of a presigned POST, among the first fields of its body.
_POSTED_CREDENTIAL: Final = re.compile(
    rb'name="(?:x-amz-credential|awsaccesskeyid)"[^\r\n]*\r\n\r\n([^/\r\n]+)', re.IGNORECASE
)
_FORM_START: Final = 64 * 1024


async def whole_body(receive: Receive) -> bytes:
    """Returns the body. Raises ConnectionError if the client disconnects before its end."""
    parts = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ConnectionError
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


def replay(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that gives a body that was read whole."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again


async def posted_key(receive: Receive) -> tuple[str, Receive]:
    """Returns the access key of a presigned POST, and a `receive` that gives the whole body.

    The key is empty if the first fields of the form do not have it. Raises ConnectionError if the
    client disconnects before them.
    """
    start, again = await _start(receive, _FORM_START)
    credential = _POSTED_CREDENTIAL.search(start)
    return credential[1].decode("latin-1") if credential else "", again


async def _start(receive: Receive, limit: int) -> tuple[bytes, Receive]:
    """Reads at least `limit` bytes of a body, or all of it.

    Returns these bytes, and a `receive` that gives the whole body.
    """
    messages: list[Message] = []
    size = 0
    while size < limit and (not messages or messages[-1].get("more_body")):
        messages.append(await receive())
        if messages[-1]["type"] != "http.request":
            raise ConnectionError
        size += len(messages[-1].get("body", b""))

    left = list(messages)

    async def again() -> Message:
        return left.pop(0) if left else await receive()

    return b"".join(message.get("body", b"") for message in messages), again
