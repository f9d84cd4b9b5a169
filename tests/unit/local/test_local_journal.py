"""The journal: complete frames are read, incomplete ones cut, damaged files left unchanged."""

import errno
import json
import os
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from mayfly_local.emulator import journal as module
from mayfly_local.emulator.journal import Journal, Row, StateError, Story
from mayfly_local.emulator.packed import dump


def opened(folder: Path, **options: Any) -> Journal:
    return Journal(folder, lambda text: None, **options)


def read(folder: Path) -> tuple[dict[tuple[Any, ...], bytes], Story]:
    """Returns the rows that a start reads, by key; leaves the journal as a kill does."""
    found: dict[tuple[Any, ...], bytes] = {}

    def take(key: tuple[Any, ...], value: bytes | None) -> None:
        found.pop(key, None) if value is None else found.update({key: value})

    journal = opened(folder)
    story = journal.read(take)
    killed(journal)
    return found, story


def killed(journal: Journal) -> None:
    """Releases the files of a journal as a kill does."""
    journal._stopping.set()
    journal._thread.join(5)
    os.close(journal._file)
    os.close(journal._lock)


def written(folder: Path, *frames: Iterable[Row]) -> None:
    journal = opened(folder)
    journal.read(lambda key, value: None)
    for rows in frames:
        journal.append(rows)
    killed(journal)


def row(name: str, value: str | None = "v") -> Row:
    return ("item", name), None if value is None else value.encode()


def test_last_value_of_each_key_is_read_again(tmp_path: Path) -> None:
    written(tmp_path, [row("a", "1"), row("b")], [row("a", "2"), row("b", None)])
    assert read(tmp_path)[0] == {("item", "a"): b"2"}


def test_kill_is_distinguished_from_a_clean_stop(tmp_path: Path) -> None:
    written(tmp_path, [row("a")])
    assert not read(tmp_path)[1].was_clean
    journal = opened(tmp_path)
    journal.read(lambda key, value: None)
    journal.close()
    assert read(tmp_path)[1].was_clean


@pytest.mark.parametrize("cut", [1, 5, 11, 12, 13, 20])
def test_incomplete_frame_is_cut_with_all_its_rows(tmp_path: Path, cut: int) -> None:
    written(tmp_path, [row("a")], [row("b"), row("c")])
    path = tmp_path / "journal-1.log"
    size = path.stat().st_size
    os.truncate(path, size - cut)
    rows, story = read(tmp_path)
    assert rows == {("item", "a"): b"v"}
    assert story.cut > 0
    assert read(tmp_path)[1].cut == 0, "the file is right again"


def test_frame_written_after_a_cut_is_read_again(tmp_path: Path) -> None:
    written(tmp_path, [row("a")], [row("b")])
    os.truncate(tmp_path / "journal-1.log", (tmp_path / "journal-1.log").stat().st_size - 3)
    written(tmp_path, [row("c")])
    assert set(read(tmp_path)[0]) == {("item", "a"), ("item", "c")}


def test_damage_before_readable_rows_is_an_error_and_the_file_stays_unchanged(
    tmp_path: Path,
) -> None:
    written(tmp_path, [row("a", "x" * 50)], [row("b")])
    path = tmp_path / "journal-1.log"
    data = path.read_bytes()
    damaged = data.replace(b"x" * 50, b"x" * 49 + b"y")
    path.write_bytes(damaged)
    with pytest.raises(
        StateError,
        match=r"damaged at byte \d+, with readable rows behind it; the file is unchanged",
    ):
        read(tmp_path)
    assert path.read_bytes() == damaged


def test_every_flipped_byte_is_detected(tmp_path: Path) -> None:
    written(tmp_path, [row("a", "first")], [row("b", "second")])
    path = tmp_path / "journal-1.log"
    data = path.read_bytes()
    for position in range(len(data)):
        path.write_bytes(data[:position] + bytes([data[position] ^ 0x40]) + data[position + 1 :])
        try:
            rows, story = read(tmp_path)
        except StateError:
            continue
        assert story.cut > 0, position
        assert rows in ({}, {("item", "a"): b"first"}), position


