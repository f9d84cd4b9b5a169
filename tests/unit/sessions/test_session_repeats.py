"""A transaction's token: a write that is retried, or arrives late, counts once.

This holds even if another writer wrote in between. These tests run on the emulator, which keeps
tokens as DynamoDB does; moto has no tokens.
"""

from itertools import count
from typing import Any

import pytest
from mayfly import sessions
from mayfly.sessions.errors import SessionNotFound

from tests.conftest import make_tables
from tests.support.clients import make_client
from tests.support.faults import Faults
from tests.support.sessions import Sessions

_NUMBERS = count()


@pytest.fixture
def table(embedded: Any) -> str:
    return make_tables(embedded, f"repeats-{next(_NUMBERS)}-")["SessionsTable"]


@pytest.fixture
def store(embedded: Any, table: str) -> Sessions:
    return Sessions(embedded, table)


@pytest.fixture
def faults(embedded: Any) -> Faults:
    return Faults(embedded, on_moto=False)


@pytest.mark.parametrize("subject", [None, "ada"])
def test_late_copy_of_a_creation_restores_no_session(
    store: Sessions, faults: Faults, subject: str | None
) -> None:
    faults.on("TransactWriteItems", "late")
    token, _ = sessions.create(store, tenant="acme", subject=subject)
    sessions.end(store, token, tenant="acme")
    faults.arrive()
    with pytest.raises(SessionNotFound):
        sessions.read(store, token, tenant="acme")


@pytest.mark.parametrize("subject", [None, "ada"])
def test_change_whose_answer_is_lost_counts_once_even_if_another_follows(
    store: Sessions, table: str, faults: Faults, subject: str | None
) -> None:
    token, _ = sessions.create(store, tenant="acme", subject=subject, data={"n": 0})
    other = Sessions(make_client("dynamodb"), table, prefix="other")
    counts = {"writes": 0}

    def plan(operation: str, number: int) -> str | None:
        if operation != "TransactWriteItems":
            return None
        counts["writes"] += 1
        if counts["writes"] == 1:
            return "after"
        if counts["writes"] == 2:  # before the SDK's retry arrives
            sessions.change(other, token, lambda data: {"n": data["n"] + 1}, tenant="acme")
        return None

    faults.plan = plan
    sessions.change(store, token, lambda data: {"n": data["n"] + 1}, tenant="acme")
    assert counts["writes"] == 2
    assert sessions.read(store, token, tenant="acme").data == {"n": 2}
