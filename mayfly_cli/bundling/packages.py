"""The packages of a function: installs them for Lambda, and removes what no function uses."""

import shutil
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Final

from mayfly_cli.bundling.errors import BundleError
from mayfly_cli.bundling.target import Target

__all__ = [
    "PROGRAMS", "TESTS", "add_left_out", "install", "install_locked", "prune_services",
    "remove_page", "remove_programs", "remove_unneeded",
]  # fmt: skip

_LEFT_OUT: Final = Path(__file__).parent / "left_out.py"
#: Packages of Mayfly's wheel that only a developer's machine needs.
PROGRAMS: Final = ("mayfly_cli", "mayfly_lab", "mayfly_local", "mayfly_testing")
#: Folders of the locked packages that no import needs, by name, at any depth.
TESTS: Final = ("examples", "test", "tests")
_SUFFIXES: Final = {".pyc", ".pyi", ".typed"}
#: A page of API descriptions. `make openapi` takes it from the local copy of Powertools.
_BROWSER_PAGE: Final = "aws_lambda_powertools/event_handler/openapi/swagger_ui"
#: Files that `importlib.metadata` reads. Licences are kept as well, as most of them demand.
_METADATA: Final = {"METADATA", "entry_points.txt"}
_LICENCES: Final = ("authors", "copying", "licence", "license", "notice")


def install_locked(lock: Path, folder: Path, target: Target) -> None:
    """Installs the wheels of a lock with hashes, as `install` does."""
    install(lock, folder, target, "--require-hashes", "--no-deps")


def install(requirements: Path, folder: Path, target: Target, *options: str) -> None:
    """Installs the wheels of a requirements file into a folder, for the target.

    Paths in the file are relative to its folder. Raises BundleError with pip's error.
    """
    command = [
        sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
        "--no-compile", "--only-binary=:all:", "--python-version", target.version,
        *(word for platform in target.platforms for word in ("--platform", platform)),
        # A person's own settings may say --user, which contradicts --target.
        "--implementation", "cp", "--no-user", "--target", str(folder.resolve()), *options,
        "-r", str(requirements.resolve()),
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=requirements.parent, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise BundleError(
            f"pip could not install the packages of {requirements} for Python {target.version} on "
            f"{target.platform}:\n{done.stderr.strip()}"
        )


def remove_programs(folder: Path) -> None:
    """Deletes the parts of Mayfly's wheel that run on a developer's machine only."""
    for name in PROGRAMS:
        shutil.rmtree(folder / name, ignore_errors=True)


def remove_page(folder: Path) -> None:
    """Deletes the page of API descriptions of Powertools, which no function here serves."""
    for path in (folder / _BROWSER_PAGE).glob("*.min.*"):
        path.unlink()


def remove_unneeded(folder: Path, *unneeded: str) -> None:
    """Deletes what Lambda does not need: programs, types, pip's records, and folders by name."""
    shutil.rmtree(folder / "bin", ignore_errors=True)
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and path.name in ("__pycache__", *unneeded):
            shutil.rmtree(path)
    for path in sorted(folder.rglob("*")):
        if path.is_file() and (path.suffix in _SUFFIXES or _is_record(path.relative_to(folder))):
            path.unlink()


def _is_record(path: Path) -> bool:
    """Returns whether a file is part of a package's metadata that nothing reads at run time."""
    if not path.parts[0].endswith(".dist-info"):
        return False
    is_licence = any(part.lower().startswith(_LICENCES) for part in path.parts[1:])
    return not is_licence and path.name not in _METADATA


def prune_services(folder: Path, services: Collection[str]) -> None:
    """Deletes the data of all AWS services but these, and the examples in their data.

    Files that all services share are kept. Raises BundleError if botocore lacks one of `services`.
    """
    missing = [name for name in services if not (folder / "botocore" / "data" / name).is_dir()]
    if missing:
        raise BundleError(
            f"botocore has no service {', '.join(missing)}: correct the name where the build "
            "lists it"
        )
    for package in ("botocore", "boto3"):
        for path in (folder / package / "data").glob("*"):
            if path.is_dir() and path.name not in services:
                shutil.rmtree(path)
        for path in (folder / package / "data").rglob("examples-1.json*"):
            path.unlink()


def add_left_out(folder: Path) -> None:
    """Makes botocore find the data of services that are not in the folder."""
    shutil.copyfile(_LEFT_OUT, folder / "botocore" / "left_out.py")
    with (folder / "botocore" / "loaders.py").open("a", encoding="utf-8") as loaders:
        loaders.write(
            "\n\n# Added by Mayfly's build: other services (docs/decisions/0019).\n"
            "import botocore.left_out  # noqa: E402\n"
        )
