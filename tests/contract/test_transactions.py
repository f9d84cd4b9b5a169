"""Requests that meet a transaction get DynamoDB's answers, from a real emulator with two clients.

"Transaction conflict handling in DynamoDB", and the errors in the API's model:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html
"""

import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import requests
from botocore.exceptions import ClientError
from mayfly.aws.errors import Refused
from mayfly.core.clock import system_clock
from mayfly.core.ids import new_nonce

from mayfly_local.emulator.clients import Clients
from mayfly_local.emulator.ttl import Reaper
from mayfly_local.iam.credentials import FOREIGN, Credentials
from mayfly_local.logs import Logs
from mayfly_testing.stack import emulator, wait_until
from tests.support.clients import make_client

MESSAGE: Final = "Transaction is ongoing for the item"
#: Milliseconds of a transaction that lasts until the test ends it.
LONG: Final = 10_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Clients, Clients]]:
    """Two clients of an emulator of this module's own."""
    with emulator(tmp_path_factory.mktemp("transactions")) as endpoint:
        clients = Clients(endpoint), Clients(endpoint)
        yield clients
        for each in clients:
            each.close()


class Table:
    """A table with two clients, and the control of its store."""

    def __init__(self, clients: tuple[Clients, Clients]) -> None:
        self.endpoint = clients[0].endpoint
        self.name = f"t-{new_nonce()}"
        self.first, self.second = (each.get("dynamodb") for each in clients)
        self.first.create_table(
            TableName=self.name,
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "N"},
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        for name in ("held", "free"):
            self.first.put_item(TableName=self.name, Item=self.key(name))

    def key(self, name: str) -> dict[str, Any]:
        return {"pk": {"S": name}, "sk": {"N": "1"}}

    def entry(self, kind: str, name: str, **more: Any) -> dict[str, Any]:
        """Returns an entry of a transaction."""
        item = {"Item" if kind == "Put" else "Key": self.key(name)}
        return {kind: {"TableName": self.name, **item, **more}}

    def statement(self, name: str, text: str = 'UPDATE "{}" SET n = 7 WHERE {}') -> dict[str, Any]:
        """Returns a statement about an item."""
        where = "{'pk': ?, 'sk': ?}" if text.startswith("INSERT") else "pk = ? AND sk = ?"
        return {
            "Statement": text.format(self.name, where),
            "Parameters": [*self.key(name).values()],
        }

    def item(self, name: str) -> dict[str, Any]:
        """Returns an item, or an empty one."""
        found: dict[str, Any] = self.second.get_item(
            TableName=self.name, Key=self.key(name), ConsistentRead=True
        ).get("Item", {})
        return found

    def control(self, path: str, body: Any = None, key: str = "people") -> requests.Response:
        return requests.request(
            "GET" if body is None else "POST", f"{self.endpoint}/_mayfly/{path}", json=body,
            headers={"Authorization": f"Bearer {key}"}, timeout=10,
        )  # fmt: skip

    def report(self) -> dict[str, Any]:
        report: dict[str, Any] = self.control("transactions").json()
        return report

    @contextmanager
    def transaction(
        self, *entries: dict[str, Any], token: str | None = None
    ) -> Iterator[Callable[[], Any]]:
        """Runs a transaction of the first client until the end of the block.

        The block gets a function that ends it before, and returns its answer or its error.
        """
        more = {} if token is None else {"ClientRequestToken": token}
        outcome: list[Any] = []

        def run() -> None:
            try:
                outcome.append(self.first.transact_write_items(TransactItems=[*entries], **more))
            except ClientError as problem:
                outcome.append(problem)

        def end() -> Any:
            self.set_time(0)
            thread.join(30)
            return outcome[0]

        self.set_time(LONG)
        thread = threading.Thread(target=run)
        thread.start()
        try:
            wait_until(lambda: self.report()["held"], 10, what="the transaction")
            yield end
        finally:
            end()

    def set_time(self, milliseconds: int) -> None:
        """Sets the time of transactions, and ends those in progress."""
        assert self.control("transactions", {"milliseconds": milliseconds}).ok


@pytest.fixture
def table(store: tuple[Clients, Clients]) -> Table:
    """A table in a store whose transactions are instantaneous, until a test sets their time."""
    return Table(store)


