"""Replies of functions, as responses of an API.

A reply that AWS would not accept raises MalformedReply, whose text says what is wrong with it.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable
from typing import Any, Final

from aiohttp import web

__all__ = ["JSON", "TEXT", "MalformedReply", "http_response", "rest_response"]

#: Headers that the API sets itself.
_OWN: Final = ("content-length", "transfer-encoding", "connection")
#: Headers of a reply that a REST API sends under another name, and those that it drops.
#: https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-known-issues.html
_RENAMED: Final = {
    "authorization", "connection", "content-md5", "date", "max-forwards", "server", "user-agent",
    "www-authenticate",
}  # fmt: skip
_DROPPED: Final = {
    "expect", "host", "proxy-authenticate", "te", "trailer", "transfer-encoding", "upgrade", "via",
}  # fmt: skip
#: A header's name: RFC 9110, 5.6.2.
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
#: Keys of a reply to a REST API; with any other one, the reply is malformed.
_REST_KEYS: Final = {"statusCode", "headers", "multiValueHeaders", "body", "isBase64Encoded"}
#: Content types of replies without one: to an HTTP API, and to other APIs.
TEXT: Final = "text/plain; charset=utf-8"
JSON: Final = "application/json"


class MalformedReply(ValueError):
    """A function's reply that is not a response."""


def http_response(
    payload: bytes, *, payload_format: str = "2.0", default_type: str = TEXT
) -> web.Response:
    """Returns a reply to an HTTP API or a function URL as a response. Raises MalformedReply.

    In format 2.0, a reply without a statusCode is a JSON body as a whole. `default_type` is the
    content type of a reply that has none.
    Page http-api-develop-integrations-lambda of
    https://docs.aws.amazon.com/apigateway/latest/developerguide/
    """
    reply = _parsed(payload)
    if not isinstance(reply, dict) or "statusCode" not in reply:
        if payload_format == "1.0":
            raise MalformedReply("it has no statusCode, which format 1.0 needs")
        body = reply if isinstance(reply, str) else json.dumps(reply)
        return web.Response(body=body.encode(), content_type=JSON)
    headers = _headers(reply)
    if payload_format == "2.0":
        headers += [("Set-Cookie", cookie) for cookie in _texts(reply.get("cookies"), "cookies")]
    else:
        headers = _with_multiple(reply, headers)
    return _response(reply, headers, _decoded(reply), default_type=default_type)


def rest_response(payload: bytes, *, is_decoded: bool) -> web.Response:
    """Returns a reply to a REST API as a response. Raises MalformedReply.

    With `is_decoded`, a body with isBase64Encoded is decoded; a REST API does that only for its
    binary media types, and sends the base64 otherwise. Some headers are renamed or dropped, as by a
    REST API.
    Page set-up-lambda-proxy-integrations of
    https://docs.aws.amazon.com/apigateway/latest/developerguide/
    """
    reply = _parsed(payload)
    if not isinstance(reply, dict):
        raise MalformedReply("it is not an object")
    if unknown := sorted(set(reply) - _REST_KEYS):
        raise MalformedReply(f"it has the unknown key {unknown[0]!r}")
    if "statusCode" not in reply:
        raise MalformedReply("it has no statusCode")
    headers = [
        (f"x-amzn-Remapped-{name}" if name.lower() in _RENAMED else name, value)
        for name, value in _with_multiple(reply, _headers(reply))
        if name.lower() not in _DROPPED
    ]
    body = _decoded(reply) if is_decoded else _utf8(_text(reply))
    return _response(reply, headers, body, default_type=JSON)


def _parsed(payload: bytes) -> Any:
    try:
        return json.loads(payload)
    except ValueError:
        raise MalformedReply("it is not JSON") from None


def _response(
    reply: dict[str, Any], headers: Iterable[tuple[str, str]], body: bytes, *, default_type: str
) -> web.Response:
    response = web.Response(status=_status(reply["statusCode"]), body=body)
    # aiohttp would name bytes application/octet-stream.
    response.headers["Content-Type"] = default_type
    is_typed = False
    for name, value in headers:
        if name.lower() in _OWN:
            continue
        if name.lower() == "content-type" and not is_typed:
            response.headers["Content-Type"] = value
            is_typed = True
        else:
            response.headers.add(name, value)
    return response


def _status(value: Any) -> int:
    """Returns a status; 1xx is not one, since the client would wait for another."""
    try:
        status = int(value)
    except (TypeError, ValueError):
        raise MalformedReply(f"its statusCode {value!r} is not a number") from None
    if isinstance(value, bool) or status != float(value) or not 200 <= status <= 599:
        raise MalformedReply(f"its statusCode {value!r} is not from 200 to 599")
    return status


def _text(reply: dict[str, Any]) -> str:
    body = reply.get("body")
    if body is not None and not isinstance(body, str):
        raise MalformedReply(f"its body is not a text, but of type {type(body).__name__}")
    return body or ""


def _decoded(reply: dict[str, Any]) -> bytes:
    text = _text(reply)
    if not reply.get("isBase64Encoded"):
        return _utf8(text)
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise MalformedReply("its body is not valid base64") from None


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise MalformedReply("its body is not text that UTF-8 can hold") from None


def _headers(reply: dict[str, Any]) -> list[tuple[str, str]]:
    headers = reply.get("headers")
    if headers is None:
        return []
    if not isinstance(headers, dict):
        raise MalformedReply("its headers are not an object")
    # A header with null is left out.
    return [
        (_name(name), _value(name, value)) for name, value in headers.items() if value is not None
    ]


def _with_multiple(reply: dict[str, Any], headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Returns single headers and multiValueHeaders together; the latter win for equal names."""
    multiple = reply.get("multiValueHeaders")
    if multiple is None:
        return headers
    if not isinstance(multiple, dict):
        raise MalformedReply("its multiValueHeaders are not an object")
    names = {str(name).lower() for name in multiple}
    kept = [(name, value) for name, value in headers if name.lower() not in names]
    for name, values in multiple.items():
        if values is not None and not isinstance(values, list):
            raise MalformedReply(f"multiValueHeaders has no list for {name!r}")
        kept += [(_name(name), _value(name, value)) for value in values or ()]
    return kept


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise MalformedReply(f"{name!r} is not a name of a header")
    return name


def _value(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str | int | float):
        raise MalformedReply(
            f"the header {name!r} has a value of type {type(value).__name__}, not a text"
        )
    return _one_line(name, str(value))


def _texts(value: Any, key: str) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise MalformedReply(f"its {key} are not a list of texts")
    return [_one_line(key, text) for text in value]


def _one_line(name: str, value: str) -> str:
    if "\r" in value or "\n" in value or "\0" in value:
        raise MalformedReply(f"the header {name!r} has a line break: {value[:80]!r}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MalformedReply(f"the header {name!r} is not text that UTF-8 can hold") from None
    return value
