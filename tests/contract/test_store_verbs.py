"""Outcomes of each store's verbs if a request meets a conflict or a failure.

`docs/errors.md` has the table; `pytest -s` prints it as it is measured.
"""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

import mayfly
import pytest
from mayfly.core.errors import StoreUnavailable

from tests.conftest import ROOT, make_tables
from tests.support.clients import make_client
from tests.support.store_verbs import FAULTS, VERBS, Act, Tables, Verb, World

#: Public methods that send nothing.
WITHOUT_REQUEST: Final = {
    "Endpoints.key",
    "JobStore.completion",
    "JobStore.completion_unclaimed",
    "JobStore.puts",
    "SessionStore.partition",
    "SessionStore.pause",
}
#: They send what a store gives them, and have no callers but a store.
INSIDE: Final = {"GroupCommit"}
#: Requests that meet the fault if it lasts. No verb tries as often.
ALWAYS: Final = 10_000
LASTS: Final = "throttled for ever"


def verbs_in_the_code() -> set[str]:
    """Returns the public methods of all classes of the library that send requests to DynamoDB."""
    verbs = set()
    for module in pkgutil.walk_packages(mayfly.__path__, "mayfly."):
        if module.name.startswith("mayfly.aws."):
            continue
        for name, made in vars(importlib.import_module(module.name)).items():
            # Not `inspect.isclass`, which asks for `__class__`: Django's settings would be set up.
            if not issubclass(type(made), type):
                continue
            is_here = made.__module__ == module.name and name not in INSIDE
            if is_here and re.search(
                r"(self\._db|self\.db|self\._adds|self\._repeats\(\)|store\.db)\.",
                inspect.getsource(made),
            ):
                verbs |= {
                    f"{name}.{method}"
                    for method, _ in inspect.getmembers(made, inspect.isfunction)
                    if not method.startswith("_")
                }
    return verbs


def test_every_verb_of_every_store_has_a_row() -> None:
    assert verbs_in_the_code() == set(VERBS) | WITHOUT_REQUEST


class Cells:
    """Outcomes of one verb, column by column."""

    def __init__(self, tables: Tables, verb: Verb) -> None:
        self._tables = tables
        self._verb = verb
        with self._ready() as (clean, act):
            self._wanted = clean.plain(repr(act()))
            self._sent = clean.requests()
            self._items = clean.items()
            with suppress(Exception):  # Most verbs refuse to be called twice.
                act()
            self._twice = clean.items()

    def seen(self, column: str, *, times: int = 1) -> str:
        """Returns "done", "done twice", or the class of the error.

        "done" means that the result and all items are those of a call without the fault; "done
        twice", that the items are those of two calls.
        """
        operations = self._verb.operations_of(self._sent, column)
        if not operations:
            return "-"
        fault = FAULTS.get(column, "throttle")
        seen = self._struck(operations, fault, times=times)
        if fault == "cut":
            # A verb that reads before it writes would meet the cut on the read only.
            assert self._struck(operations, "cut first", times=times) == seen
        return seen

    def _struck(self, operations: tuple[str, ...], fault: str, *, times: int) -> str:
        with self._ready() as (struck, act):
            before = struck.items()
            struck.strike(fault, operations, times=times)
            try:
                result = act()
            except Exception as problem:  # noqa: BLE001  # a store's own errors are of no one class
                seen = name_of(problem)
            else:
                seen = "done" if struck.plain(repr(result)) == self._wanted else shown(result)
            struck.heal()
            assert any(cut.is_met for cut in struck.cuts) is fault.startswith("cut")
            items = struck.items()
        if items == self._twice != self._items:
            return "done twice"
        if seen == "done" and times == 1:
            assert items == self._items, "the effect is not that of a call without the fault"
        else:
            assert items in (before, self._items), "the effect is neither whole nor absent"
        return seen

    @contextmanager
    def _ready(self) -> Iterator[tuple[World, Act]]:
        world = World(self._tables)
        try:
            act = self._verb.begin(world)
            world.heal()
            yield world, act
        finally:
            world.close()


@pytest.fixture(scope="module")
def tables(endpoint: str) -> Iterator[Tables]:
    """Returns tables of the emulator, which all tests share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        make_tables(make_client("dynamodb"), "verbs-")
        tables = Tables("verbs-")
        yield tables
        tables.close()


def name_of(problem: BaseException) -> str:
    return "StoreUnavailable" if isinstance(problem, StoreUnavailable) else type(problem).__name__


def shown(result: Any) -> str:
    """Returns a result that differs from that of a call without the fault, as a text."""
    if isinstance(result, list):
        errors = {name_of(each) for each in result if isinstance(each, BaseException)}
        return ", ".join(sorted(errors)) or ("none claimed" if None in result else repr(result))
    return "the former state" if hasattr(result, "idle_expires_at_ms") else repr(result)


def documented() -> dict[str, list[str]]:
    """Returns the rows of the page's table, by verb."""
    page = (ROOT / "docs" / "errors.md").read_text()
    rows = re.findall(r"^\| `(\w+\.\w+)` \| (.*) \|$", page, re.MULTILINE)
    return {verb: cells.split(" | ") for verb, cells in rows}


def test_page_has_every_verb_once_and_in_order() -> None:
    assert list(documented()) == list(VERBS)


@pytest.mark.parametrize("name", VERBS)
def test_caller_sees_what_the_page_says(tables: Tables, name: str) -> None:
    cells = Cells(tables, VERBS[name])
    seen = [cells.seen(column) for column in FAULTS]
    seen.append(cells.seen(LASTS, times=ALWAYS))
    print(f"\n| `{name}` | {' | '.join(seen)} |")  # noqa: T201  # shown by pytest -s
    assert documented().get(name) == seen
