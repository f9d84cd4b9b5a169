"""One full run of the crash lab: the stock recipe doubles some effects, ours doubles none."""

import json
import subprocess

import pytest

from mayfly_lab.lab import CONTROL, Outcome
from mayfly_lab.report import verdict
from mayfly_lab.worker import FAULTS
from mayfly_testing.stack import MAYFLY, ROOT


@pytest.mark.timeout(600)
@pytest.mark.parametrize("client", ["lean", pytest.param("boto3", marks=pytest.mark.soak)])
def test_every_fault_at_every_store_call_leaves_every_effect_applied_once(client: str) -> None:
    done = subprocess.run(
        [MAYFLY, "crash", "--repeats", "1", "--client", client, "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    table = json.loads(done.stdout)
    assert {row["fault"] for row in table} == set(FAULTS)
    ours = [row for row in table if row["subject"] != CONTROL]
    assert len(ours) == 5 * len(FAULTS)
    assert all(
        row["once"] > 0 and not (row["twice or more"] or row["never"] or row["unsettled"])
        for row in ours
    )
    assert all(row["twice or more"] > 0 for row in table if row["subject"] == CONTROL)
    assert all(row["conflicts"] > 0 for row in table if row["fault"] == "conflict")


def outcome(
    subject: str, *applied: int, unsettled: int = 0, fault: str = "before", conflicts: int = 0
) -> Outcome:
    found = Outcome(subject, fault, runs=len(applied), unsettled=unsettled, conflicts=conflicts)
    found.applied.update(applied)
    return found


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([outcome(CONTROL, 1, 2), outcome("ours", 1, 1)], 0),
        ([outcome(CONTROL, 1, 1), outcome("ours", 1, 1)], 1),
        ([outcome(CONTROL, 2), outcome("ours", 1, 2)], 1),
        ([outcome(CONTROL, 2), outcome("ours", 1, 0)], 1),
        ([outcome(CONTROL, 2), outcome("ours", 1, unsettled=1)], 1),
        ([outcome(CONTROL, 2), outcome("ours", 1, fault="conflict", conflicts=3)], 0),
        ([outcome(CONTROL, 2), outcome("ours", 1, fault="conflict")], 1),
    ],
)
def test_lab_fails_if_it_sees_no_doubles_and_if_ours_has_some(
    outcomes: list[Outcome], code: int
) -> None:
    assert verdict(outcomes) == code
