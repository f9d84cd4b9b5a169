"""The API of Lambda: functions and clients invoke functions, and read about them.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from mayfly_local.compute.invocation import ASYNCHRONOUS_LIMIT, PAYLOAD_LIMIT
from mayfly_local.emulator.functions import Functions
from mayfly_local.emulator.invocations import Invocations
from mayfly_local.iam.function_names import FunctionName

__all__ = ["LambdaApi"]

#: Status, headers and body.
Response = tuple[int, dict[str, str], bytes]

_FUNCTION: Final = re.compile(r"/2015-03-31/functions/(?P<name>[^/]+)(?P<rest>/.*)?")
_FUNCTIONS: Final = re.compile(r"/2015-03-31/functions/?")
_LEGACY: Final = re.compile(r"/2014-11-13/functions/(?P<name>[^/]+)/invoke-async/?")


class LambdaApi:
    """Answers requests that are signed for Lambda."""

    def __init__(self, functions: Functions, invocations: Invocations) -> None:
        self._functions = functions
        self._invocations = invocations

    async def handle(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, Any],
        **_: Any,
    ) -> Response:
        """Answers one request. Header names are lower case."""
        if _FUNCTIONS.fullmatch(path):
            if method == "GET":
                return _json(200, {"Functions": [_described(one) for one in self._functions.all()]})
            return _not_here(method, path)
        legacy, match = _LEGACY.fullmatch(path), _FUNCTION.fullmatch(path)
        found = legacy or match
        if found is None:
            return _not_here(method, path)
        reference, qualifier = unquote(found["name"]), _first(query, "Qualifier")
        function = self._functions.find(reference, qualifier)
        if function is None:
            return _unknown(reference, qualifier)
        if legacy:
            return self._invoke_later(function, body, headers, {"Status": 202})
        operation = method, (match["rest"] or "").rstrip("/") if match else ""
        if operation == ("POST", "/invocations"):
            return await self._invoke(function, qualifier, headers, body)
        facts = self._functions.facts(function)
        if facts is None or operation not in (("GET", "/configuration"), ("GET", "")):
            return _not_here(method, path)
        if operation == ("GET", "/configuration"):
            return _json(200, _described(facts))
        code = {"RepositoryType": "local"}
        return _json(200, {"Configuration": _described(facts), "Code": code})

    async def _invoke(
        self, function: str, qualifier: str, headers: Mapping[str, str], body: bytes
    ) -> Response:
        kind = headers.get("x-amz-invocation-type", "RequestResponse")
        if kind == "DryRun":
            return 204, {}, b""
        if kind == "Event":
            return self._invoke_later(function, body, headers, None)
        if kind != "RequestResponse":
            return _error(
                400,
                "InvalidParameterValueException",
                f"InvocationType {kind} is not RequestResponse, Event or DryRun",
            )
        if len(body) > PAYLOAD_LIMIT:
            return _too_large(PAYLOAD_LIMIT)
        try:
            event, context = _event(body), _client_context(headers)
        except ValueError as problem:
            return _not_json(problem)
        reply = await self._invocations.call(
            function, event, tail=headers.get("x-amz-log-type") == "Tail", client_context=context
        )
        answer = {
            "Content-Type": "application/json",
            "X-Amz-Executed-Version": qualifier if qualifier.isdigit() else "$LATEST",
        }
        if reply["error"]:
            answer["X-Amz-Function-Error"] = "Unhandled"
        if reply["log"] is not None:
            answer["X-Amz-Log-Result"] = base64.b64encode(reply["log"].encode()).decode()
        return 200, answer, reply["payload"].encode()

    def _invoke_later(
        self,
        function: str,
        body: bytes,
        headers: Mapping[str, str],
        answer: dict[str, Any] | None,
    ) -> Response:
        if len(body) > ASYNCHRONOUS_LIMIT:
            return _too_large(ASYNCHRONOUS_LIMIT)
        try:
            event, context = _event(body), _client_context(headers)
        except ValueError as problem:
            return _not_json(problem)
        self._invocations.add(function, event, client_context=context)
        return _json(202, answer) if answer else (202, {}, b"")


def _event(body: bytes) -> str:
    """Returns the event of a request, `{}` if there is none. Raises ValueError."""
    text = body.decode() or "{}"
    json.loads(text)
    return text


def _client_context(headers: Mapping[str, str]) -> str:
    """Returns the JSON of X-Amz-Client-Context, which is base64. Raises ValueError."""
    encoded = headers.get("x-amz-client-context", "")
    try:
        text = base64.b64decode(encoded, validate=True).decode()
    except binascii.Error as problem:
        raise ValueError(f"the client context is not base64: {problem}") from None
    # It becomes a header, which is one line of ASCII.
    return json.dumps(json.loads(text)) if text else ""


def _first(query: Mapping[str, Any], name: str) -> str:
    value = query.get(name, "")
    return str(value[0] if isinstance(value, list) else value)


def _described(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "FunctionName": facts["name"],
        "FunctionArn": facts["arn"],
        "Runtime": facts["runtime"],
        "Handler": facts["handler"],
        "Timeout": facts["timeout"],
        "MemorySize": facts["memory"],
        "Version": "$LATEST",
        "State": "Active",
        "LastUpdateStatus": "Successful",
        "PackageType": "Zip",
    }


def _json(status: int, body: Any) -> Response:
    return status, {"Content-Type": "application/json"}, json.dumps(body).encode()


def _error(status: int, code: str, message: str) -> Response:
    """Returns an error of Lambda. The field of its text is `Message` for some and `message` for
    others; SDKs read both."""
    body = {"Type": "User", "Message": message, "message": message}
    return (
        status,
        {"Content-Type": "application/json", "x-amzn-errortype": code},
        json.dumps(body).encode(),
    )


def _unknown(reference: str, qualifier: str) -> Response:
    name = FunctionName.parse(reference, qualifier)
    return _error(
        404, "ResourceNotFoundException", f"Function not found: {name.arn if name else reference}"
    )


def _too_large(limit: int) -> Response:
    return _error(
        413,
        "RequestTooLargeException",
        f"Request must be smaller than {limit} bytes for the InvokeFunction operation",
    )


def _not_json(problem: ValueError) -> Response:
    return _error(
        400,
        "InvalidRequestContentException",
        f"Could not parse request body into json: {problem}",
    )


def _not_here(method: str, path: str) -> Response:
    return _error(
        400,
        "InvalidParameterValueException",
        f"{method} {path} is not served locally: functions come from the template of mayfly up, "
        "and can be invoked, listed and described here",
    )
