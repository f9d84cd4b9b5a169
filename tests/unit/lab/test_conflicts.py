"""Conflicts of a storm are counted through restarts of the store."""

from typing import Any

from mayfly_lab.chaos.conflicts import Conflicts


def report(since: int, met: dict[str, int], requested: dict[str, int] | None = None) -> Any:
    return {"milliseconds": 20, "held": 0, "since": since, "met": met, "requested": requested or {}}


def test_reports_of_one_store_add_up_to_the_last_one() -> None:
    conflicts = Conflicts()
    for met in ({}, {"PutItem": 2}, {"PutItem": 2}, {"PutItem": 3, "UpdateItem": 1}):
        conflicts.note(report(1, met, {"PutItem": 1}))
    assert conflicts.met == {"PutItem": 3, "UpdateItem": 1}
    assert conflicts.requested == {"PutItem": 1}


def test_counts_of_a_store_that_was_started_again_are_added() -> None:
    conflicts = Conflicts()
    conflicts.note(report(1, {"PutItem": 2}))
    conflicts.note(report(2, {"PutItem": 5, "UpdateItem": 1}))
    conflicts.note(report(3, {}))
    assert conflicts.met == {"PutItem": 7, "UpdateItem": 1}