def test_newer_format_is_an_error_and_the_file_stays_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "journal-1.log"
    path.write_bytes(b"mayfly-state 2\nwhatever")
    with pytest.raises(StateError, match="written by a newer Mayfly"):
        read(tmp_path)
    assert path.read_bytes() == b"mayfly-state 2\nwhatever"


def test_file_of_another_program_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "journal-1.log").write_bytes(b"{}\n")
    with pytest.raises(StateError, match="is not a state file"):
        read(tmp_path)


@pytest.mark.parametrize("kept", [0, 1, 14])
@pytest.mark.parametrize("name", ["journal-1.log", "journal-2.log"])
def test_emptied_file_is_an_error_and_not_a_new_state(tmp_path: Path, name: str, kept: int) -> None:
    journal = opened(tmp_path)
    journal.read(lambda key, value: None)
    journal.append([row("a")])
    journal.begin_copy()
    killed(journal)
    os.truncate(tmp_path / name, kept)
    with pytest.raises(
        StateError, match=f"{name} is not a state file of Mayfly's, or is damaged at its beginning"
    ):
        read(tmp_path)
    assert (tmp_path / name).stat().st_size == kept


def test_kill_while_the_first_file_is_made_leaves_no_file(tmp_path: Path) -> None:
    disk = _Disk()
    disk.room = 3
    journal = opened(tmp_path, write=disk.pwrite)
    with pytest.raises(OSError, match="No space left"):
        journal.read(lambda key, value: None)
    os.close(journal._lock)
    assert read(tmp_path)[0] == {}


def test_older_file_that_was_cut_is_an_error(tmp_path: Path) -> None:
    """Rows between its end and the next file would be missing."""
    journal = opened(tmp_path)
    journal.read(lambda key, value: None)
    journal.append([row("a")])
    journal.begin_copy()
    journal.append([row("b")])
    killed(journal)
    older = tmp_path / "journal-1.log"
    os.truncate(older, older.stat().st_size - 3)
    with pytest.raises(StateError, match="is damaged at byte"):
        read(tmp_path)


