"""The clients of stores under test: boto3's, or the lean one, on moto or on a real endpoint.

A test runs its stores on the client that functions have, and looks at the tables by boto3's.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.compat import HTTPHeaders
from botocore.exceptions import BotoCoreError
from mayfly import resources
from mayfly.aws.connections import Answer
from mayfly.aws.dynamodb import DynamoDB
from mayfly.aws.endpoints import endpoint
from mayfly.aws.errors import Unanswered
from mayfly.aws.lean import LeanClient
from mayfly.resources import client

from tests.support.mocked import stubber

__all__ = ["LEAN_SERVICES", "Lean", "database", "make_client", "prepared", "read"]

#: Services that the lean client speaks to.
LEAN_SERVICES = ("dynamodb", "dynamodbstreams", "sqs", "ssm")


def make_client(service: str, *, attempts: int = 3) -> Any:
    """Returns a client made by the production code.

    It is the lean one, as in a function, unless MAYFLY_CLIENT says boto3.
    """
    if service not in LEAN_SERVICES or os.environ.get("MAYFLY_CLIENT") == "boto3":
        return client(service, attempts=attempts)
    return Lean(service, attempts)


@contextmanager
def database(*, attempts: int = 3) -> Iterator[DynamoDB]:
    """The adapter that production has, whose connections end with the block."""
    db = resources.dynamodb(attempts=attempts)
    try:
        yield db
    finally:
        made: Any = db._client
        (made if isinstance(made, LeanClient) else made._client).close()


class Lean:
    """The lean client, with `call`. Every other attribute is that of a boto3 client.

    A call emits boto3's events with the same arguments, for tests that act between two calls or
    change what one returns.
    """

    def __init__(self, service: str, attempts: int) -> None:
        self.service = service
        self._attempts = attempts
        #: Made when a test asks for it: it costs more than most tests.
        self._ordinary: Any = None
        self.lean = LeanClient(
            service, os.environ, pause=lambda seconds: None, share=lambda: 0.5, attempts=attempts
        )
        self.is_on_moto = "AWS_ENDPOINT_URL" not in os.environ
        if self.is_on_moto:
            self.lean._connections = Moto(endpoint(service, os.environ))  # type: ignore[assignment]

    def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Calls an operation by the lean client."""
        if self._ordinary is None:
            return self.lean.call(operation, request)
        model = self._ordinary.meta.service_model.operation_model(operation)
        name, params = f"{self.service}.{operation}", dict(request)
        emit = self._ordinary.meta.events.emit
        emit(f"provide-client-params.{name}", params=params, model=model, context={})
        sent = {"body": json.dumps(params, default=str).encode(), "headers": {}}
        emit(f"before-call.{name}", model=model, params=sent, request_signer=None, context={})
        answer = self.lean.call(operation, params)
        emit(f"after-call.{name}", http_response=None, parsed=answer, model=model, context={})
        return answer

    def __del__(self) -> None:
        """Closes the connections."""
        self.lean.close()
        if self._ordinary is not None:
            self._ordinary.close()

    def __getattr__(self, name: str) -> Any:
        if self._ordinary is None:
            self._ordinary = client(self.service, attempts=self._attempts)
        return getattr(self._ordinary, name)


class Moto:
    """Connections of the lean client that end at moto."""

    def __init__(self, url: str) -> None:
        self.url = f"{url.rstrip('/')}/"
        self.host = urlsplit(url).netloc

    def exchange(self, headers: dict[str, str], body: bytes, seconds: float = 1) -> Answer:
        """Returns moto's answer to a request."""
        answered = stubber("before-send", prepared(self.url, headers, body))
        assert answered is not None, "a test without moto asks AWS"
        return read(answered)

    def close(self) -> None:
        """Does nothing."""


def prepared(url: str, headers: dict[str, str], body: bytes) -> AWSPreparedRequest:
    """Returns a request of the lean client as botocore's."""
    named = HTTPHeaders()
    for name, value in headers.items():
        named[name] = value
    return AWSPreparedRequest("POST", url, named, body, stream_output=False)


def read(answered: AWSResponse) -> Answer:
    """Returns an answer to botocore as one to the lean client."""
    names = {name.lower(): str(value) for name, value in answered.headers.items()}
    return Answer(answered.status_code, names, answered.content)


def lost(problem: BotoCoreError) -> Unanswered:
    """Returns botocore's error as the lean client names it."""
    return Unanswered(type(problem).__name__)
