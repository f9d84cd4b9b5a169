"""The folder of a function of an application: its code, and the packages of requirements.txt."""

from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from mayfly_cli.bundling.bytecode import compile_modules, later_found
from mayfly_cli.bundling.cache import Cache, digest, link, settle
from mayfly_cli.bundling.code import check_names, copy_application
from mayfly_cli.bundling.errors import BundleError
from mayfly_cli.bundling.packages import (
    add_left_out,
    install,
    prune_services,
    remove_programs,
    remove_unneeded,
)
from mayfly_cli.bundling.target import Target

__all__ = ["build"]

_SELF: Final = Path(__file__).parent
#: Where Lambda puts a function's folder.
_DEPLOYED: Final = "/var/task"
#: Functions that are built within this time share their packages. A later build asks the package
#: index again, as requirements may be ranges.
_IDLE_SECONDS: Final = 60


def build(
    code: Path, folder: Path, target: Target, *, services: Collection[str], cache: Cache,
    bytecode: bool,
) -> None:  # fmt: skip
    """Fills a function's folder with its code and packages, and byte-code of both.

    `services` are those whose data is kept of botocore. Raises BundleError if an interpreter or a
    package is missing, if the code does not fit, or if the folder has files already.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise BundleError(f"{folder} is not empty: delete it, and build again")
    requirements = code / "requirements.txt"
    compiler = later_found(target.version, cache) if bytecode else lambda: None

    def make_packages(made: Path) -> None:
        compiler()  # A missing interpreter is reported before pip works.
        if requirements.exists():
            install(requirements, made, target)
        remove_unneeded(made)
        remove_programs(made)
        if (made / "botocore").is_dir():
            prune_services(made, services)
            add_left_out(made)
        compile_modules(compiler(), made, _DEPLOYED, every=False)
        settle(made)

    # Folders of code, and their targets, have packages of their own.
    of_code = digest(str(code), repr(target))
    with cache.locked(), TemporaryDirectory() as own:
        copy_application(code, Path(own))
        generation = cache.generation(of_code, _IDLE_SECONDS)
        texts = [requirements] if requirements.exists() else []
        key = digest(generation, repr(sorted(services)), repr(bytecode), _SELF, *texts)
        packages = cache.made(f"packages-{of_code}", key, make_packages)

        def make_folder(made: Path) -> None:
            copy_application(Path(own), made)
            check_names(made, packages)
            compile_modules(compiler(), made, _DEPLOYED)
            settle(made)
            link(packages, made)

        link(cache.made(f"function-{of_code}", digest(key, Path(own)), make_folder), folder)
