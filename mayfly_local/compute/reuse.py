"""Packages of a lock that this Python has already, in the same versions: linked, not installed.

A lock with hashes names every package with its version. `mayfly` is often installed with the very
lock of the application, or with one that shares its versions.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

__all__ = ["pins", "reuse"]


def pins(lock: str) -> Mapping[str, str] | None:
    """Returns the versions of a lock's packages, or None if the text is not such a lock.

    In a lock, each entry is `name==version` with hashes. Entries with conditions or options are
    for an installer to decide.
    """
    entries = re.sub(r"\\\n", " ", re.sub(r"(?m)(^|\s)#.*$", "", lock)).splitlines()
    versions = {}
    for entry in filter(None, map(str.strip, entries)):
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([^\s;]+)((?:\s+--hash=\S+)+)", entry)
        if match is None:
            return None
        versions[match[1]] = match[2]
    return versions or None


def reuse(lock: str, folder: Path) -> bool:
    """Fills a folder with the packages of a lock, from those that are installed here.

    Returns False, and leaves the folder empty, if one of them has another version here or was not
    installed from a package. Files are linked: an upgrade replaces files, so the links keep theirs.
    """
    found: list[Distribution] = []
    for name, version in (pins(lock) or {}).items():
        try:
            package = distribution(name)
        except PackageNotFoundError:
            return False
        # direct_url.json is the mark of an editable or local installation: PEP 610
        if package.version != version or package.read_text("direct_url.json") is not None:
            return False
        found.append(package)
    if not found or not all(package.files for package in found):
        return False
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for package in found:
            _link(package, folder)
    except FileNotFoundError:  # The installation here is damaged.
        shutil.rmtree(folder)
        folder.mkdir()
        return False
    return True


def _link(package: Distribution, folder: Path) -> None:
    made: set[Path] = set()
    for file in package.files or ():
        if ".." in file.parts or "__pycache__" in file.parts:  # programs, and byte-code
            continue
        target = folder / file
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=True)
            made.add(target.parent)
        source = str(package.locate_file(file))
        with contextlib.suppress(FileExistsError):  # Two packages have it, as pip allows.
            try:
                os.link(source, target)
            except FileNotFoundError:
                raise
            except OSError:  # Another file system, or one without links.
                shutil.copyfile(source, target)
