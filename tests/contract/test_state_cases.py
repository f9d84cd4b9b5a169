"""Single cases of state that survives a kill, each in processes of its own."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mayfly_testing.stack import ROOT


def run(case: str, step: str, folder: Path, port: int = 4000) -> Any:
    command = [
        sys.executable,
        "-m",
        "tests.contract.state_cases",
        case,
        step,
        str(folder),
        str(port),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=ROOT, env={"PATH": os.defpath}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_messages_are_unchanged_after_a_start_at_another_port_and_back(tmp_path: Path) -> None:
    run("queues_at_another_port", "before", tmp_path, 4000)
    assert run("queues_at_another_port", "between", tmp_path, 5000) == ["127.0.0.1:5000", ["two"]]
    assert run("queues_at_another_port", "after", tmp_path, 4000) == ["127.0.0.1:4000", ["two"]]


def test_addresses_in_text_of_users_are_unchanged(tmp_path: Path) -> None:
    run("text_of_users", "before", tmp_path, 4000)
    assert run("text_of_users", "after", tmp_path, 5000) == "http://127.0.0.1:9999/hook"


def test_group_keeps_order_and_deduplication_even_if_the_clock_is_set_back(
    tmp_path: Path,
) -> None:
    before = run("order_of_a_group", "before", tmp_path)
    assert before[0] == [f"m{number}" for number in range(6)]
    assert run("order_of_a_group", "after", tmp_path) == before


def test_mapping_that_starts_at_latest_gets_records_written_after_its_declaration(
    tmp_path: Path,
) -> None:
    run("a_mapping_that_starts_at_latest", "before", tmp_path)
    assert run("a_mapping_that_starts_at_latest", "after", tmp_path) == ["new"]


def test_records_that_aged_unread_are_reported(tmp_path: Path) -> None:
    run("records_that_aged_before_they_were_read", "before", tmp_path)
    assert run("records_that_aged_before_they_were_read", "after", tmp_path) == ["M"]


def test_newest_250_records_that_were_read_are_kept(tmp_path: Path) -> None:
    assert (
        run("read_records", "before", tmp_path)
        == run("read_records", "after", tmp_path)
        == 250 + 300
    )


def test_records_of_kinesis_streams_end_with_the_emulator(tmp_path: Path) -> None:
    assert run("a_kinesis_stream", "before", tmp_path) == 1
    assert run("a_kinesis_stream", "after", tmp_path) == 0


def test_records_that_were_read_are_dropped_after_fifteen_minutes(tmp_path: Path) -> None:
    assert run("read_records_that_aged", "before", tmp_path) == [20, 10, 0]


def test_records_that_one_mapping_has_not_read_are_kept_for_it(tmp_path: Path) -> None:
    assert (
        run("a_reader_that_has_not_begun", "before", tmp_path)
        == run("a_reader_that_has_not_begun", "after", tmp_path)
        == 1
    )


def test_closed_stream_does_not_affect_the_new_one(tmp_path: Path) -> None:
    assert (
        run("a_closed_stream", "before", tmp_path)
        == run("a_closed_stream", "after", tmp_path)
        == ["new"]
    )


def test_table_that_replaces_another_has_only_its_own_items(tmp_path: Path) -> None:
    assert (
        run("a_table_over_another", "before", tmp_path)
        == run("a_table_over_another", "after", tmp_path)
        == ["new"]
    )


def test_object_is_the_old_one_or_the_new_one_and_never_half_of_each(tmp_path: Path) -> None:
    run("an_object_that_was_overwritten", "before", tmp_path)
    assert run("an_object_that_was_overwritten", "after", tmp_path) == ["a newer one", "11"]
    assert not list((tmp_path / "staged").iterdir())


def test_object_that_cannot_be_stored_is_not_acknowledged(tmp_path: Path) -> None:
    assert run("an_object_whose_folder_cannot_be_made", "before", tmp_path) is True


def test_journal_stays_within_a_multiple_of_its_live_rows_over_many_sessions(
    tmp_path: Path,
) -> None:
    for session in range(5):
        assert run("sessions_of_updates", "before" if not session else "after", tmp_path) is True


def test_sync_survives_a_time_without_file_descriptors(tmp_path: Path) -> None:
    assert run("out_of_files", "before", tmp_path) == ["Too many open files", True, True]


@pytest.mark.parametrize("step", ["before"])
def test_items_are_due_for_deletion_when_they_have_expired_and_not_before(
    tmp_path: Path, step: str
) -> None:
    assert run("items_that_expire", step, tmp_path) == [["a fraction", "expired"], True, True]


def test_long_poll_searches_when_a_message_becomes_visible_and_not_in_between(
    tmp_path: Path,
) -> None:
    assert run("long_polls", "before", tmp_path) == [
        [["sent"], 2],
        [["sent"], 2],
        [["sent"], 2],  # its visibility timeout ended
        [["delayed"], 2],
        [[], 2],
        [[], 2],  # the stack stops
    ]


def test_wait_for_a_record_ends_when_there_is_one(tmp_path: Path) -> None:
    assert run("waits_for_records", "before", tmp_path) == ["0", True, True, True]
