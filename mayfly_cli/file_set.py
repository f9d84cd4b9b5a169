"""Files that are written together: all of them, or none."""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mayfly_local.errors import LocalError

__all__ = ["write_all"]


def write_all(files: Mapping[Path, bytes]) -> None:
    """Writes all files, and makes their folders. Raises LocalError; then nothing is written.

    Each file is replaced by a rename, so no reader finds a part of one. A file that exists keeps
    its mode, and a link to it stays a link.
    """
    before: dict[Path, bytes | None] = {}
    folders: list[Path] = []
    drafts: dict[Path, Path] = {}
    path = Path()
    try:
        for path, content in files.items():
            target = path.resolve()
            _make(target.parent, folders)
            drafts[target] = target.with_name(f".{target.name}.{os.getpid()}")
            drafts[target].write_bytes(content)
            if target.exists():
                drafts[target].chmod(target.stat().st_mode & 0o7777)
        for path, draft in drafts.items():
            content_before = path.read_bytes() if path.exists() else None
            draft.replace(path)
            before[path] = content_before
    except OSError as problem:
        _undo(before, drafts, folders)
        raise LocalError(f"{path} cannot be written: {problem.strerror}") from None


def _make(folder: Path, made: list[Path]) -> None:
    """Makes a folder and those above it, and notes each."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    for place in reversed(missing):
        place.mkdir()
        made.append(place)


def _undo(
    before: Mapping[Path, bytes | None], drafts: Mapping[Path, Path], folders: list[Path]
) -> None:
    for path, content in before.items():
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
    for draft in drafts.values():
        with suppress(OSError):  # It was not written.
            draft.unlink()
    for folder in reversed(folders):
        with suppress(OSError):  # Another program has put a file into it.
            folder.rmdir()
