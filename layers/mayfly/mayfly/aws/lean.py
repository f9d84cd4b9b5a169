"""A client for the JSON protocols of DynamoDB, DynamoDB Streams, SQS and Parameter Store.

It does what these functions need of an SDK, and starts in a fraction of its time
(docs/decisions/0018). Requests and answers are in the services' own JSON, as in the API references.

    call --> JSON --> sign --> send --> answer --> checksum --> JSON
                       ^ |
                       | +--> retry: after a pause, or at once with a corrected clock or new
                       |      credentials
                       +-- credentials are read for each request
"""

import base64
import email.utils
import json
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from mayfly.aws.connections import IDLE_SECONDS, ONCE_IDLE_SECONDS, Answer, Connections
from mayfly.aws.credentials import Credentials, CredentialSource
from mayfly.aws.endpoints import endpoint, region
from mayfly.aws.errors import Refused, Unanswered, Unsent, out_of_time
from mayfly.aws.retries import Budget, is_retryable, pause_seconds
from mayfly.aws.signature import Signer
from mayfly.core.clock import Clock, system_clock
from mayfly.core.deadline import seconds_left
from mayfly.core.ids import new_id

if TYPE_CHECKING:
    import ssl

__all__ = ["LeanClient"]


@dataclass(frozen=True)
class _Protocol:
    """The names of a service in its requests."""

    target: str
    content_type: str
    signing_name: str


_PROTOCOLS: Final = {
    "dynamodb": _Protocol("DynamoDB_20120810", "application/x-amz-json-1.0", "dynamodb"),
    "dynamodbstreams": _Protocol(
        "DynamoDBStreams_20120810", "application/x-amz-json-1.0", "dynamodb"
    ),
    "sqs": _Protocol("AmazonSQS", "application/x-amz-json-1.0", "sqs"),
    "ssm": _Protocol("AmazonSSM", "application/x-amz-json-1.1", "ssm"),
}
#: Operations that DynamoDB deduplicates by a token, so that a retry cannot write twice.
_WITH_TOKEN: Final = frozenset({"TransactWriteItems"})
#: Codes of a signature whose time may be wrong, and the difference of clocks above which it is.
_SKEWED: Final = frozenset(
    {"InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed", "SignatureDoesNotMatch"}
)
_SKEW_SECONDS: Final = 240.0
#: Codes of credentials that have ended, or that were replaced.
_OLD_CREDENTIALS: Final = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "UnrecognizedClientException"}
)
#: Characters that stay as they are in the header of a trace, as in botocore.
_SAFE_IN_TRACE: Final = "-=;:+&[]{}\"',"
_TIMEOUTS: Final = frozenset({"ConnectTimeoutError", "ReadTimeoutError"})


