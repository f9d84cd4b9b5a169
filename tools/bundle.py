"""Fills a folder that `sam build` deploys: `python3 -m tools.bundle functions|layer FOLDER`.

`functions` puts handlers, library and packages into FOLDER, `layer` only library and packages.
BYTECODE=off in the environment leaves byte-code out.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from mayfly_cli.bundling.bytecode import OFF_COSTS, compile_modules, later_found
from mayfly_cli.bundling.cache import Cache, digest, link, settle
from mayfly_cli.bundling.code import check_names, copy_handlers, copy_library
from mayfly_cli.bundling.errors import BundleError
from mayfly_cli.bundling.packages import (
    TESTS,
    add_left_out,
    install_locked,
    prune_services,
    remove_page,
    remove_unneeded,
)
from mayfly_cli.bundling.services import SERVICES
from mayfly_cli.bundling.target import target_of

__all__ = ["build", "main"]

ROOT: Final = Path(__file__).parent.parent
_BUNDLING: Final = ROOT / "mayfly_cli" / "bundling"
_LIBRARY: Final = ROOT / "layers" / "mayfly"
_FUNCTIONS: Final = ROOT / "functions"
#: Where Lambda puts each kind of folder.
_DEPLOYED: Final = {"functions": "/var/task", "layer": "/opt/python"}


def build(kind: str, folder: Path, *, cache: Cache, bytecode: bool) -> None:
    """Fills a folder of a kind (`functions` or `layer`).

    Raises BundleError if an interpreter or a package is missing, if the code does not fit, or if
    the folder has files already.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise BundleError(f"{folder} is not empty: delete it, and build again")
    target = target_of(ROOT / "template.yaml")
    lock = _LIBRARY / "requirements.txt"
    deployed = _DEPLOYED[kind]

    compiler = later_found(target.version, cache) if bytecode else lambda: None

    def make_packages(made: Path) -> None:
        compiler()  # A missing interpreter is reported before pip works.
        install_locked(lock, made, target)
        remove_unneeded(made, *TESTS)
        remove_page(made)
        prune_services(made, SERVICES)
        add_left_out(made)
        compile_modules(compiler(), made, deployed)
        settle(made)

    def make_folder(made: Path) -> None:
        copy_library(_LIBRARY / "mayfly", made)
        if kind == "functions":
            copy_handlers(_FUNCTIONS, made)
        check_names(made, packages)
        compile_modules(compiler(), made, deployed)
        settle(made)
        link(packages, made)

    with cache.locked():
        key = digest(deployed, repr(target), repr(bytecode), lock, _BUNDLING, Path(__file__))
        packages = cache.made(f"packages-of-{kind}", key, make_packages)
        own = digest(key, _LIBRARY / "mayfly", *([_FUNCTIONS] if kind == "functions" else []))
        link(cache.made(kind, own, make_folder), folder)


def main(arguments: Sequence[str], bytecode: str) -> int:
    """Returns the exit code of the command; `bytecode` is the value of BYTECODE."""
    parser = argparse.ArgumentParser(prog="python3 -m tools.bundle", description=__doc__)
    parser.add_argument("kind", choices=_DEPLOYED)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args(arguments)
    if bytecode not in ("", "off"):
        print(f"BYTECODE is {bytecode!r}; it may be off", file=sys.stderr)
        return 1
    try:
        build(
            options.kind,
            options.folder,
            cache=Cache(ROOT / ".aws-sam" / "mayfly"),
            bytecode=bytecode != "off",
        )
    except BundleError as problem:
        print(problem, file=sys.stderr)
        return 1
    if bytecode == "off":
        print(f"BYTECODE=off: {OFF_COSTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ.get("BYTECODE", "")))
