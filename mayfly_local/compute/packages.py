"""Third-party packages of functions, libraries and layers, installed for this machine.

`sam build` makes packages for Lambda's system and architecture, so a laptop needs its own copy.
Each copy is cached by the content of its requirements file.
"""

import hashlib
import importlib.metadata
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mayfly_local.compute.installations import package_folder
from mayfly_local.compute.requirements import Requirements

__all__ = ["debugger_folder", "has_awslambdaric", "python_path", "runtime_folder"]

_RUNTIME_PACKAGES: Final = (
    "awslambdaric", "simplejson", "snapshot-restore-py",
    "boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3",
)  # fmt: skip


def python_path(
    code: Path,
    libraries: Sequence[Path],
    packages: tuple[str, ...] = (),
    *,
    brings_packages: bool,
    cache: Path,
) -> tuple[list[Path], list[Requirements]]:
    """Returns the folders of a function's modules, and what pip must install into some of them.

    The folders are the function's own, then those of its libraries, as on Lambda. `libraries` are
    folders of code or of a layer's content; `packages` are requirements in place of layers.
    """
    path: list[Path] = [code]
    wanted: list[Requirements] = []

    def install(requirements: Requirements | None) -> None:
        if requirements is not None:
            wanted.append(requirements)
            path.append(package_folder(requirements, cache))

    if brings_packages:
        install(Requirements.of_folder(code))
    for library in libraries:
        path.append(library / "python" if (library / "python").is_dir() else library)
        path.extend(sorted((library / "python" / "lib").glob("python3.*/site-packages")))
        install(Requirements.of_folder(library))
    if packages:
        install(Requirements.of_packages(packages))
    return path, wanted


def runtime_folder(cache: Path) -> Path:
    """Returns a folder with the packages of Lambda's own Python runtime, and no others.

    These are boto3 and, if it has wheels for this system, `awslambdaric`. The folder comes last on
    the path, so that the versions of a library win.
    """
    packages = [package for package in _RUNTIME_PACKAGES if _is_installed(package)]
    return _linked(packages, cache / "runtime")


def debugger_folder(cache: Path) -> Path | None:
    """Returns a folder with debugpy and nothing else, or None if it is not installed."""
    return _linked(["debugpy"], cache / "debugger") if _is_installed("debugpy") else None


def _linked(packages: Sequence[str], cache: Path) -> Path:
    """Returns a folder of the cache that has links to these installed packages."""
    versions = "".join(importlib.metadata.version(package) for package in packages)
    folder = cache / hashlib.sha256(f"{sys.prefix} {versions}".encode()).hexdigest()[:16]
    if folder.exists():
        return folder
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
    unfinished.mkdir(parents=True, exist_ok=True)
    for package in packages:
        distribution = importlib.metadata.distribution(package)
        for top in {
            file.parts[0]
            for file in distribution.files or ()
            if file.parts[0] not in ("..", "__pycache__")
        }:
            link = unfinished / top
            if not link.exists():
                link.symlink_to(Path(str(distribution.locate_file(top))).resolve())
    try:
        unfinished.rename(folder)
    except OSError:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def has_awslambdaric() -> bool:
    """Returns whether AWS's runtime client is installed; it has wheels for Linux only."""
    return _is_installed("awslambdaric")


def _is_installed(package: str) -> bool:
    try:
        importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
