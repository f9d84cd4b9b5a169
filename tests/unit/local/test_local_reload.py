"""Saved changes: which are noticed, and that the next invocation has the new code."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mayfly_local.compute.inotify import Inotify

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")


def create(folder: Path) -> Path:
    (folder / "new.py").write_text("x")
    return folder / "new.py"


def write(folder: Path) -> Path:
    (folder / "app.py").write_text("changed")
    return folder / "app.py"


def save_as_editors_do(folder: Path) -> Path:
    (folder / "app.py.tmp~").write_text("changed")
    (folder / "app.py.tmp~").rename(folder / "app.py")
    return folder / "app.py"


def write_below(folder: Path) -> Path:
    (folder / "package" / "part.py").write_text("changed")
    return folder / "package" / "part.py"


def delete(folder: Path) -> Path:
    (folder / "app.py").unlink()
    return folder / "app.py"


def link(folder: Path) -> Path:
    (folder / "link.py").symlink_to("app.py")
    return folder / "link.py"


def rename_folder(folder: Path) -> Path:
    (folder / "package").rename(folder / "other")
    return folder / "other"


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code"
    (folder / "package").mkdir(parents=True)
    (folder / "app.py").write_text("first")
    (folder / "package" / "part.py").write_text("first")
    (folder / "left-out").mkdir()
    return folder


def watch(code: Path) -> Inotify:
    return Inotify([code], [code.parent / "template.yaml"], lambda path: "left-out" not in path)


@pytest.mark.parametrize(
    "change",
    [create, write, save_as_editors_do, write_below, delete, link, rename_folder],
    ids=lambda change: change.__name__,
)
def test_change_is_known_as_soon_as_it_is_made(code: Path, change: Callable[[Path], Path]) -> None:
    watched = watch(code)
    assert watched.read() == set()
    assert change(code) in watched.read()
    assert watched.read() == set()
    watched.close()


def test_files_in_a_new_folder_are_watched(code: Path) -> None:
    watched = watch(code)
    (code / "added").mkdir()
    assert watched.read() == {code / "added"}
    (code / "added" / "more.py").write_text("x")
    assert watched.read() == {code / "added" / "more.py"}
    watched.close()


def test_template_is_watched_without_its_neighbours(code: Path) -> None:
    watched = watch(code)
    (code.parent / "notes.txt").write_text("x")
    (code.parent / "elsewhere").mkdir()
    assert watched.read() == set()
    (code.parent / "template.yaml").write_text("x")
    assert watched.read() == {code.parent / "template.yaml"}
    watched.close()


def test_file_that_is_being_written_is_no_change_until_it_is_closed(code: Path) -> None:
    watched = watch(code)
    with (code / "app.py").open("w") as file:
        file.write("half of it")
        file.flush()
        os.fsync(file.fileno())
        assert watched.read() == set()
    assert watched.read() == {code / "app.py"}
    watched.close()


def test_folder_that_is_left_out_is_not_watched(code: Path) -> None:
    watched = watch(code)
    (code / "left-out" / "x.py").write_text("x")
    assert watched.read() == set()
    watched.close()


def test_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="gone"):
        Inotify([], [tmp_path / "gone" / "template.yaml"], lambda path: True)
