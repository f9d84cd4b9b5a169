"""Faults at the HTTP level: between a client with all its retries, and the wire.

They are the same for boto3's client and for the lean one.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import botocore.awsrequest
import botocore.exceptions
from mayfly.aws.connections import Answer
from mayfly.aws.retries import Budget

from tests.support.clients import Lean, lost, prepared, read
from tests.support.mocked import stubber

Plan = Callable[[str, int], str | None]

#: Operations that can meet a transaction. DynamoDB answers plain reads whatever holds their items.
MEETING = ("PutItem", "UpdateItem", "DeleteItem", "TransactWriteItems", "BatchExecuteStatement")


class Killed(BaseException):
    """The end of a process, in a test that plays several processes.

    No handler catches it, and no code of the process runs after it.
    """


class Plenty(Budget):
    """A budget that no number of retries uses up."""

    def take(self, *, is_timeout: bool) -> int:
        """Takes nothing."""
        return 1


class Faults:
    """Injects faults between a client and moto.

    `plan(operation, number)` names the fault of the n-th request (from 1) of this client:

    `before`      the request is never sent
    `after`       it takes effect, and its answer is lost
    `throttle`    refused for load
    `conflict`    refused, since another transaction is in progress on one of its items
    `error`       a 500 without effect
    `damaged`     an answer that cannot be read, without effect
    `late`        it seems lost, and takes effect when `arrive` is called
    `kill`        the process dies before the request is sent
    `kill after`  the process dies after the request has taken effect
    """

    def __init__(self, client: Any, *, on_moto: bool = True) -> None:
        self.plan: Plan = lambda operation, number: None
        #: The write of a transaction that gets the conflict.
        self.pick: Callable[[int], int] = lambda count: 0
        self.requests: list[str] = []
        self._on_moto = on_moto
        self._reasons: tuple[str, ...] = ()
        self._text = b""
        self._late: list[Callable[[], Any]] = []
        if isinstance(client, Lean):
            self._strike_lean(client)
        else:
            self._strike_boto3(client)

    def _strike_lean(self, client: Lean) -> None:
        lean, connections = client.lean, client.lean._connections
        url = getattr(connections, "url", "http://store")
        exchange = connections.exchange

        def struck(headers: Mapping[str, str], body: bytes, seconds: float) -> Answer:
            operation = headers["X-Amz-Target"].partition(".")[2]
            request = prepared(url, dict(headers), body)
            try:
                answered = self._send(
                    f"before-send.{client.service}.{operation}",
                    request,
                    lambda: exchange(headers, body, seconds),
                )
            except botocore.exceptions.BotoCoreError as problem:
                raise lost(problem) from problem
            return answered if isinstance(answered, Answer) else read(answered)

        connections.exchange = struck  # type: ignore[method-assign,assignment]
        # Many faults would use it up.
        lean._budget = Plenty()

    def _strike_boto3(self, client: Any) -> None:
        self._session = client._endpoint.http_session
        # Replaces moto, rather than running before it: botocore calls every handler of this event,
        # whatever the first one answers.
        client.meta.events.unregister("before-send", stubber)
        client.meta.events.register("before-send", self._send_by_boto3)
        # The SDK's retries are unchanged, except for their pauses and for the budget that many
        # faults would use up.
        self._tries: int = client.meta.config.retries["total_max_attempts"]
        client.meta.events.register_first("needs-retry.*", self._repeat_at_once)

    def on(
        self, operation: str, kind: str, *, times: int = 1, skip: int = 0, text: str = ""
    ) -> None:
        """Makes the next requests of an operation fail in one way.

        There are as many failures as `times`, after the first `skip` requests. Only requests count
        whose body has the text.
        """
        self._text = text.encode()
        left = {"skip": skip, "times": times}

        def plan(name: str, number: int) -> str | None:
            if name != operation:
                return None
            if left["skip"]:
                left["skip"] -= 1
                return None
            if not left["times"]:
                return None
            left["times"] -= 1
            return kind

        self.plan = plan

    def cancel(self, *reasons: str) -> None:
        """Cancels the next transaction for these reasons, one for each of its writes.

        Nothing of it is written.
        """
        self.on("TransactWriteItems", "cancel")
        self._reasons = reasons

    def arrive(self) -> None:
        """Lets those requests take effect now that seemed lost."""
        late, self._late = self._late, []
        for send in late:
            send()

    def refuse(self, operation: str, code: str) -> None:
        """Refuses every request of an operation with an error of this code, without effect."""
        self.plan = lambda name, number: code if name == operation else None

    def _send_by_boto3(self, event_name: str, request: Any, **_: Any) -> Any:
        return self._send(event_name, request, lambda: self._forward(event_name, request))

    def _send(self, event_name: str, request: Any, forward: Callable[[], Any]) -> Any:
        operation = event_name.rsplit(".", 1)[1]
        self.requests.append(operation)
        # Without a body, and without a text, a request counts.
        counts = self._text in (request.body or b"")
        kind = self.plan(operation, len(self.requests)) if counts else None
        if kind is None:
            return forward()
        if kind == "before":
            raise botocore.exceptions.ConnectionClosedError(endpoint_url=request.url)
        if kind == "after":
            forward()
            raise botocore.exceptions.ReadTimeoutError(endpoint_url=request.url)
        if kind == "late":
            self._late.append(forward)
            raise botocore.exceptions.ReadTimeoutError(endpoint_url=request.url)
        if kind == "kill":
            raise Killed
        if kind == "kill after":
            forward()
            raise Killed
        if kind == "conflict":
            assert operation in MEETING, f"{operation} meets no transaction"
            if operation == "BatchExecuteStatement":
                return _refused_statements(request)
            kind = self._conflict(operation, request)
        if kind == "cancel":
            reasons = [{"Code": code, "Message": "injected"} for code in self._reasons]
            return _refusal(
                request,
                400,
                "TransactionCanceledException",
                json.dumps({"CancellationReasons": reasons}),
            )
        return _problem(request, kind)

    def _conflict(self, operation: str, request: Any) -> str:
        """Returns what a request that meets a transaction gets; a transaction gets its reasons."""
        if operation != "TransactWriteItems":
            return "TransactionConflictException"
        count = len(json.loads(request.body)["TransactItems"])
        hit = self.pick(count)
        self._reasons = tuple(
            "TransactionConflict" if index == hit else "None" for index in range(count)
        )
        return "cancel"

    def _repeat_at_once(
        self, attempts: int, response: Any, caught_exception: Any, **_: Any
    ) -> int | None:
        is_passing = (
            caught_exception is not None
            or response[0].status_code >= 500
            or "ThroughputExceeded" in str(response[1].get("Error"))
        )
        return 0 if is_passing and attempts < self._tries else None

    def _forward(self, event_name: str, request: Any) -> Any:
        return stubber(event_name, request) if self._on_moto else self._session.send(request)


_REFUSALS = {
    "throttle": (400, "ProvisionedThroughputExceededException", "{}"),
    "error": (500, "InternalServerError", "{}"),
}


def _refused_statements(request: Any) -> Any:
    """Returns the answer to a batch each of whose statements met a transaction."""
    error = {"Error": {"Code": "TransactionConflict", "Message": "injected"}}
    count = len(json.loads(request.body)["Statements"])
    return _answer(request, 200, json.dumps({"Responses": [error] * count}))


def _problem(request: Any, kind: str) -> Any:
    if kind == "damaged":
        return _answer(request, 200, "<html>")
    return _refusal(request, *_REFUSALS.get(kind, (400, kind, "{}")))


def _refusal(request: Any, status: int, code: str, body: str) -> Any:
    text = (
        body[:-1]
        + (", " if len(body) > 2 else "")
        + f'"__type": "com.amazonaws.dynamodb.v20120810#{code}", "message": "injected"}}'
    )
    return _answer(request, status, text)


def _answer(request: Any, status: int, text: str) -> Any:
    headers = {"x-amzn-requestid": "injected", "Content-Type": "application/x-amz-json-1.0"}

    class Raw:
        def stream(self, **_: Any) -> Any:
            yield text.encode()

    return botocore.awsrequest.AWSResponse(
        request.url,
        status,
        headers,  # type: ignore[arg-type]
        Raw(),  # only the body is read
    )
