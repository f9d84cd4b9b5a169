"""Code that is deployed: an application's; in this repository, the library and the handlers."""

import shutil
from pathlib import Path
from typing import Final

from mayfly_cli.bundling.errors import BundleError

__all__ = ["check_names", "copy_application", "copy_handlers", "copy_library"]

_NOT_CODE: Final = shutil.ignore_patterns("__pycache__", "*.pyc", ".DS_Store", "Makefile")
#: Files of a project that are next to the code if that is at the top of the project.
_NOT_OF_AN_APPLICATION: Final = shutil.ignore_patterns(
    "__pycache__", "*.pyc", ".DS_Store", ".aws-sam", ".git", ".mayfly", ".venv", ".*_cache"
)


def copy_application(code: Path, folder: Path) -> None:
    """Copies an application's folder of code, without its Makefile."""
    shutil.copytree(
        code, folder, ignore=_NOT_OF_AN_APPLICATION, ignore_dangling_symlinks=True,
        dirs_exist_ok=True,
    )  # fmt: skip
    (folder / "Makefile").unlink(missing_ok=True)


def copy_library(library: Path, folder: Path) -> None:
    """Copies the library's package into a folder, under its own name."""
    shutil.copytree(library, folder / library.name, ignore=_NOT_CODE)


def copy_handlers(functions: Path, folder: Path) -> None:
    """Copies the folders of functions next to the library.

    Raises BundleError if they have packages of their own, which would not be deployed, or the name
    of a folder that is there.
    """
    lock = functions / "requirements.txt"
    if lock.exists():
        raise BundleError(
            f"{lock} is not deployed, because all functions have the packages of the library. Add "
            "yours to layers/mayfly/requirements.in, run `make lock`, and delete the file"
        )
    check_names(functions, folder)
    shutil.copytree(functions, folder, ignore=_NOT_CODE, dirs_exist_ok=True)


def check_names(own: Path, packages: Path) -> None:
    """Raises BundleError if a name is in both folders, which will be one."""
    for path in sorted(own.iterdir()):
        if path.name != "__pycache__" and (packages / path.name).exists():
            raise BundleError(
                f"{path.name} is the name of code of a function and of a package, which are "
                "deployed in one folder: rename the function's"
            )
