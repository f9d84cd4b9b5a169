"""Files of a state as a start finds them: after a kill, damaged, older, newer, large, moved."""

import json
import os
import shutil
import subprocess
import sys
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mayfly_testing.stack import ROOT, unused_port, wait_until
from tests.support.state_rounds import (
    Acknowledged,
    Folder,
    Load,
    check_present,
    check_settled,
    grow,
    kill_rounds,
)


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """Returns the number of rounds: three in `make test`.

    `make test-all` requests 200 kills and a quarter of that for each of the others.
    """
    return int(request.config.getoption("--rounds"))


@dataclass(frozen=True)
class Ended:
    """A state with some ended jobs, stopped cleanly."""

    state: Path
    port: int
    acknowledged: Acknowledged

    def copy_to(self, folder: Folder) -> Acknowledged:
        """Puts a copy of the state into a folder, whose port becomes that of the state."""
        shutil.copytree(self.state, folder.state)
        folder.port = self.port
        return deepcopy(self.acknowledged)


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Ended:
    folder, acknowledged = Folder(tmp_path_factory.mktemp("ended")), Acknowledged()
    with folder.running() as stack, Load(stack, acknowledged) as load:
        acknowledged.after(30)
        load.stop()
        check_settled(stack, acknowledged)
        assert stack.stop() == 0
    return Ended(folder.state, folder.port, acknowledged)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_large_state_is_killed_and_stopped_like_a_small_one(
    tmp_path: Path, rounds: int, ended: Ended
) -> None:
    """32 MB in `make test`, 500 in `make test-all`."""
    folder = Folder(tmp_path)
    acknowledged = ended.copy_to(folder)
    grow(folder.state, 32 if rounds <= 3 else 500)
    kill_rounds(folder, max(2, rounds // 4), seed=rounds + 4, acknowledged=acknowledged)
    with folder.running() as stack:
        started = time.monotonic()
        assert stack.stop() == 0
        assert time.monotonic() - started < 10, "a stop writes only a mark"


def test_start_after_a_kill_reports_it_and_one_after_a_stop_does_not(
    tmp_path: Path, ended: Ended
) -> None:
    folder = Folder(tmp_path)
    acknowledged = ended.copy_to(folder)
    with folder.running() as stack:
        assert "killed" not in folder.said
        check_present(stack, acknowledged)
        stack.process.kill()
    with folder.running():
        assert "the last run was killed; all that could be read is here" in folder.said


def test_damaged_file_is_an_error_and_stays_unchanged(tmp_path: Path, ended: Ended) -> None:
    folder = Folder(tmp_path)
    ended.copy_to(folder)
    path = folder.state / "journal-1.log"
    data = path.read_bytes()
    damaged = (
        data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]
    )
    path.write_bytes(damaged)
    assert "is damaged at byte" in folder.refused()
    assert path.read_bytes() == damaged
    path.write_bytes(data)
    with folder.running():
        assert "killed" not in folder.said


def test_newer_file_is_an_error_and_stays_unchanged(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    folder.state.mkdir()
    path = folder.state / "journal-1.log"
    path.write_bytes(b"mayfly-state 99\n")
    assert "written by a newer Mayfly" in folder.refused()
    assert path.read_bytes() == b"mayfly-state 99\n"


def old_form(folder: Folder, ended: Ended) -> Acknowledged:
    """Makes a folder as 0.1.0 left it, with the state that this version has in the journal.

    The emulator's own code saves it.
    """
    acknowledged = ended.copy_to(folder)
    program = """
import json, os, sys
from pathlib import Path
state = Path(sys.argv[1])
os.environ.update(
    MINISTACK_REGION="us-east-1", GATEWAY_PORT="4000", MINISTACK_HOST="127.0.0.1",
    S3_PERSIST="1", S3_DATA_DIR=str(state / "s3"),
)
from mayfly_local.emulator.durable import Durable
Durable.open({"state": str(state), "port": 4000}, print)
from mayfly_local.emulator import contents as emulator_state
from ministack.core import persistence
from ministack.services import dynamodb, sqs
persistence.PERSIST_STATE, persistence.STATE_DIR = True, str(state)
for name in ("cloudformation", "dynamodb", "iam", "s3", "sqs", "ssm"):
    data = json.loads(emulator_state.settings_of(name), object_hook=persistence._json_object_hook)
    if name == "cloudformation":  # That release had no topic, and kept none.
        for scope, stack in data["stacks"]._data.items():
            del stack["_resources"]["AlarmTopic"]
            del stack["_template"]["Resources"]["AlarmTopic"]
    if name == "dynamodb":
        for scope, table in dynamodb._tables.all_items():
            data["tables"]._data[scope]["items"] = {
                pk: {sk: rows[sk] for sk in rows} for pk, rows in table["items"].items()
            }
    if name == "sqs":
        for scope, queue in sqs._queues.all_items():
            data["queues"]._data[scope].update(
                messages=list(queue["messages"]), dedup_cache={}, fifo_seq=0
            )
    persistence.save_state(name, data)
"""
    subprocess.run(
        [sys.executable, "-c", program, folder.state],
        check=True,
        cwd=ROOT,
        capture_output=True,
        env={"PYTHONPATH": str(ROOT), "PATH": os.defpath},
    )
    for path in folder.state.glob("journal-*"):
        path.unlink()
    return acknowledged


def test_folder_of_the_previous_format_is_converted_once_and_its_files_are_kept(
    tmp_path: Path, ended: Ended
) -> None:
    folder = Folder(tmp_path)
    acknowledged = old_form(folder, ended)
    strand(folder)
    with folder.running() as stack:
        assert "has been taken over from an older version" in folder.said
        check_present(stack, acknowledged)
        assert {path.name for path in (folder.state / "before-0.2.0").iterdir()} >= {
            "dynamodb.json",
            "sqs.json",
        }
        # That format held no streams: the mapping reports that, and the sweep passes it on.
        stack.client("lambda").invoke(FunctionName="SweepJobs", Payload=b'{"reports": true}')
        # A job that was never announced is found.
        wait_until(
            lambda: stack.job("stranded")["status"] == "succeeded",
            150,
            what="the end of a stranded job",
            interval=0.5,
        )
    with folder.running() as stack:
        assert "taken over" not in folder.said
        check_present(stack, acknowledged)


def strand(folder: Folder) -> None:
    """Puts a queued job whose message is on no queue into a state of the old format."""
    path = folder.state / "dynamodb.json"
    data = json.loads(path.read_text())
    for name, table in data["payload"]["tables"]["data"].items():
        if "JobsTable" not in name:
            continue
        items = table["items"].get("data", table["items"])
        found: dict[str, Any] = next(
            rows["job"]
            for rows in items.values()
            if rows.get("job", {}).get("status") == {"S": "COMPLETED"}
        )
        job = {
            key: value
            for key, value in found.items()
            if key not in ("result", "owner", "lease_until", "expires_at")
        }
        job |= {
            "pk": {"S": "default/stranded"},
            "id": {"S": "stranded"},
            "status": {"S": "QUEUED"},
            "history": {"L": []},
        }
        job |= {"attempt": {"N": "0"}, "fence": {"N": "0"}}
        items["default/stranded"] = {"job": job}
    path.write_text(json.dumps(data))


#: Files of the old form that cannot be read, with their names.
UNREADABLE = [
    ("dynamodb", "{"),
    ("dynamodb", '{"__ministack_format__": 99, "payload": {}}'),
    ("dynamodb", "[]"),
    ("dynamodb", '{"tables": 5}'),
    ("sqs", '{"queues": null}'),
    ("ssm", "7"),
]


def opened(state: Path) -> str:
    """Returns what the emulator's process says of a state that it cannot use."""
    program = """
import os, sys
os.environ.update(MINISTACK_REGION="us-east-1", GATEWAY_PORT="4000", MINISTACK_HOST="127.0.0.1")
from mayfly_local.emulator.durable import Durable
Durable.open({"state": sys.argv[1], "port": 4000}, lambda told: print(told.get("problem", "")))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, state],
        check=False,
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT), "PATH": os.defpath},
    )
    assert (done.returncode, done.stderr) == (1, "")
    return done.stdout


@pytest.mark.parametrize(("name", "damage"), UNREADABLE)
def test_unreadable_old_file_is_an_error_and_stays_unchanged(
    tmp_path: Path, name: str, damage: str
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    (state / f"{name}.json").write_text(damage)
    said = opened(state)
    assert f"{name}.json" in said
    assert "move it away" in said or "newer emulator" in said
    assert (state / f"{name}.json").read_text() == damage
    assert not list(state.glob("journal-*.log"))


def test_stack_with_an_unreadable_old_file_does_not_start(tmp_path: Path) -> None:
    name, damage = UNREADABLE[0]
    folder = Folder(tmp_path)
    folder.state.mkdir()
    (folder.state / f"{name}.json").write_text(damage)
    said = folder.refused()
    assert f"{name}.json" in said
    assert "move it away" in said
    assert (folder.state / f"{name}.json").read_text() == damage


def test_old_file_next_to_a_journal_is_an_error(tmp_path: Path, ended: Ended) -> None:
    folder = Folder(tmp_path)
    ended.copy_to(folder)
    (folder.state / "sqs.json").write_text("{}")
    assert "of an older one (sqs.json)" in folder.refused()


def test_state_can_be_used_at_another_port(tmp_path: Path, ended: Ended) -> None:
    folder = Folder(tmp_path)
    acknowledged = ended.copy_to(folder)
    folder.port = unused_port()
    with folder.running() as stack:
        check_present(stack, acknowledged)
        assert (
            f":{stack.facts['endpoint'].rsplit(':', 1)[1]}/"
            in stack.facts["outputs"]["JobsQueueUrl"]
        )
        job = stack.submit("counter.add", {"name": "moved"})
        assert stack.job(job["id"], wait=20)["status"] == "succeeded"
