"""Packages that this Python has already, in versions that fit: linked, not installed.

There are two cases. A lock with hashes names every package with its version; `mayfly` is often
installed with the very lock of the application, or with one that shares its versions. A file that
asks for this runtime's own package gets the version that runs, with what that needs.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from packaging.requirements import Requirement

__all__ = ["mark", "pins", "reuse"]

#: The distribution of this runtime.
_OWN: Final = "mayfly-serverless"
Find = Callable[[str], Distribution]


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


def reuse(text: str, folder: Path, find: Find = distribution) -> bool:
    """Fills a folder with the packages of a requirements file, from those that are installed here.

    Returns False, and leaves the folder empty, if one of them has another version here or was not
    installed from a package. Files are linked: an upgrade replaces files, so the links keep theirs.
    """
    found = _locked(text, find) or _own(text, find)
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


def mark(text: str, find: Find = distribution) -> str:
    """Returns a text that changes with this runtime's package, if a file asks for it."""
    # Most files do not ask for it, and parsing them takes time at every start.
    if _OWN not in text or all(known.name != _OWN for known in _requirements(text)):
        return ""
    package = _installed(_OWN, find)
    if package is None:
        return ""
    record = package.read_text("RECORD") or ""
    return f"{package.version} {hashlib.sha256(record.encode()).hexdigest()}"


def _locked(text: str, find: Find) -> list[Distribution] | None:
    """Returns the packages of a lock, or None if one is not here in that version."""
    found = []
    for name, version in (pins(text) or {}).items():
        package = _installed(name, find)
        if package is None or package.version != version:
            return None
        found.append(package)
    return found


def _own(text: str, find: Find) -> list[Distribution] | None:
    """Returns what a file asks for with all that it needs, if this runtime's package is among it.

    Returns None if it is not, or if a package is not here in a version that fits.
    """
    from packaging.requirements import Requirement

    left = _requirements(text)
    if all(requirement.name != _OWN for requirement in left):
        return None
    found: dict[str, Distribution] = {}
    extras: dict[str, set[str]] = {}
    while left:
        requirement = left.pop()
        package = _installed(requirement.name, find)
        if package is None or not requirement.specifier.contains(package.version, prereleases=True):
            return None
        # Without an extra, requirements of extras do not apply.
        new = {"", *requirement.extras} - extras.setdefault(requirement.name, set())
        if new:
            extras[requirement.name] |= new
            left += [
                needed
                for needed in map(Requirement, package.requires or ())
                if needed.marker is None
                or any(needed.marker.evaluate({"extra": extra}) for extra in new)
            ]
        found[requirement.name] = package
    return list(found.values())


def _requirements(text: str) -> "list[Requirement]":
    """Returns the requirements of a file, nothing if a line is for an installer to decide."""
    from packaging.requirements import InvalidRequirement, Requirement

    lines = filter(None, map(str.strip, re.sub(r"(?m)(^|\s)#.*$", "", text).splitlines()))
    try:
        requirements = [Requirement(line) for line in lines]
    except InvalidRequirement:  # an option, a continued line
        return []
    if any(requirement.url for requirement in requirements):
        return []
    return [
        requirement
        for requirement in requirements
        if requirement.marker is None or requirement.marker.evaluate()
    ]


def _installed(name: str, find: Find) -> Distribution | None:
    """Returns a package that was installed from an archive, None if there is none."""
    try:
        package = find(name)
    except PackageNotFoundError:
        return None
    # The mark of a package that was not chosen by its version: PEP 610. It may be an archive.
    origin = package.read_text("direct_url.json")
    return package if origin is None or "archive_info" in json.loads(origin) else None


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
