"""A worker of the crash lab, run as a script: loads a function once, and forks for each delivery.

Commands arrive as JSON lines. Each answer is the process id of the fork, which writes the reply to
a file. A delivery's fault is injected between the SDK and the network.
"""

import json
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import Any, Final

import botocore.httpsession
from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError

__all__ = ["FAULTS", "main"]

#: Faults of the n-th call of a delivery, with their effects.
FAULTS: Final = {
    "before": "the process is killed before the call is sent",
    "after": "the process is killed after the call has taken effect",
    "lost": "the call takes effect, and its response is lost once",
    "dead": "the call takes effect, and then the connection is dead in both directions",
    "throttle": "the store refuses the call and all its retries",
    "pause": "the process is stopped before the call for two leases, and the message is "
    "redelivered meanwhile",
}


class _Seam:
    """Counts the DynamoDB calls of this process, and makes the n-th fail.

    Retries by the SDK count as the same call.
    """

    def __init__(self, fault: str | None, number: int, calls: Path) -> None:
        self._fault = fault
        self._number = number
        self._calls = calls
        self._seen = 0
        self._last: str | None = None
        self._has_struck = False
        self._send = botocore.httpsession.URLLib3Session.send

    def install(self) -> None:
        """Replaces the SDK's own `send`."""
        seam = self

        def send(session: Any, request: Any) -> Any:
            return seam.send(session, request)

        # The one place below all retries.
        botocore.httpsession.URLLib3Session.send = send  # type: ignore[method-assign,assignment]

    def send(self, session: Any, request: Any) -> Any:
        """Sends a request, or fails it."""
        target = _header(request, "X-Amz-Target")
        if not target.startswith("DynamoDB"):
            return self._send(session, request)
        call = _header(request, "amz-sdk-invocation-id")
        if call != self._last:
            self._last = call
            self._seen += 1
            self._calls.write_text(str(self._seen))
        if self._fault is not None and self._seen >= self._number:
            return self._strike(session, request)
        return self._send(session, request)

    def _strike(self, session: Any, request: Any) -> Any:
        is_first, is_own_call = not self._has_struck, self._seen == self._number
        self._has_struck = True
        if self._fault == "dead" and not is_first:
            raise ConnectionClosedError(endpoint_url=request.url)
        if self._fault == "throttle" and is_own_call:
            return _throttled(request)
        if not is_first:
            return self._send(session, request)
        if self._fault == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault == "pause":
            os.kill(os.getpid(), signal.SIGSTOP)
            return self._send(session, request)
        answer = self._send(session, request)
        if self._fault == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        if self._fault in ("lost", "dead"):
            raise ReadTimeoutError(endpoint_url=request.url)
        return answer


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
    _Seam(command["fault"], command["number"], Path(command["calls"])).install()
    reply = handler(command["event"], _Context(command["remaining_ms"]))
    target = Path(command["reply"])
    partial = target.with_suffix(".part")
    partial.write_text(json.dumps(reply))
    partial.rename(target)
    os._exit(0)


def _header(request: Any, name: str) -> str:
    value = request.headers.get(name) or b""
    return value.decode() if isinstance(value, bytes) else str(value)


def _throttled(request: Any) -> AWSResponse:
    class Raw:
        def stream(self, **_: Any) -> Any:
            yield (
                b'{"__type": '
                b'"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException", '
                b'"message": "injected"}'
            )

    headers = {"x-amzn-requestid": "injected", "Content-Type": "application/x-amz-json-1.0"}
    # Only the body is read.
    return AWSResponse(request.url, 400, headers, Raw())  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