def refusal(call: Callable[[], Any]) -> Any:
    """Returns the answer of a refused call."""
    with pytest.raises(ClientError) as problem:
        call()
    answer: Any = problem.value.response
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert answer["ResponseMetadata"]["RetryAttempts"] == 0  # SDKs do not retry it.
    return answer


PLAIN_WRITES: Final[dict[str, Callable[[Table, str], Any]]] = {
    "PutItem": lambda t, name: t.second.put_item(TableName=t.name, Item=t.key(name)),
    "PutItem with a number in another form": lambda t, name: t.second.put_item(
        TableName=t.name, Item={**t.key(name), "sk": {"N": "1.0"}}
    ),
    "UpdateItem": lambda t, name: t.second.update_item(
        TableName=t.name, Key=t.key(name), UpdateExpression="SET n = :n",
        ExpressionAttributeValues={":n": {"N": "1"}},
    ),
    "UpdateItem by the table's ARN": lambda t, name: t.second.update_item(
        TableName=f"arn:aws:dynamodb:us-east-1:000000000000:table/{t.name}", Key=t.key(name),
    ),
    "UpdateItem whose condition is false": lambda t, name: t.second.update_item(
        TableName=t.name, Key=t.key(name), ConditionExpression="attribute_not_exists(pk)",
    ),
    "DeleteItem": lambda t, name: t.second.delete_item(TableName=t.name, Key=t.key(name)),
    "ExecuteStatement, UPDATE": lambda t, name: t.second.execute_statement(**t.statement(name)),
    "ExecuteStatement, INSERT": lambda t, name: t.second.execute_statement(
        **t.statement(name, 'INSERT INTO "{}" VALUE {}')
    ),
    "ExecuteStatement, DELETE": lambda t, name: t.second.execute_statement(
        **t.statement(name, 'DELETE FROM "{}" WHERE {}')
    ),
}  # fmt: skip
#: Those that fail in any case once the item is free, with their errors.
_FAILS: Final = {
    "UpdateItem whose condition is false": "ConditionalCheckFailedException",
    "ExecuteStatement, INSERT": "DuplicateItemException",
}


@pytest.mark.parametrize("kind", ["Put", "Update", "Delete", "ConditionCheck"])
@pytest.mark.parametrize("name", PLAIN_WRITES)
def test_plain_write_of_an_item_in_a_transaction_is_refused(
    table: Table, name: str, kind: str
) -> None:
    more = {"ConditionExpression": "attribute_exists(pk)"} if kind == "ConditionCheck" else {}
    with table.transaction(table.entry(kind, "held", **more)):
        before = table.item("held")
        answer = refusal(lambda: PLAIN_WRITES[name](table, "held"))
        assert table.item("held") == before
    assert answer["Error"] == {"Code": "TransactionConflictException", "Message": MESSAGE}


@pytest.mark.parametrize("name", PLAIN_WRITES)
def test_plain_write_succeeds_after_the_transaction_and_next_to_it(table: Table, name: str) -> None:
    with table.transaction(table.entry("Update", "held")) as end:
        attempt(table, name, "free")
        assert end()["ResponseMetadata"]["HTTPStatusCode"] == 200
        attempt(table, name, "held")


def attempt(table: Table, name: str, item: str) -> None:
    """Makes a write whose item is free."""
    try:
        PLAIN_WRITES[name](table, item)
    except ClientError as problem:
        assert problem.response["Error"]["Code"] == _FAILS[name]
    else:
        assert name not in _FAILS


READS: Final[dict[str, Callable[[Table], Any]]] = {
    "GetItem": lambda t: t.second.get_item(
        TableName=t.name, Key=t.key("held"), ConsistentRead=True
    )["Item"],
    "BatchGetItem": lambda t: t.second.batch_get_item(
        RequestItems={t.name: {"Keys": [t.key("held")], "ConsistentRead": True}}
    )["Responses"][t.name][0],
    "Query": lambda t: t.second.query(
        TableName=t.name, KeyConditionExpression="pk = :pk", ConsistentRead=True,
        ExpressionAttributeValues={":pk": {"S": "held"}},
    )["Items"][0],
    "Scan": lambda t: next(
        item
        for item in t.second.scan(TableName=t.name, ConsistentRead=True)["Items"]
        if item["pk"] == {"S": "held"}
    ),
    "ExecuteStatement, SELECT": lambda t: t.second.execute_statement(
        **t.statement("held", 'SELECT * FROM "{}" WHERE {}')
    )["Items"][0],
    "BatchExecuteStatement, SELECT": lambda t: t.second.batch_execute_statement(
        Statements=[t.statement("held", 'SELECT * FROM "{}" WHERE {}')]
    )["Responses"][0]["Item"],
}  # fmt: skip


