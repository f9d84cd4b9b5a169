"""Every store call of production code can be struck in all three places that make faults.

These are the guard in front of the emulator (`mayfly_local.iam`), the crash lab
(`mayfly_lab.worker`), and the double of unit tests (`tests.support.faults`). A conflict has the
same answer in each of them. A new call in an adapter fails here until it has a sample.
"""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import requests
from mayfly.aws.errors import Refused

from mayfly_lab.worker import FAULTS, _Request, _Seam
from mayfly_local.emulator.clients import Clients
from mayfly_local.iam.credentials import FOREIGN
from mayfly_local.iam.faults import KINDS, Faults
from mayfly_local.iam.items import WRITES
from mayfly_local.iam.requests import Request
from mayfly_testing.stack import emulator
from tests.conftest import ROOT, make_tables
from tests.support.clients import make_client
from tests.support.faults import MEETING
from tests.support.faults import Faults as Double

ADAPTERS: Final = ROOT / "layers/mayfly/mayfly/aws"
TABLE: Final = "CountersTable"
KEY: Final = {"pk": {"S": "acme/n"}, "sk": {"S": "shard/0"}}
_CONDITION: Final = {
    "KeyConditionExpression": "pk = :pk",
    "ExpressionAttributeValues": {":pk": KEY["pk"]},
}
_STATEMENT: Final = f'UPDATE "{TABLE}" SET "n" = 1 WHERE "pk" = ? AND "sk" = ?'
#: A request of each operation on tables.
ON_TABLES: Final[dict[str, dict[str, Any]]] = {
    "GetItem": {"TableName": TABLE, "Key": KEY},
    "BatchGetItem": {"RequestItems": {TABLE: {"Keys": [KEY]}}},
    "Query": {"TableName": TABLE, **_CONDITION},
    "Scan": {"TableName": TABLE},
    "PutItem": {"TableName": TABLE, "Item": KEY},
    "UpdateItem": {"TableName": TABLE, "Key": KEY},
    "DeleteItem": {"TableName": TABLE, "Key": KEY},
    "TransactWriteItems": {"TransactItems": [{"Put": {"TableName": TABLE, "Item": KEY}}]},
    "BatchExecuteStatement": {
        "Statements": [{"Statement": _STATEMENT, "Parameters": [KEY["pk"], KEY["sk"]]}]
    },
}
_QUEUE: Final = {"QueueUrl": "http://127.0.0.1/000000000000/jobs", "Entries": []}
_ITERATOR: Final = "eyJhcm4iOiAiYXJuOnN0cmVhbSJ9"
#: A request of each other operation, with its service.
ELSEWHERE: Final[dict[str, tuple[str, dict[str, Any]]]] = {
    "SendMessageBatch": ("sqs", _QUEUE),
    "ChangeMessageVisibilityBatch": ("sqs", _QUEUE),
    "GetShardIterator": ("dynamodb", {"StreamArn": "arn:stream"}),
    "GetRecords": ("dynamodb", {"ShardIterator": _ITERATOR}),
    "GetParameter": ("ssm", {"Name": "/a"}),
}


def calls_in(path: Path) -> set[str]:
    """Returns the operations that an adapter calls by `call` or its own `_call`."""
    return {
        argument.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("call", "_call")
        for argument in node.args
        if isinstance(argument, ast.Constant)
        and isinstance(argument.value, str)
        and argument.value[:1].isupper()
    }


def test_every_call_of_an_adapter_has_a_sample() -> None:
    assert calls_in(ADAPTERS / "dynamodb.py") == set(ON_TABLES)
    others = (calls_in(path) for path in ADAPTERS.glob("*.py") if path.name != "dynamodb.py")
    assert set().union(*others) == set(ELSEWHERE)


def as_sent(service: str, operation: str, arguments: Any) -> Request:
    headers = {"x-amz-target": f"Any.{operation}"}
    return Request(service, "POST", "/", {}, headers, json.dumps(arguments).encode())


def action_of(request: Request) -> str:
    (permission,) = request.permissions()
    return permission.action


@pytest.mark.parametrize("operation", [*ON_TABLES, *ELSEWHERE])
@pytest.mark.parametrize("kind", ["refuse", "lose", "silence", "throttle"])
def test_guard_strikes_every_call_with_every_fault(kind: str, operation: str) -> None:
    service, arguments = ELSEWHERE.get(operation) or ("dynamodb", ON_TABLES[operation])
    request, faults = as_sent(service, operation, arguments), Faults()
    faults.add({"function": "F", "action": action_of(request), "kind": kind, "times": 1})
    fault = faults.strike("F", request)
    assert fault is not None
    assert fault["kind"] == kind
    assert faults.strike("F", request) is None


def test_every_fault_of_the_guard_is_tried_here() -> None:
    assert set(KINDS) == {"refuse", "lose", "silence", "throttle", "conflict"}


# ---------------------------------------------------------------- conflicts


def seen(answer: Any) -> Any:
    """Returns what an answer says of conflicts: the code, or the codes of the entries."""
    if "Responses" in answer and isinstance(answer["Responses"], list):
        return [entry["Error"]["Code"] for entry in answer["Responses"] if "Error" in entry]
    if reasons := answer.get("CancellationReasons"):
        return ["TransactionCanceledException", *(reason["Code"] for reason in reasons)]
    return answer.get("__type", "done").rpartition("#")[2]


