"""Third-party packages of functions, libraries and layers, installed for this machine.

`sam build` makes packages for Lambda's system and architecture, so a laptop needs its own copy.
Each copy is cached by the content of its requirements file.
"""

import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from mayfly_local.compute.reuse import reuse
from mayfly_local.errors import LocalError

__all__ = ["has_awslambdaric", "installed", "python_path", "runtime_folder"]

_RUNTIME_PACKAGES: Final = (
    "awslambdaric", "simplejson", "snapshot-restore-py",
    "boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3",
)  # fmt: skip


def python_path(
    code: Path,
    libraries: Sequence[Path],
    *,
    brings_packages: bool,
    cache: Path,
    say: Callable[[str], None],
) -> list[Path]:
    """Returns the folders of a function's modules: its own, then its libraries, as on Lambda.

    `libraries` are folders of code or of a layer's content. Installs missing packages.
    """
    path = [code]
    if brings_packages:
        path.append(installed(code / "requirements.txt", cache=cache, say=say))
    for library in libraries:
        path.append(library / "python" if (library / "python").is_dir() else library)
        if (library / "requirements.txt").exists():
            path.append(installed(library / "requirements.txt", cache=cache, say=say))
    return path


def installed(requirements: Path, *, cache: Path, say: Callable[[str], None]) -> Path:
    """Returns a folder with the packages of a requirements file.

    Raises LocalError with pip's error.
    """
    text = requirements.read_text()
    name = hashlib.sha256(
        f"{sys.version_info[:2]} {platform.machine()} {sys.platform}\n{text}".encode()
    ).hexdigest()[:24]
    folder = cache / "packages" / name
    if folder.exists():
        return folder
    unfinished = folder.with_name(f"{name}.{os.getpid()}")
    if not reuse(text, unfinished):
        say(f"installing the packages of {requirements} for this machine (once) ...")
        _install(requirements, text, unfinished)
    try:
        unfinished.rename(folder)
    except OSError:  # Another start was faster.
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def _install(requirements: Path, text: str, unfinished: Path) -> None:
    # A lock with hashes lists every package. Any other file is resolved as `sam build` does.
    strict = ["--require-hashes", "--no-deps"] if "--hash=" in text else []
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--no-compile", *strict, "--target", str(unfinished), "-r", str(requirements),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise LocalError(
            f"the packages of {requirements} could not be installed:\n{done.stderr.strip()}"
        )


def runtime_folder(cache: Path) -> Path:
    """Returns a folder with the packages of Lambda's own Python runtime, and no others.

    These are boto3 and, if it has wheels for this system, `awslambdaric`. The folder comes last on
    the path, so that the versions of a library win.
    """
    packages = [package for package in _RUNTIME_PACKAGES if _is_installed(package)]
    versions = "".join(importlib.metadata.version(package) for package in packages)
    folder = (
        cache / "runtime" / hashlib.sha256(f"{sys.prefix} {versions}".encode()).hexdigest()[:16]
    )
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