@pytest.mark.parametrize("name", READS)
def test_plain_read_of_an_item_in_a_transaction_is_answered(table: Table, name: str) -> None:
    with table.transaction(table.entry("Update", "held")):
        assert table.key("held").items() <= READS[name](table).items()


def entries(table: Table, *names: str) -> list[dict[str, Any]]:
    return [table.entry("Update", name) for name in names]


TRANSACTIONS: Final[dict[str, Callable[[Table, tuple[str, ...]], Any]]] = {
    "TransactWriteItems": lambda t, names: t.second.transact_write_items(
        TransactItems=entries(t, *names)
    ),
    "TransactWriteItems, ConditionCheck": lambda t, names: t.second.transact_write_items(
        TransactItems=[
            t.entry("ConditionCheck", name, ConditionExpression="attribute_exists(pk)")
            for name in names
        ]
    ),
    "TransactGetItems": lambda t, names: t.second.transact_get_items(
        TransactItems=[t.entry("Get", name) for name in names]
    ),
    "ExecuteTransaction, UPDATE": lambda t, names: t.second.execute_transaction(
        TransactStatements=[t.statement(name) for name in names]
    ),
    "ExecuteTransaction, SELECT": lambda t, names: t.second.execute_transaction(
        TransactStatements=[t.statement(name, 'SELECT * FROM "{}" WHERE {}') for name in names]
    ),
}


@pytest.mark.parametrize("name", TRANSACTIONS)
@pytest.mark.parametrize(
    ("names", "codes"),
    [
        (("free", "held"), ["None", "TransactionConflict"]),
        (("held", "other", "free"), ["TransactionConflict", "None", "None"]),
        (("held",), ["TransactionConflict"]),
    ],
    ids=["second of two", "first of three", "only one"],
)
def test_transaction_that_meets_another_is_cancelled_with_a_reason_for_each_item(
    table: Table, name: str, names: tuple[str, ...], codes: list[str]
) -> None:
    table.first.put_item(TableName=table.name, Item=table.key("other"))
    with table.transaction(table.entry("Update", "held")) as end:
        answer = refusal(lambda: TRANSACTIONS[name](table, names))
        assert "n" not in table.item("free")
        end()
        TRANSACTIONS[name](table, names)
    assert answer["Error"]["Code"] == "TransactionCanceledException"
    assert answer["Error"]["Message"] == (
        "Transaction cancelled, please refer cancellation reasons for specific reasons "
        f"[{', '.join(codes)}]"
    )
    assert answer["CancellationReasons"] == [
        {"Code": code, **({"Message": MESSAGE} if code != "None" else {})} for code in codes
    ]


def test_every_item_of_a_transaction_is_held_and_every_reason_named(table: Table) -> None:
    with table.transaction(*entries(table, "held", "free")):
        assert table.report()["held"] == 2
        answer = refusal(lambda: TRANSACTIONS["TransactWriteItems"](table, ("held", "free")))
    codes = [reason["Code"] for reason in answer["CancellationReasons"]]
    assert codes == ["TransactionConflict"] * 2


@pytest.mark.parametrize("name", ["TransactGetItems", "ExecuteTransaction, SELECT"])
def test_transaction_of_reads_holds_nothing(table: Table, name: str) -> None:
    table.set_time(LONG)
    try:
        TRANSACTIONS[name](table, ("held",))  # It would take ten seconds.
        assert table.report()["held"] == 0
    finally:
        table.set_time(0)