def test_second_process_on_a_folder_is_refused_with_the_id_of_the_first(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    with pytest.raises(StateError, match=f"process {os.getpid()}"):
        opened(tmp_path, lock_seconds=0.1)
    os.close(journal._lock)


class _Disk:
    """The system's pwrite, with space for `room` bytes."""

    room = 10_000

    def pwrite(self, file: int, data: bytes, position: int) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        count = os.pwrite(file, data[: self.room], position)
        self.room -= count
        return count


@pytest.mark.parametrize("room", [0, 1, 12, 40])
def test_full_disk_is_an_error_and_leaves_no_half_frame(tmp_path: Path, room: int) -> None:
    disk = _Disk()
    journal = opened(tmp_path, write=disk.pwrite)
    journal.read(lambda key, value: None)
    journal.append([row("a")])
    disk.room = room
    with pytest.raises(OSError, match="No space left"):
        journal.append([row("b", "x" * 100)])
    disk.room = 10_000
    journal.append([row("c")])
    killed(journal)
    rows, story = read(tmp_path)
    assert set(rows) == {("item", "a"), ("item", "c")}
    assert story.cut == 0


def test_copy_keeps_the_last_values_and_deletes_the_old_file(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.read(lambda key, value: None)
    for number in range(100):
        journal.append([row("a", str(number))])
    journal.append([row("gone"), row("b")])
    journal.append([row("gone", None)])
    before = journal.size
    journal.begin_copy()
    journal.append([row("b", "changed meanwhile")])
    journal.append([row("a", "99"), row("b", "changed meanwhile")])
    journal.end_copy()
    assert journal.size < before / 3
    killed(journal)
    assert [path.name for path in sorted(tmp_path.glob("*.log"))] == ["journal-2.log"]
    assert read(tmp_path)[0] == {("item", "a"): b"99", ("item", "b"): b"changed meanwhile"}


def test_kill_in_the_middle_of_a_copy_loses_nothing(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.read(lambda key, value: None)
    journal.append([row("a"), row("b")])
    journal.begin_copy()
    journal.append([row("a", "new")])
    killed(journal)
    assert read(tmp_path)[0] == {("item", "a"): b"new", ("item", "b"): b"v"}


def test_journal_continues_with_its_file_if_the_disk_has_no_space_for_another(
    tmp_path: Path,
) -> None:
    disk = _Disk()
    journal = opened(tmp_path, write=disk.pwrite)
    journal.read(lambda key, value: None)
    journal.append([row("before")])
    disk.room = 3
    with pytest.raises(OSError, match="No space left"):
        journal.begin_copy()
    disk.room = 10_000
    journal.append([row("a")])
    killed(journal)
    assert set(read(tmp_path)[0]) == {("item", "before"), ("item", "a")}
    assert [path.name for path in tmp_path.glob("journal-*.log")] == ["journal-1.log"]


def test_disk_that_writes_no_byte_and_gives_no_error_is_full(tmp_path: Path) -> None:
    journal = opened(tmp_path)
    journal.read(lambda key, value: None)
    journal._write = lambda file, data, position: 0
    with pytest.raises(OSError, match="No space left"):
        journal.append([row("a")])
    killed(journal)


def after_a_power_cut(path: Path, damage: Callable[[bytes], bytes]) -> None:
    """Makes a file look as if a power cut had lost some of its last pages."""
    data = path.read_bytes()
    own = json.dumps(module._boot())[1:-1].encode()
    path.write_bytes(damage(data.replace(own, own[::-1])))


def reframed(path: Path) -> bytes:
    """Returns the file with its checksums corrected."""
    data = path.read_bytes()
    start = data.index(b"\n") + 1
    out, position = data[:start], start
    while position < len(data):
        magic, length, _ = module._FRAME.unpack_from(data, position)
        payload = data[position + module._FRAME.size : position + module._FRAME.size + length]
        out += module._FRAME.pack(magic, length, zlib.crc32(payload)) + payload
        position += module._FRAME.size + length
    return out


def test_power_cut_loses_only_unsynced_frames_and_is_reported(tmp_path: Path) -> None:
    written(tmp_path, [row("a", "x" * 40)], [row("b", "y" * 40)], [row("c")])
    path = tmp_path / "journal-1.log"
    after_a_power_cut(path, lambda data: data)
    path.write_bytes(reframed(path))
    # A page that never reached the disk, before one that did.
    path.write_bytes(path.read_bytes().replace(b"y" * 40, bytes(40)))
    rows, story = read(tmp_path)
    assert set(rows) == {("item", "a")}
    assert (story.lost_power, story.cut > 0) == (True, True)


def test_damage_of_synced_frames_is_not_treated_as_a_power_cut(tmp_path: Path) -> None:
    written(tmp_path, [row("a", "x" * 40)], [(("journal", "synced"), b"100000")])
    path = tmp_path / "journal-1.log"
    after_a_power_cut(path, lambda data: data)
    path.write_bytes(reframed(path))
    path.write_bytes(path.read_bytes().replace(b"x" * 40, bytes(40)))
    with pytest.raises(StateError, match="damaged"):
        read(tmp_path)


def test_frames_are_synced_within_two_seconds(tmp_path: Path) -> None:
    from mayfly_testing.stack import wait_until

    journal = opened(tmp_path)
    journal.read(lambda key, value: None)
    journal.append([row("a")])
    wait_until(lambda: journal._synced == journal._size, 5, what="a sync")
    killed(journal)


def test_rows_are_plain_data() -> None:
    assert dump([(("item", "a"), b"v")]) == dump([(("item", "a"), b"v")])
