"""The package in a folder of code, in place of an installation of the wheel."""

import shutil
from pathlib import Path

from mayfly_testing.stack import ROOT

__all__ = ["install"]


def install(source: Path) -> None:
    """Puts the library, the handlers and the lock of their packages into a folder of code."""
    lock = ROOT / "layers" / "mayfly" / "requirements.txt"
    (source / "requirements.txt").write_text(lock.read_text())
    ignored = shutil.ignore_patterns("__pycache__", "Makefile")
    for name, own in (("mayfly_functions", "functions"), ("mayfly", "layers/mayfly/mayfly")):
        shutil.copytree(ROOT / own, source / name, ignore=ignored)