def test_statements_of_a_batch_that_meet_a_transaction_name_it_and_the_others_run(
    table: Table,
) -> None:
    names = ("held", "free", "held", "free")
    statements = [table.statement(name, f'UPDATE "{{}}" SET n{place} = 7 WHERE {{}}')
                  for place, name in enumerate(names)]  # fmt: skip
    conflict = {"Error": {"Code": "TransactionConflict", "Message": MESSAGE}}
    with table.transaction(table.entry("Update", "held")) as end:
        answer = table.second.batch_execute_statement(Statements=statements)
        done = {"TableName": table.name}
        assert answer["Responses"] == [conflict, done, conflict, done]
        only = table.second.batch_execute_statement(Statements=statements[:1])
        assert only["Responses"] == [conflict]
        assert table.item("held") == table.key("held")
        assert {"n1", "n3"} < table.item("free").keys()
        end()
        again = table.second.batch_execute_statement(Statements=statements)
    assert again["Responses"] == [done] * 4


def test_writes_of_a_batch_that_meet_a_transaction_are_unprocessed_and_the_others_done(
    table: Table,
) -> None:
    held = {"DeleteRequest": {"Key": table.key("held")}}
    free = {"PutRequest": {"Item": {**table.key("free"), "n": {"N": "1"}}}}
    with table.transaction(table.entry("Update", "held")) as end:
        answer = table.second.batch_write_item(RequestItems={table.name: [held, free]})
        assert answer["UnprocessedItems"] == {table.name: [held]}
        assert table.item("free")["n"] == {"N": "1"}
        only = table.second.batch_write_item(RequestItems={table.name: [held]})
        assert only["UnprocessedItems"] == {table.name: [held]}
        assert table.item("held")
        end()
        again = table.second.batch_write_item(RequestItems={table.name: [held]})
    assert again["UnprocessedItems"] == {}
    assert table.item("held") == {}


def test_malformed_entry_of_a_batch_is_refused_as_without_a_transaction(table: Table) -> None:
    broken = {"PutRequest": {"Item": {"pk": {"S": "x"}}}}
    held = {"DeleteRequest": {"Key": table.key("held")}}
    with table.transaction(table.entry("Update", "held")):
        answer = refusal(
            lambda: table.second.batch_write_item(RequestItems={table.name: [held, broken]})
        )
    assert answer["Error"]["Code"] == "ValidationException"


# ---------------------------------------------------------------- tokens


