"""A Lambda runtime in pure Python, for systems without wheels of `awslambdaric`.

It speaks the same Runtime API, gives handlers the same context and reports errors in the same form.
tests/contract/test_runtime_api.py checks both runtimes. The API's contract:
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

import http.client
import importlib
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

_PREFIX = "/2018-06-01/runtime"


class Context:
    """The second argument of a handler, as on Lambda.

    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """

    def __init__(self, request_id: str, arn: str, deadline_ms: int) -> None:
        self.aws_request_id = request_id
        self.invoked_function_arn = arn
        self.function_name = os.environ.get("AWS_LAMBDA_FUNCTION_NAME")
        self.function_version = os.environ.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.memory_limit_in_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.log_group_name = os.environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self.identity = None
        self.client_context = None
        self._deadline_ms = deadline_ms

    def get_remaining_time_in_millis(self) -> int:
        """Returns the milliseconds until the deadline, never below 0."""
        return max(0, self._deadline_ms - time.time_ns() // 1_000_000)


class Client:
    """A client of the Runtime API over one open connection."""

    def __init__(self, address: str) -> None:
        # The address has a token if the system does not tell which process holds a connection.
        host, slash, token = address.partition("/")
        self._prefix = slash + token + _PREFIX
        self._connection = http.client.HTTPConnection(host)

    def next(self) -> tuple[http.client.HTTPMessage, bytes]:
        """Waits for the next invocation."""
        self._connection.request("GET", f"{self._prefix}/invocation/next")
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            sys.exit(1)
        return response.headers, body

    def post(self, path: str, body: bytes, error_type: str | None = None) -> int:
        """Sends a result or an error, and returns the response's status."""
        headers = {"Content-Type": "application/json"}
        if error_type:
            headers["Lambda-Runtime-Function-Error-Type"] = error_type
        self._connection.request("POST", f"{self._prefix}{path}", body, headers)
        response = self._connection.getresponse()
        response.read()
        return response.status


def main() -> None:
    """Loads the handler and serves invocations until the API is gone.

    The first argument names the handler.
    """
    for stream in (sys.stdout, sys.stderr):
        # Flush every line, so that the output of a killed process is not lost.
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    client = Client(os.environ["AWS_LAMBDA_RUNTIME_API"])
    logging.basicConfig(stream=sys.stdout, format="[%(levelname)s]\t%(asctime)s\t%(message)s")
    sys.path.insert(0, os.environ.get("LAMBDA_TASK_ROOT", os.getcwd()))
    try:
        handler = _load(sys.argv[1])
    except _InitFailed as failed:
        _report(client, "/init/error", failed.body)
        sys.exit(1)
    while True:
        headers, body = client.next()
        _serve(client, handler, headers, body)


def _serve(
    client: Client,
    handler: Callable[[Any, Context], Any],
    headers: http.client.HTTPMessage,
    body: bytes,
) -> None:
    request_id = headers["Lambda-Runtime-Aws-Request-Id"]
    if trace := headers["Lambda-Runtime-Trace-Id"]:
        os.environ["_X_AMZN_TRACE_ID"] = trace
    else:
        os.environ.pop("_X_AMZN_TRACE_ID", None)
    context = Context(
        request_id,
        headers["Lambda-Runtime-Invoked-Function-Arn"],
        int(headers["Lambda-Runtime-Deadline-Ms"]),
    )
    try:
        result = handler(json.loads(body), context)
    except Exception:  # The runtime's edge: an exception of the handler is its result.
        _report(client, f"/invocation/{request_id}/error", _fault(*sys.exc_info()), request_id)
        return
    try:
        encoded = json.dumps(result, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError) as problem:
        message = f"Unable to marshal response: {problem}"
        error = _error("Runtime.MarshalError", message, [])
        _report(client, f"/invocation/{request_id}/error", error, request_id)
        return
    if client.post(f"/invocation/{request_id}/response", encoded) == 413:
        # As awslambdaric does: the invocation has failed, and the next one gets a new environment.
        sys.exit(1)


def _load(handler: str) -> Callable[[Any, Context], Any]:
    module_name, dot, function_name = handler.rpartition(".")
    if not dot:
        message = f"Bad handler '{handler}': not enough values to unpack"
        raise _InitFailed(_error("Runtime.MalformedHandlerName", message, []))
    try:
        module = importlib.import_module(module_name.replace("/", "."))
    except ImportError as problem:
        message = f"Unable to import module '{module_name}': {problem}"
        raise _InitFailed(_error("Runtime.ImportModuleError", message, [])) from None
    except SyntaxError as problem:
        message = f"Syntax error in module '{module_name}': {problem}"
        raise _InitFailed(_error("Runtime.UserCodeSyntaxError", message, [])) from None
    except Exception:  # The runtime's edge: an exception of the module is why the start failed.
        raise _InitFailed(_fault(*sys.exc_info())) from None
    if not hasattr(module, function_name):
        message = f"Handler '{function_name}' missing on module '{module_name}'"
        raise _InitFailed(_error("Runtime.HandlerNotFound", message, []))
    function: Callable[[Any, Context], Any] = getattr(module, function_name)
    return function


class _InitFailed(Exception):
    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body


def _fault(
    kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
) -> dict[str, Any]:
    frames = [
        frame
        for frame in traceback.extract_tb(trace)
        if frame.filename != __file__ and "importlib" not in frame.filename
    ]
    return _error(kind.__name__ if kind else "Exception", str(value), traceback.format_list(frames))


def _error(kind: str, message: str, frames: list[str]) -> dict[str, Any]:
    return {"errorMessage": message, "errorType": kind, "requestId": "", "stackTrace": frames}


def _report(client: Client, path: str, error: dict[str, Any], request_id: str = "") -> None:
    error = {**error, "requestId": request_id}
    lines = [
        f"[ERROR] {error['errorType']}: {error['errorMessage']}",
        "Traceback (most recent call last):",
        *error["stackTrace"],
    ]
    print("\r".join(line.rstrip("\n") for line in lines), flush=True)
    client.post(path, json.dumps(error).encode(), error["errorType"])


if __name__ == "__main__":
    main()
