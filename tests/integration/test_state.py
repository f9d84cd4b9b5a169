"""State that outlives the stack: kills, full disks, damage, older forms, two stacks, and what a
stop costs.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mayfly_testing.stack import ROOT, wait_until
from tests.support.state_rounds import (
    Folder,
    full_disk_rounds,
    kill_rounds,
    small_disk,
    truncation_rounds,
)

needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or not sys.platform.startswith("linux"),
    reason="needs root on Linux, to mount a small disk",
)


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """Returns the number of rounds: three in `make test`.

    `make test-all` requests 200 kills and a quarter of that for each of the others.
    """
    return int(request.config.getoption("--rounds"))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_no_kill_at_any_moment_loses_acknowledged_changes(tmp_path: Path, rounds: int) -> None:
    # With three rounds: the store, the stack, and two signals.
    kill_rounds(Folder(tmp_path), rounds, seed=rounds + 4)


@pytest.mark.soak
@needs_root
@pytest.mark.timeout(3600)
def test_full_disk_acknowledges_nothing_that_it_does_not_store(tmp_path: Path, rounds: int) -> None:
    with small_disk(tmp_path / "disk", kilobytes=40_000) as disk:
        # With two rounds: a stop, and room again.
        full_disk_rounds(
            Folder(tmp_path / "run", state=disk / "state"), max(2, rounds // 4), seed=rounds + 1
        )


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_truncated_file_is_reported_and_jobs_agree_with_their_effects(
    tmp_path: Path, rounds: int
) -> None:
    truncation_rounds(Folder(tmp_path), max(2, rounds // 4), seed=rounds)


def test_without_state_nothing_is_written(tmp_path: Path) -> None:
    from mayfly_testing.stack import running

    with running(tmp_path, template=ROOT / "tests/apps/orders/template.yaml") as stack:
        assert stack.get("/").status_code < 500
        assert not list(tmp_path.rglob("journal-*"))


def test_death_of_the_emulator_without_state_ends_the_stack_and_names_the_loss(
    tmp_path: Path,
) -> None:
    from mayfly_testing.stack import running

    with running(tmp_path) as stack:
        assert stack.get("/").status_code == 200
        stack.store().kill()
        started = time.monotonic()
        assert stack.process.wait(30) == 1
        assert time.monotonic() - started < 3
        assert "its data is lost; start it with --state DIR to keep the data" in stack.output


def test_two_stacks_do_not_share_a_folder(tmp_path: Path) -> None:
    first, second = (
        Folder(tmp_path / "a", state=tmp_path / "state"),
        Folder(tmp_path / "b", state=tmp_path / "state"),
    )
    with first.running() as stack:
        assert "another stack uses the state" in second.refused()
        assert stack.get("/").status_code == 200


def test_objects_and_their_notices_survive_a_kill(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    with folder.running() as stack:
        bucket = stack.facts["outputs"]["ImportsBucketName"]
        stack.client("s3").put_object(
            Bucket=bucket, Key="default/rows.csv", Body=b"a,b\n1,2\n3,4\n"
        )
        for each in reversed(stack.tree()):
            each.kill()
        stack.process.wait(30)
    with folder.running() as stack:
        assert (
            stack.client("s3").get_object(Bucket=bucket, Key="default/rows.csv")["Body"].read()
            == b"a,b\n1,2\n3,4\n"
        )
        wait_until(
            lambda: [
                each for each in stack.items("JobsTable") if each.get("task") == {"S": "csv.import"}
            ],
            30,
            what="the import's job",
        )


@needs_root
def test_object_that_the_disk_cannot_store_is_refused(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=20_000) as disk:
        folder = Folder(tmp_path / "run", state=disk / "state")
        with folder.running() as stack:
            s3, bucket = stack.client("s3"), stack.facts["outputs"]["ImportsBucketName"]
            free = shutil.disk_usage(disk).free
            with pytest.raises(s3.exceptions.ClientError):
                s3.put_object(Bucket=bucket, Key="default/large", Body=bytes(free))
            wait_until(
                lambda: (
                    "the state is written again" in stack.output
                    or stack.get("/").status_code == 200
                ),
                30,
            )


@pytest.mark.parametrize("seed", range(3))
def test_fresh_start_reads_what_the_emulator_held(tmp_path: Path, seed: int) -> None:
    """Makes random calls of every kind; then another process reads the journal."""

    def held(calls: int) -> Any:
        command = [
            sys.executable,
            str(ROOT / "tests/contract/state_process.py"),
            str(tmp_path / "state"),
            str(seed),
            str(calls),
        ]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONPATH": str(ROOT), "PATH": os.defpath},
        )
        return json.loads(done.stdout)

    live = held(400)
    assert held(0) == live
    assert live["count"]["item"] > 5
    assert held(0) == live, "a start changes nothing"
