"""Byte-code that is there already, for functions whose processes would compile it again.

Functions cannot write next to their code, so Python keeps their byte-code in a folder of its own
(`-X pycache_prefix`), and looks for it there alone: even for the standard library. Python checks
each file against its source before it uses it, so a copy that is out of date does no harm:
https://docs.python.org/3/reference/import.html#cached-bytecode-invalidation
"""

import os
import shutil
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

__all__ = ["bytecode_folder"]

_STANDARD: Final = Path(sysconfig.get_path("stdlib"))
_CACHE: Final = "__pycache__"


def bytecode_folder(cache: Path, folders: Iterable[Path]) -> Path:
    """Returns the folder of functions' byte-code.

    A new one gets what other processes have compiled: the modules of `folders`, and those of the
    standard library that this process has loaded. Raises OSError if it cannot be written.
    """
    target = cache / "bytecode"
    if target.exists():
        return target
    target.mkdir(parents=True, exist_ok=True)
    for compiled in (*_loaded(), *_compiled(folders)):
        place = target / compiled.parent.parent.relative_to("/") / compiled.name
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Python replaces such a file and never writes into it, so both can be the same.
            os.link(compiled, place)
        except FileExistsError:  # Another start has put it there.
            continue
        except OSError:  # It is on another disk, or belongs to another user.
            shutil.copyfile(compiled, place)
    return target


def _loaded() -> Iterator[Path]:
    for module in list(sys.modules.values()):
        cached = Path(getattr(module, "__cached__", None) or "")
        if _STANDARD in cached.parents and "site-packages" not in cached.parts and cached.exists():
            yield cached


def _compiled(folders: Iterable[Path]) -> Iterator[Path]:
    pattern = f"{_CACHE}/*.{sys.implementation.cache_tag}.pyc"
    for folder in folders:
        yield from folder.resolve().rglob(pattern)
