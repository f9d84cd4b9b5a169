"""A worker of the crash lab, run as a script: loads a function once, and forks for each delivery.

Commands arrive as JSON lines. Each answer is the process id of the fork, which writes the reply to
a file. A delivery's fault is injected between the client and the network.
"""

import json
import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

__all__ = ["FAULTS", "main"]

#: Faults of the n-th call of a delivery, with their effects.
FAULTS: Final = {
    "before": "the process is killed before the call is sent",
    "after": "the process is killed after the call has taken effect",
    "lost": "the call takes effect, and its response is lost once",
    "dead": "the call takes effect, and then the connection is dead in both directions",
    "throttle": "the store refuses the call and all its retries",
    "conflict": "another transaction holds the first item of the call, so the store refuses it",
    "pause": "the process is stopped before the call for two leases, and the message is "
    "redelivered meanwhile",
}


_HEADERS: Final = {"x-amzn-requestid": "injected", "content-type": "application/x-amz-json-1.0"}
#: For how long the other transaction of a conflict holds its item, in milliseconds: long enough
#: for the call to meet it on a busy machine, and much shorter than a client's retries.
_HOLD_MS: Final = 100
_THROTTLED: Final = (
    b'{"__type": "com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException", '
    b'"message": "injected"}'
)


@dataclass(frozen=True)
class _Request:
    """A request below all retries of a client.

    `call` is the same for each retry of a call. `send()` returns the answer; `lost`, `closed` and
    `refused(body)` are failures in the form of the client.
    """

    target: str
    call: object
    send: Callable[[], Any]
    lost: Exception
    closed: Exception
    refused: Callable[[bytes], Any]
    body: bytes


class _Seam:
    """Counts the DynamoDB calls of this process, and makes the n-th fail.

    Retries by a client count as the same call.
    """

    def __init__(self, fault: str | None, number: int, calls: Path) -> None:
        self._fault = fault
        self._number = number
        self._calls = calls
        self._seen = 0
        self._last: object = None
        self._has_struck = False

    def send(self, request: _Request) -> Any:
        """Sends a request, or fails it."""
        if not request.target.startswith("DynamoDB"):
            return request.send()
        if request.call != self._last:
            self._last = request.call
            self._seen += 1
            self._calls.write_text(str(self._seen))
        if self._fault is not None and self._seen >= self._number:
            return self._strike(request)
        return request.send()

    def _strike(self, request: _Request) -> Any:
        is_first, is_own_call = not self._has_struck, self._seen == self._number
        self._has_struck = True
        if self._fault == "dead" and not is_first:
            raise request.closed
        if self._fault == "throttle" and is_own_call:
            return request.refused(_THROTTLED)
        if not is_first:
            return request.send()
        if self._fault == "conflict":
            _hold_first_item(request)
            return request.send()
        if self._fault == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault == "pause":
            os.kill(os.getpid(), signal.SIGSTOP)
            return request.send()
        answer = request.send()
        if self._fault == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault in ("lost", "dead"):
            raise request.lost
        return answer


def _seam_of_boto3(seam: _Seam) -> None:
    """Puts the seam below botocore's retries, at the one place that sends."""
    import botocore.httpsession
    from botocore.awsrequest import AWSResponse
    from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

    inner = botocore.httpsession.URLLib3Session.send

    class Raw:
        def __init__(self, body: bytes) -> None:
            self._body = body

        def stream(self, **_: Any) -> Any:
            yield self._body

    def send(session: Any, request: Any) -> Any:
        url = request.url
        return seam.send(
            _Request(
                _header(request, "X-Amz-Target"),
                _header(request, "amz-sdk-invocation-id"),
                lambda: inner(session, request),
                ReadTimeoutError(endpoint_url=url),
                ConnectionClosedError(endpoint_url=url),
                # Only the body is read.
                lambda body: AWSResponse(url, 400, _HEADERS, Raw(body)),  # type: ignore[arg-type]
                request.body,
            )
        )

    botocore.httpsession.URLLib3Session.send = send  # type: ignore[method-assign,assignment]


def _seam_of_lean(seam: _Seam) -> None:
    """Puts the seam below the lean client's retries, at the one place that sends."""
    from mayfly.aws.connections import Answer, Connections
    from mayfly.aws.errors import Unanswered
    from mayfly.aws.lean import LeanClient

    call, exchange, running = LeanClient.call, Connections.exchange, threading.local()

    def called(client: Any, operation: str, request: Any) -> Any:
        running.call = object()
        return call(client, operation, request)

    def exchanged(connections: Any, headers: Mapping[str, str], body: bytes, seconds: float) -> Any:
        return seam.send(
            _Request(
                headers["X-Amz-Target"],
                running.call,
                lambda: exchange(connections, headers, body, seconds),
                Unanswered("ReadTimeoutError"),
                Unanswered("ConnectionClosedError"),
                lambda error: Answer(400, _HEADERS, error),
                body,
            )
        )

    LeanClient.call = called  # type: ignore[method-assign,assignment]
    Connections.exchange = exchanged  # type: ignore[method-assign,assignment]


def _hold_first_item(request: _Request) -> None:
    """Makes the store hold the first item of a request, as another transaction would.

    A read meets no transaction, so nothing is held for one.
    """
    arguments = json.loads(request.body)
    for name in ("TransactItems", "Statements"):
        if name in arguments:
            arguments[name] = arguments[name][:1]
    operation = request.target.partition(".")[2]
    body = {"operation": operation, "request": arguments, "milliseconds": _HOLD_MS}
    store = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    connection = HTTPConnection(store.hostname or "", store.port)
    headers = {"Authorization": f"Bearer {os.environ['AWS_ACCESS_KEY_ID']}"}
    connection.request("POST", "/_mayfly/hold", json.dumps(body), headers)
    reply = connection.getresponse()
    assert reply.status == 200, reply.read()
    connection.close()


class _Context:
    """Lambda's context, with the parts that handlers use."""

    aws_request_id = "crash-lab"
    function_name = "crash-lab"
    memory_limit_in_mb = "512"
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:crash-lab"

    def __init__(self, remaining_ms: int) -> None:
        self._remaining_ms = remaining_ms

    def get_remaining_time_in_millis(self) -> int:
        """Returns the remaining time, which never changes."""
        return self._remaining_ms


def main() -> None:
    """Serves commands until standard input ends."""
    sys.path.insert(0, os.getcwd())
    runpy.run_module(sys.argv[1])
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # The system reaps the forks.
    print("ready", flush=True)
    for line in sys.stdin:
        command = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _deliver(command)
        print(pid, flush=True)


def _deliver(command: dict[str, Any]) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    quiet = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    os.environ["JOBS_QUEUE_URL"] = command["queue"]
    # Loaded again for this delivery's queue; its imports are loaded already.
    handler = runpy.run_module(sys.argv[1])["handler"]
    seam = _Seam(command["fault"], command["number"], Path(command["calls"]))
    # A process has one of these clients, or both.
    if "botocore.httpsession" in sys.modules:
        _seam_of_boto3(seam)
    if "mayfly.aws.lean" in sys.modules:
        _seam_of_lean(seam)
    reply = handler(command["event"], _Context(command["remaining_ms"]))
    target = Path(command["reply"])
    partial = target.with_suffix(".part")
    partial.write_text(json.dumps(reply))
    partial.rename(target)
    os._exit(0)


def _header(request: Any, name: str) -> str:
    value = request.headers.get(name) or b""
    return value.decode() if isinstance(value, bytes) else str(value)


if __name__ == "__main__":
    main()