def test_repeat_of_a_transaction_in_progress_is_refused_and_then_answered(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", table.endpoint)
    once = make_client("dynamodb", attempts=1)
    writes = entries(table, "held")
    request = {"TransactItems": writes, "ClientRequestToken": "token"}
    with table.transaction(*writes, token="token") as end:
        with pytest.raises(Refused, match="TransactionInProgressException"):
            once.call("TransactWriteItems", request)
        end()
        once.call("TransactWriteItems", request)


def test_repeat_of_a_committed_transaction_is_answered_while_another_holds_its_items(
    table: Table,
) -> None:
    add = table.entry(
        "Update", "held", UpdateExpression="ADD n :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
    )  # fmt: skip
    request = {"TransactItems": [add], "ClientRequestToken": new_nonce()}
    table.second.transact_write_items(**request)
    with table.transaction(table.entry("Update", "held")):
        table.second.transact_write_items(**request)
        assert table.item("held")["n"] == {"N": "1"}


# ---------------------------------------------------------------- ends


def test_cancelled_transaction_lets_go(table: Table) -> None:
    condition = table.entry("Put", "held", ConditionExpression="attribute_not_exists(pk)")
    with table.transaction(condition) as end:
        assert refusal(lambda: PLAIN_WRITES["PutItem"](table, "held"))
        assert "ConditionalCheckFailed" in str(end())
        PLAIN_WRITES["PutItem"](table, "held")


def test_transaction_whose_client_is_gone_takes_effect_and_lets_go(table: Table) -> None:
    table.set_time(300)
    body = json.dumps({"TransactItems": [table.entry("Put", "new")]})
    host, port = table.endpoint.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(
            (
                f"POST / HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: {len(body)}\r\n"
                "Authorization: AWS4-HMAC-SHA256 Credential=people/20260101/us-east-1/dynamodb/"
                "aws4_request\r\nX-Amz-Target: DynamoDB_20120810.TransactWriteItems\r\n\r\n"
                f"{body}"
            ).encode()
        )
        wait_until(lambda: table.report()["held"], 10)
    wait_until(lambda: not table.report()["held"], 10)
    assert table.item("new")
    table.set_time(0)


def test_transaction_that_takes_no_time_meets_nothing(table: Table) -> None:
    before = table.report()
    assert before["milliseconds"] == 0
    with ThreadPoolExecutor(8) as threads:
        plain = [threads.submit(attempt, table, "PutItem", "held") for _ in range(50)]
        transact = TRANSACTIONS["TransactWriteItems"]
        whole = [threads.submit(transact, table, ("held", "free")) for _ in range(50)]
    for each in (*plain, *whole):
        each.result()
    assert table.report() == before


# ---------------------------------------------------------------- control


def test_report_counts_the_requests_that_met_a_transaction(table: Table) -> None:
    before = table.report()
    with table.transaction(table.entry("Update", "held")):
        for name in ("UpdateItem", "UpdateItem", "ExecuteStatement, UPDATE"):
            refusal(partial(PLAIN_WRITES[name], table, "held"))
        attempt(table, "UpdateItem", "free")
        during = table.report()
    assert during["milliseconds"] == LONG
    assert during["since"] == before["since"]
    assert during["met"].get("UpdateItem", 0) - before["met"].get("UpdateItem", 0) == 2
    assert during["met"]["ExecuteStatement"] - before["met"].get("ExecuteStatement", 0) == 1
    assert during["requested"] == before["requested"]


def test_requested_transaction_holds_the_items_of_a_request_for_its_time(table: Table) -> None:
    request = {"TransactItems": entries(table, "held", "free")}
    body = {"operation": "TransactWriteItems", "request": request, "milliseconds": 5_000}
    before = table.report()["requested"].get("PutItem", 0)
    assert table.control("hold", body).json() == {"items": 2}
    refusal(lambda: PLAIN_WRITES["PutItem"](table, "held"))
    refusal(lambda: PLAIN_WRITES["PutItem"](table, "free"))
    assert table.report()["requested"]["PutItem"] - before == 2
    # A shorter one takes its place.
    assert table.control("hold", {**body, "milliseconds": 1}).json() == {"items": 2}
    wait_until(lambda: not table.report()["held"], 3)
    PLAIN_WRITES["PutItem"](table, "held")


@pytest.mark.parametrize("operation", ["GetItem", "Query", "SendMessage"])
def test_requested_transaction_holds_nothing_of_a_request_that_meets_none(
    table: Table, operation: str
) -> None:
    request = {"TableName": table.name, "Key": table.key("held")}
    body = {"operation": operation, "request": request, "milliseconds": 5_000}
    assert table.control("hold", body).json() == {"items": 0}
    PLAIN_WRITES["PutItem"](table, "held")


@pytest.mark.parametrize(
    ("path", "body", "says"),
    [
        ("transactions", {}, "transactions needs milliseconds"),
        ("transactions", {"milliseconds": "20"}, "wrong type: milliseconds"),
        ("transactions", {"milliseconds": True}, "wrong type: milliseconds"),
        ("transactions", {"milliseconds": -1}, "from 0 to 10000"),
        ("transactions", {"milliseconds": 10_001}, "from 0 to 10000"),
        ("hold", {"operation": "PutItem"}, "hold needs operation, request, milliseconds"),
        ("hold", {"operation": "PutItem", "request": [], "milliseconds": 1}, "wrong type: request"),
        ("hold", {"operation": "PutItem", "request": {}, "milliseconds": -1}, "from 0 to 10000"),
    ],
)
def test_malformed_control_request_is_refused_with_what_is_wrong(
    table: Table, path: str, body: Any, says: str
) -> None:
    answer = table.control(path, body)
    assert answer.status_code == 400
    assert says in answer.json()["message"]
    assert table.report()["milliseconds"] == 0


# ---------------------------------------------------------------- faults of functions


@pytest.fixture
def function(table: Table) -> Iterator[Any]:
    """A client of the function F, which may do everything."""
    made = Clients(table.endpoint, Credentials("key-of-F", "secret"))
    known = {"keys": {"key-of-F": {"function": "F", "secret": "secret"}}, "roles": {"F": None}}
    assert table.control("roles", known, key=FOREIGN.id).ok
    yield made.get("dynamodb")
    table.control("clear-faults", {})
    made.close()


#: Calls of a function by the actions that they need, with the code of their error.
STRUCK: Final[dict[str, tuple[Callable[[Any, Table], Any], str]]] = {
    "PutItem": (
        lambda f, t: f.put_item(TableName=t.name, Item=t.key("free")),
        "TransactionConflictException",
    ),
    "UpdateItem": (
        lambda f, t: f.update_item(TableName=t.name, Key=t.key("free")),
        "TransactionConflictException",
    ),
    "DeleteItem": (
        lambda f, t: f.delete_item(TableName=t.name, Key=t.key("free")),
        "TransactionConflictException",
    ),
    "ConditionCheckItem": (
        lambda f, t: f.transact_write_items(
            TransactItems=[
                t.entry("Update", "held"),
                t.entry("ConditionCheck", "free", ConditionExpression="attribute_exists(pk)"),
            ]
        ),
        "None, TransactionConflict",
    ),
    "PartiQLUpdate": (
        lambda f, t: f.execute_statement(**t.statement("free")),
        "TransactionConflictException",
    ),
}  # fmt: skip


@pytest.mark.parametrize("action", STRUCK)
def test_requested_conflict_is_answered_as_one_that_happens(
    table: Table, function: Any, action: str
) -> None:
    call, code = STRUCK[action]
    fault = {"function": "F", "action": f"dynamodb:{action}", "kind": "conflict", "times": 1}
    before = sum(table.report()["requested"].values())
    assert table.control("faults", fault).ok
    with pytest.raises(ClientError, match=code):
        call(function, table)
    assert sum(table.report()["requested"].values()) - before == 1
    wait_until(lambda: not table.report()["held"], 10)
    call(function, table)


def test_requested_conflict_strikes_one_statement_of_a_batch(table: Table, function: Any) -> None:
    fault = {"function": "F", "action": "dynamodb:PartiQLUpdate", "kind": "conflict", "times": 1}
    assert table.control("faults", fault).ok
    statements = [table.statement("held"), table.statement("free")]
    answer = function.batch_execute_statement(Statements=statements)["Responses"]
    assert answer[0]["Error"]["Code"] == "TransactionConflict"
    assert table.item("free")["n"] == {"N": "7"}
    assert "n" not in table.item("held")


def test_call_of_a_function_meets_a_real_transaction(table: Table, function: Any) -> None:
    with table.transaction(table.entry("Update", "held")):
        with pytest.raises(ClientError, match="TransactionConflictException"):
            function.put_item(TableName=table.name, Item=table.key("held"))
        assert function.get_item(TableName=table.name, Key=table.key("held"))["Item"]


def test_lost_answer_of_a_transaction_leaves_its_items_free(table: Table, function: Any) -> None:
    table.set_time(20)
    fault = {"function": "F", "action": "dynamodb:UpdateItem", "kind": "lose", "times": 1}
    assert table.control("faults", fault).ok
    add = table.entry(
        "Update", "held", UpdateExpression="ADD n :one",
        ExpressionAttributeValues={":one": {"N": "1"}},
    )  # fmt: skip
    function.transact_write_items(TransactItems=[add], ClientRequestToken=new_nonce())
    assert table.item("held")["n"] == {"N": "1"}
    table.set_time(0)


# ---------------------------------------------------------------- time to live


def test_expired_item_in_a_transaction_is_deleted_by_the_next_round(
    table: Table, tmp_path: Path
) -> None:
    expired = {"expires": {"N": str(system_clock() // 1000 - 60)}}
    table.first.put_item(TableName=table.name, Item={**table.key("held"), **expired})
    logs = Logs(tmp_path, form="json", out=io.StringIO())
    clients = Clients(table.endpoint)
    reaper = Reaper({table.name: "expires"}, clients, logs.of("ttl"), lag_seconds=0)
    with table.transaction(
        table.entry("ConditionCheck", "held", ConditionExpression="attribute_exists(pk)")
    ) as end:
        assert reaper.reap(table=table.name, attribute="expires") == 0
        end()
        assert reaper.reap(table=table.name, attribute="expires") == 1
    clients.close()
    logs.close()
