"""Small templates of the kinds that people have: what to ask their stack, and how to compare it."""

import json
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import requests
from botocore.exceptions import ClientError
from mayfly.core.clock import rfc3339, system_clock

from mayfly_testing.stack import MAYFLY, Stack, wait_until

__all__ = [
    "ABSENT",
    "Act",
    "Shape",
    "answered_key",
    "ask",
    "call",
    "differences",
    "every",
    "noted",
    "received",
    "send",
    "soon",
    "then",
    "token",
]

#: Does something with a running stack, and returns what came of it as JSON values.
Act = Callable[[Stack], Any]
#: In place of an expected value: the key must not be there.
ABSENT: Final = object()


@dataclass(frozen=True)
class Shape:
    """A template's case: the act on its stack, and the answer that AWS documents.

    `page` is the page of AWS that says so. `answer` is compared by `differences`.
    """

    page: str
    act: Act
    answer: Any
    options: Callable[[], tuple[str, ...]] = tuple


def differences(expected: Any, actual: Any, where: str = "answer") -> list[str]:
    """Returns what of an expected value is otherwise, one text for each difference.

    A dictionary is compared by the keys that are expected. An ellipsis is equal to any value, and a
    pattern to a text that it matches. A key that is expected to be `ABSENT` must be missing.
    """
    if expected is ...:
        return []
    if isinstance(expected, re.Pattern):
        is_equal = isinstance(actual, str) and expected.fullmatch(actual) is not None
    elif isinstance(expected, dict) and isinstance(actual, Mapping):
        found = []
        for key, value in expected.items():
            if value is ABSENT:
                found += [f"{where}.{key} is there"] if key in actual else []
            elif key not in actual:
                found += [f"{where}.{key} is not there"]
            else:
                found += differences(value, actual[key], f"{where}.{key}")
        return found
    elif isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        pairs = enumerate(zip(expected, actual, strict=True))
        return [
            text
            for index, (value, other) in pairs
            for text in differences(value, other, f"{where}[{index}]")
        ]
    else:
        is_equal = type(expected) is type(actual) and expected == actual
    return [] if is_equal else [f"{where} is {actual!r}, not {expected!r}"]


# ---------------------------------------------------------------- acts


def ask(path: str, method: str = "GET", **options: Any) -> Act:
    """Sends a request to the first API: status, headers and body, which may be JSON."""

    def act(stack: Stack) -> dict[str, Any]:
        url = next(iter(stack.facts["apis"].values())).rstrip("/")
        reply = requests.request(method, url + path, timeout=60, **options)
        try:
            body = reply.json()
        except ValueError:
            body = reply.text
        return {"status": reply.status_code, "headers": reply.headers, "body": body}

    return act


def answered_key(path: str) -> Act:
    """Sends a request with the API key that the start has printed."""

    def act(stack: Stack) -> Any:
        (key,) = re.findall(r"API key\s+(\S+)", stack.output)
        return ask(path, headers={"x-api-key": key})(stack)

    return act


def token(path: str, *options: str) -> Act:
    """Sends a request with a token of the local issuer."""

    def act(stack: Stack) -> Any:
        command = [str(MAYFLY), "token", "--as", "ada", "--work", str(stack.work), *options]
        printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return ask(path, headers={"Authorization": f"Bearer {printed.strip()}"})(stack)

    return act


def call(function: str, event: Any = None, **options: Any) -> Act:
    """Invokes a function and returns its payload, or the code of the error."""

    def act(stack: Stack) -> Any:
        try:
            reply = stack.client("lambda").invoke(
                FunctionName=function, Payload=json.dumps(event), **options
            )
        except ClientError as refusal:
            return {"error": dict(refusal.response["Error"])}
        return json.loads(reply["Payload"].read() or b"null")

    return act


def send(service: str, operation: str, **arguments: Any) -> Act:
    """Calls an operation of a service. In arguments, `{Name}` is the id of the resource `Name`."""

    def act(stack: Stack) -> Any:
        ids = stack.facts["resources"]

        def filled(value: Any) -> Any:
            if isinstance(value, str):
                return re.sub(r"\{(\w+)\}", lambda match: ids.get(match[1], match[0]), value)
            if isinstance(value, list):
                return [filled(item) for item in value]
            return value

        made = {name: filled(value) for name, value in arguments.items()}
        answer = getattr(stack.client(service), operation)(**made)
        return {name: value for name, value in answer.items() if name != "ResponseMetadata"}

    return act


def noted(function: str, count: int = 1, *, seconds: float = 20) -> Act:
    """Waits until a function has printed `count` JSON texts at least, and returns all of them."""

    def act(stack: Stack) -> list[Any]:
        def printed() -> list[Any]:
            entries = [entry for entry in stack.log(function) if entry["type"] == "function"]
            return [entry["record"] for entry in entries if "record" in entry]

        wait_until(lambda: len(printed()) >= count, seconds, what=f"{count} events of {function}")
        return printed()

    return act


def received(queue: str, *, seconds: float = 20) -> Act:
    """Waits for a message of a queue: its attributes, and its body, which may be JSON.

    The name of the queue's resource begins with `queue`.
    """

    def act(stack: Stack) -> Any:
        resources = stack.facts["resources"].items()
        (url,) = [url for name, url in resources if name.startswith(queue) and "://" in url]

        def found() -> Any:
            reply = stack.client("sqs").receive_message(
                QueueUrl=url, WaitTimeSeconds=1, MessageAttributeNames=["All"]
            )
            return reply.get("Messages")

        message = (wait_until(found, seconds, what=f"a message of {queue}") or [{}])[0]
        try:
            body = json.loads(message["Body"])
        except ValueError:
            body = message["Body"]
        attributes = {
            name: value["StringValue"]
            for name, value in message.get("MessageAttributes", {}).items()
        }
        return {"body": body, "attributes": attributes}

    return act


def then(*acts: Act) -> Act:
    """Does one after the other, and returns what came of the last one."""

    def act(stack: Stack) -> Any:
        return [single(stack) for single in acts][-1]

    return act


def every(**acts: Act) -> Act:
    """Does one after the other, and returns what came of each by its name."""
    return lambda stack: {name: single(stack) for name, single in acts.items()}


def soon() -> str:
    """Returns the time in 45 seconds, when the stack is up, as schedules write it, in UTC."""
    return rfc3339(system_clock() + 45_000).partition(".")[0]
