"""Chaos: a whole stack that is struck under load, and the counts afterwards."""

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from mayfly_lab.chaos.ledger import CHAINED, EFFECTS
from mayfly_lab.chaos.present import StoredJob, jobs_by_tenant
from mayfly_lab.chaos.storm import TENANTS, run
from mayfly_lab.chaos.table import verdict, write
from mayfly_testing.stack import MAYFLY, ROOT, Stack, unbuffered, wait_until


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_every_count_is_exact_after_a_storm(load_seconds: int) -> None:
    done = subprocess.run(
        [MAYFLY, "crash", "--chaos", str(load_seconds), "--seed", "19", "--no-latency", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "\nseed 19\n" in f"\n{done.stderr}"
    found = json.loads(done.stdout)
    assert found["problems"] == []
    assert sum(found["strikes"].values()) >= 5
    assert sum(found["conflicts"].values()) > 0
    assert [row["tenant"] for row in found["tenants"]] == list(TENANTS)
    for row in found["tenants"]:
        assert row["jobs accepted"] == row["ended"] > 0
        assert row["effects due"] == row["counted"] > 0
        assert row["keyed"] == row["keyed counted"]
        assert row["sessions"] == row["present"]


@pytest.mark.timeout(400)
def test_every_count_is_exact_after_a_short_storm_in_which_transactions_meet() -> None:
    """A transaction takes 100 ms in it, so that some meet in a few seconds."""
    outcome = run(
        ROOT, seconds=3, seed=3, measures_latency=False, say=print, transaction_seconds=0.1
    )
    met = outcome.conflicts.met
    write(outcome, seed=3, as_json=False)
    assert outcome.problems == []
    assert met.total() > 0


def is_accepted(job: StoredJob) -> bool:
    return bool(job.payload.get("name") != CHAINED)


@pytest.mark.timeout(400)
def test_planted_loss_and_doubling_are_named_with_tenant_and_count(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lost: list[str] = []

    def leave_a_fault(stack: Stack) -> None:
        fault = {"function": "Sessions", "action": "dynamodb:GetItem", "kind": "refuse"}
        assert stack.control("faults", {**fault, "times": 10_000}).ok

    def damage(stack: Stack) -> None:
        # No fault is left that could strike the reads of the comparison.
        assert stack.control("clear-faults", {}).json() == {"cleared": 0}
        client, resources = stack.client("dynamodb"), stack.facts["resources"]
        client.update_item(
            TableName=resources["CountersTable"],
            Key={"pk": {"S": f"acme/{EFFECTS}"}, "sk": {"S": "shard/0"}},
            UpdateExpression="ADD #v :by",
            ExpressionAttributeNames={"#v": "value"},
            ExpressionAttributeValues={":by": {"N": "7"}},
        )
        jobs = jobs_by_tenant(stack)["globex"].values()
        # Not a follow-up: those are compared by their number.
        own = (job.id for job in jobs if job.task != "chaos.chain" and is_accepted(job))
        lost.append(next(own))
        client.delete_item(
            TableName=resources["JobsTable"],
            Key={"pk": {"S": f"globex/{lost[0]}"}, "sk": {"S": "job"}},
        )
        client.delete_item(
            TableName=resources["SessionsTable"],
            Key=next(
                {"pk": item["pk"], "sk": item["sk"]}
                for item in stack.items("SessionsTable")
                if item["pk"]["S"].startswith("default/")
            ),
        )

    outcome = run(
        ROOT, seconds=3, seed=5, measures_latency=False, say=print,
        after_storm=leave_a_fault, before_count=damage,
    )  # fmt: skip
    assert verdict(outcome) == 1
    problems = capsys.readouterr().err.splitlines()
    assert any(
        line.startswith(f"mayfly: acme: counter {EFFECTS} ") and line.endswith(": 7 too many")
        for line in problems
    )
    accepted = len(outcome.ledgers["globex"].jobs)
    assert f"mayfly: globex: {accepted} jobs accepted, 1 of them lost: {lost[0]}" in problems
    assert any("default: " in line and "sessions acknowledged, 1 of them lost" in line
               for line in problems)  # fmt: skip


@contextmanager
def storm(folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Yields a run of `mayfly crash --chaos` that has a stack, and ends it."""
    process = subprocess.Popen(
        [MAYFLY, "crash", "--chaos", "300", "--seed", "1", "--no-latency"],
        cwd=ROOT,
        env={**unbuffered(), "TMPDIR": str(folder)},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("number", "code"),
    [
        pytest.param(signal.SIGINT, 130, id="ctrl-c"),
        # It takes the same way as Ctrl-C.
        pytest.param(signal.SIGTERM, 130, id="term", marks=pytest.mark.soak),
        pytest.param(signal.SIGKILL, -signal.SIGKILL, id="kill"),
    ],
)
def test_end_of_a_storm_leaves_no_process_and_no_file(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with storm(tmp_path) as process:
        top = psutil.Process(process.pid)
        # The stack, its watchdog, the store, and functions under load.
        processes = wait_until(
            lambda: found if len(found := top.children(recursive=True)) > 6 else [], 90
        )
        process.send_signal(number)
        assert process.wait(150) == code
        wait_until(
            lambda: not any(each.is_running() for each in processes), 30, what="the processes' end"
        )
        if number != signal.SIGKILL:
            assert list(tmp_path.glob("mayfly-chaos-*")) == []


@pytest.mark.parametrize("option", [["--seed", "1"], ["--no-latency"]])
def test_options_of_chaos_without_chaos_are_refused(option: list[str]) -> None:
    done = subprocess.run(
        [MAYFLY, "crash", *option], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "need --chaos SECONDS" in done.stderr