class LeanClient:
    """A client of one service. It may be used by several threads at once.

    A request is sent at most `attempts` times. `tls()` returns the context of connections; it is
    called if the endpoint has https. `wider_tls` is that of Connections. `pause(seconds)` waits
    before a retry, and `share()` returns a random number from 0 to 1.
    """

    def __init__(
        self,
        service: str,
        env: Mapping[str, str],
        *,
        pause: Callable[[float], object],
        share: Callable[[], float],
        attempts: int = 3,
        tls: "Callable[[], ssl.SSLContext] | None" = None,
        wider_tls: "Callable[[], ssl.SSLContext] | None" = None,
        clock: Clock = system_clock,
    ) -> None:
        self._protocol = _PROTOCOLS[service]
        #: DynamoDB has a body in every answer; SQS has none in some.
        self._is_never_empty = self._protocol.signing_name == "dynamodb"
        self._attempts = attempts
        self._clock = clock
        self._pause = pause
        self._share = share
        self._credentials = CredentialSource(env, clock)
        self._signer = Signer(self._protocol.signing_name, region(env))
        url = endpoint(service, env)
        self._connections = Connections(
            url,
            tls() if tls and url.startswith("https:") else None,
            wider_tls=wider_tls,
            idle_seconds=ONCE_IDLE_SECONDS if attempts == 1 else IDLE_SECONDS,
            clock=clock,
        )
        self._env = env
        self._budget = Budget()
        #: Seconds by which the service's clock is ahead of this machine's.
        self._skew = 0.0

    def close(self) -> None:
        """Closes the connections that no call uses."""
        self._connections.close()

    def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Calls an operation by its name in the API reference, and returns the answer.

        Raises Refused if the service answers with an error, or if the request has no time left
        (`mayfly.core.deadline`); Unanswered if no answer came that can be read, Unsent if the
        request cannot be written as JSON, ConfigError without credentials.
        """
        if operation in _WITH_TOKEN and "ClientRequestToken" not in request:
            request = {**request, "ClientRequestToken": new_id()}
        body = _written(request)
        tries, cost, is_corrected, is_lost = 0, 0, False, False
        failure: Refused | Unanswered = out_of_time()
        # Each try gets its share of the time that the request has left.
        while (seconds := seconds_left() / max(1, self._attempts - tries)) > 0:
            tries += 1
            try:
                credentials = self._credentials.read()
                answer = self._send(operation, body, credentials, seconds)
                result = _read(answer, is_never_empty=self._is_never_empty)
            except Unanswered as problem:
                failure, passes, is_lost = problem, True, True
            else:
                if answer.status < 300:
                    self._budget.refund(cost)
                    return result
                failure = _refused(answer, result, tries, follows_loss=is_lost)
                if not is_corrected and self._correct(failure.code, answer, credentials):
                    is_corrected = True
                    continue
                passes = is_retryable(failure.code, answer.status)
                is_lost |= answer.status >= 500
            cost = self._wait(failure, tries) if passes else 0
            if not cost:
                break
        raise failure

    def _wait(self, failure: Refused | Unanswered, tries: int) -> int:
        """Waits before the next try, and returns what it costs; 0 if there is none."""
        pause = pause_seconds(tries, self._share())
        if tries >= self._attempts or pause >= seconds_left():
            return 0
        reason = failure.reason if isinstance(failure, Unanswered) else ""
        cost = self._budget.take(is_timeout=reason in _TIMEOUTS)
        if cost:
            self._pause(pause)
        return cost

    def _send(
        self, operation: str, body: bytes, credentials: Credentials, seconds: float
    ) -> Answer:
        protocol = self._protocol
        target = f"{protocol.target}.{operation}"
        headers = {
            "Content-Type": protocol.content_type,
            "X-Amz-Target": target,
            "User-Agent": "mayfly",
            **self._signer.headers(
                host=self._connections.host,
                target=target,
                content_type=protocol.content_type,
                body=body,
                credentials=credentials,
                at=self._clock() / 1000 + self._skew,
            ),
        }
        # Lambda stops functions that call each other in a loop by this header:
        # https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html
        if trace := self._env.get("_X_AMZN_TRACE_ID"):
            headers["X-Amzn-Trace-Id"] = quote(trace, safe=_SAFE_IN_TRACE)
        return self._connections.exchange(headers, body, seconds)

    def _correct(self, code: str, answer: Answer, sent: Credentials) -> bool:
        """Corrects what made a signature invalid; returns whether a retry can succeed now.

        `sent` are the credentials that were refused.
        """
        if code in _OLD_CREDENTIALS:
            self._credentials.forget(sent)
            return self._credentials.read() != sent
        if code in _SKEWED:
            try:
                date = email.utils.parsedate_to_datetime(answer.headers.get("date", ""))
            except (TypeError, ValueError):
                return False
            there = date.timestamp()
            skew = there - self._clock() / 1000
            if abs(skew - self._skew) > _SKEW_SECONDS:
                self._skew = skew
                return True
        return False


def _written(request: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(request, ensure_ascii=False, separators=(",", ":"), default=_binary)
        try:
            return text.encode()
        except UnicodeEncodeError:  # Half of a character pair can only be written as an escape.
            return json.dumps(request, separators=(",", ":"), default=_binary).encode()
    except (TypeError, ValueError) as problem:
        raise Unsent(str(problem)) from problem


def _binary(value: Any) -> str:
    """Returns bytes as the protocols write them. Raises TypeError for anything else."""
    content = getattr(value, "value", value)  # boto3 has a class Binary
    if not isinstance(content, (bytes, bytearray)):
        raise TypeError(f"{type(value).__name__} cannot be written as JSON")
    return base64.b64encode(content).decode()


def _read(answer: Answer, *, is_never_empty: bool) -> dict[str, Any]:
    """Returns the JSON of an answer. Raises Unanswered if it is damaged."""
    if is_never_empty and answer.status < 300 and not (answer.status == 200 and answer.body):
        raise Unanswered("ResponseParserError")
    checksum = answer.headers.get("x-amz-crc32")
    if checksum is not None and checksum != str(zlib.crc32(answer.body)):
        raise Unanswered("ChecksumError")
    try:
        result = json.loads(answer.body) if answer.body else {}
        if isinstance(result, dict):
            return result
    except (ValueError, RecursionError):
        pass
    if answer.status >= 300:  # For example a page of a load balancer.
        return {}
    raise Unanswered("ResponseParserError")


def _refused(answer: Answer, result: dict[str, Any], tries: int, *, follows_loss: bool) -> Refused:
    """Returns the error in an answer, with the code that botocore reads too."""
    named = (
        answer.headers.get("x-amzn-query-error", "").partition(";")[0]
        or str(result.get("__type") or answer.headers.get("x-amzn-errortype", ""))
        or str(answer.status)
    )
    code = named.rpartition("#")[2].partition(":")[0]
    message = str(result.get("message") or result.get("Message") or code)
    return Refused(
        code, message, status=answer.status, answer=result, tries=tries, follows_loss=follows_loss
    )