EXPECTED: Final = {
    "PutItem": "TransactionConflictException",
    "UpdateItem": "TransactionConflictException",
    "DeleteItem": "TransactionConflictException",
    "TransactWriteItems": ["TransactionCanceledException", "TransactionConflict"],
    "BatchExecuteStatement": ["TransactionConflict"],
}


def test_writes_meet_transactions_and_plain_reads_do_not() -> None:
    writes = {
        operation
        for operation, arguments in ON_TABLES.items()
        if action_of(as_sent("dynamodb", operation, arguments)) in WRITES
    }
    assert writes == set(MEETING) == set(EXPECTED)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An emulator with this application's tables."""
    with emulator(tmp_path_factory.mktemp("vocabulary")) as found:
        clients = Clients(found)
        make_tables(clients.get("dynamodb"), streams=False)
        yield found
        clients.close()


def control(endpoint: str, path: str, body: Any, key: str = "people") -> requests.Response:
    return requests.post(
        f"{endpoint}/_mayfly/{path}", json=body, headers={"Authorization": f"Bearer {key}"},
        timeout=10,
    )  # fmt: skip


def send(endpoint: str, operation: str, key: str) -> Any:
    """Sends the sample of an operation once, and returns the answer."""
    scope = f"{key}/20260101/us-east-1/dynamodb/aws4_request"
    headers = {
        "X-Amz-Target": f"DynamoDB_20120810.{operation}",
        "Authorization": f"AWS4-HMAC-SHA256 Credential={scope}",
    }
    body = json.dumps(ON_TABLES[operation])
    return requests.post(endpoint, data=body, headers=headers, timeout=10).json()


def by_guard(endpoint: str, operation: str, kind: str = "conflict") -> Any:
    known = {"keys": {"key-of-F": {"function": "F", "secret": "secret"}}, "roles": {"F": None}}
    assert control(endpoint, "roles", known, FOREIGN.id).ok
    action = action_of(as_sent("dynamodb", operation, ON_TABLES[operation]))
    fault = {"function": "F", "action": action, "kind": kind, "times": 1}
    assert control(endpoint, "faults", fault).ok is (kind != "conflict" or action in WRITES)
    return send(endpoint, operation, "key-of-F")


def by_lab(endpoint: str, operation: str, folder: Path, fault: str = "conflict") -> Any:
    seam = _Seam(fault, 1, folder / "calls")
    request = _Request(
        f"DynamoDB_20120810.{operation}", object(), lambda: send(endpoint, operation, "people"),
        Unanswered("lost"), Unanswered("closed"), json.loads,
        json.dumps(ON_TABLES[operation]).encode(),
    )  # fmt: skip
    return seam.send(request)


class Unanswered(Exception):
    """The failure of a call that gets no answer."""


def by_double(operation: str) -> Any:
    client = make_client("dynamodb")
    Double(client).on(operation, "conflict")
    try:
        return client.call(operation, ON_TABLES[operation])
    except Refused as refusal:
        return {"__type": f"#{refusal.code}", **refusal.answer}


@pytest.mark.parametrize("operation", ON_TABLES)
def test_conflict_of_the_guard_has_the_answer_of_the_call(endpoint: str, operation: str) -> None:
    control(endpoint, "transactions", {"milliseconds": 0})  # Ends what the last test has held.
    assert seen(by_guard(endpoint, operation)) == EXPECTED.get(operation, "done")


@pytest.mark.parametrize("operation", ON_TABLES)
def test_throttle_of_the_guard_has_the_answer_of_the_lab(
    endpoint: str, operation: str, tmp_path: Path
) -> None:
    throttled = "ProvisionedThroughputExceededException"
    assert seen(by_guard(endpoint, operation, "throttle")) == throttled
    assert seen(by_lab(endpoint, operation, tmp_path, "throttle")) == throttled


@pytest.mark.parametrize("operation", ON_TABLES)
def test_conflict_of_the_lab_has_the_answer_of_the_call(
    endpoint: str, operation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", FOREIGN.id)
    control(endpoint, "transactions", {"milliseconds": 0})
    assert seen(by_lab(endpoint, operation, tmp_path)) == EXPECTED.get(operation, "done")


@pytest.mark.parametrize("operation", ON_TABLES)
def test_conflict_of_the_double_has_the_answer_of_the_call(
    tables: dict[str, str], operation: str
) -> None:
    if operation in MEETING:
        assert seen(by_double(operation)) == EXPECTED[operation]
    else:
        with pytest.raises(AssertionError, match="meets no transaction"):
            by_double(operation)


#: Faults of the lab that end or stop the process: `tests/integration/test_crash.py` has them.
ENDING: Final = ("before", "after", "pause")


@pytest.mark.parametrize("operation", ON_TABLES)
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in (*ENDING, "conflict")])
def test_lab_strikes_every_call_with_every_fault(
    endpoint: str, operation: str, fault: str, tmp_path: Path
) -> None:
    if fault == "throttle":
        answer = by_lab(endpoint, operation, tmp_path, fault)
        assert seen(answer) == "ProvisionedThroughputExceededException"
    else:
        with pytest.raises(Unanswered, match="lost"):
            by_lab(endpoint, operation, tmp_path, fault)
    assert (tmp_path / "calls").read_text() == "1"
