"""The Pythons that the package is for: which are here, and whether its packages fit each of them.

`python -m tools.pythons` resolves the requirements of the package with all extras for each Python,
by pip and wheels only, and prints a line for each. `--here` prints the interpreters of this machine
instead, a line each: the version, a space, the path. `.ci/run` runs tests on those.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["here", "interpreter", "main", "missing", "resolved", "versions"]

ROOT: Final = Path(__file__).parent.parent
#: Prints the real path of an interpreter, since a command of pyenv needs its variables.
_ASK: Final = (
    "import sys; print(sys.executable);"
    "sys.exit('%d.%d' % sys.version_info[:2] != sys.argv[1] or"
    " sys.version_info.releaselevel != 'final')"
)


def versions() -> tuple[str, ...]:
    """Returns the versions of Python that the package's classifiers name, such as `3.13`."""
    classifiers = "\n".join(_project()["classifiers"])
    return tuple(re.findall(r"(?m)^Programming Language :: Python :: (3\.\d+)$", classifiers))


def here() -> dict[str, str]:
    """Returns the interpreters of this machine, of the versions of the package."""
    found = {version: interpreter(version) for version in versions()}
    return {version: path for version, path in found.items() if path is not None}


def interpreter(version: str) -> str | None:
    """Returns the path of an interpreter of a version: this one, on PATH, of pyenv, or of uv."""
    for path in _candidates(version):
        try:
            done = subprocess.run(
                [path, "-c", _ASK, version], capture_output=True, text=True, check=False
            )
        except OSError:
            continue
        if done.returncode == 0:
            return done.stdout.strip()
    return None


def _candidates(version: str) -> Iterator[str]:
    yield getattr(sys, "_base_executable", sys.executable)
    on_path = shutil.which(f"python{version}")
    if on_path is not None:
        yield on_path
    if shutil.which("pyenv") is not None:
        root = Path(_output("pyenv", "root"))
        yield from sorted(map(str, root.glob(f"versions/{version}.*/bin/python{version}")))
    if shutil.which("uv") is not None:
        found = _output("uv", "python", "find", "--no-python-downloads", version)
        if found:
            yield found


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def resolved(version: str, requirements: Sequence[str]) -> dict[str, str]:
    """Returns the packages that pip chooses for a Python of this version, with their versions.

    Every package has a wheel for that Python and this system. Raises ValueError with pip's error.
    """
    wanted = list(requirements)
    while True:
        report = _report(version, wanted)
        # pip takes markers such as `python_version < "3.13"` for the Python that runs it.
        added = missing(version, wanted, report)
        if not added:
            return {
                package["metadata"]["name"]: package["metadata"]["version"]
                for package in report["install"]
            }
        wanted += added


def _report(version: str, requirements: Sequence[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        command = [
            sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet",
            "--disable-pip-version-check", "--only-binary=:all:", "--python-version", version,
            "--no-user", "--target", folder, "--report", str(path), *requirements,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ValueError(done.stderr.strip())
        report: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        return report


def missing(version: str, requested: Sequence[str], report: dict[str, Any]) -> list[str]:
    """Returns the requirements of packages in pip's report that hold for a version and are not met.

    `requested` are the requirements that the report is for.
    """
    packages = [package["metadata"] for package in report["install"]]
    names = {canonicalize_name(metadata["name"]) for metadata in packages}
    texts = [text for metadata in packages for text in metadata.get("requires_dist", ())]
    extras: dict[str, set[str]] = {}
    for requirement in map(Requirement, (*requested, *texts)):
        extras.setdefault(canonicalize_name(requirement.name), {""}).update(requirement.extras)
    return sorted(
        {
            _unmarked(requirement)
            for metadata in packages
            for requirement in map(Requirement, metadata.get("requires_dist", ()))
            if canonicalize_name(requirement.name) not in names
            and _holds(requirement, version, extras.get(canonicalize_name(metadata["name"]), {""}))
        }
    )


def _holds(requirement: Requirement, version: str, extras: set[str]) -> bool:
    """Returns whether a requirement's marker holds, for one of the extras of its package."""
    if requirement.marker is None:
        return True
    python = {"python_version": version, "python_full_version": f"{version}.0"}
    return any(requirement.marker.evaluate({**python, "extra": extra}) for extra in extras)


def _unmarked(requirement: Requirement) -> str:
    return str(requirement).partition(";")[0].strip()


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return project


def main(arguments: Sequence[str]) -> int:
    """Prints the interpreters, or what fits. Returns 1 if the packages do not fit a Python."""
    parser = argparse.ArgumentParser(prog="python -m tools.pythons", description=__doc__)
    parser.add_argument("--here", action="store_true", help="print the interpreters only")
    found = here()
    if parser.parse_args(arguments).here:
        print("\n".join(f"{version} {path}" for version, path in found.items()))
        return 0
    project = _project()
    extras = project["optional-dependencies"].values()
    requirements = [*project["dependencies"], *(text for extra in extras for text in extra)]

    def fit(version: str) -> tuple[str, bool]:
        try:
            return f"{len(resolved(version, requirements))} packages have wheels that fit", True
        except ValueError as problem:
            return f"the packages do not fit:\n{problem}", False

    all_fit = True
    with ThreadPoolExecutor(len(versions())) as threads:
        for version, (said, fits) in zip(versions(), threads.map(fit, versions()), strict=True):
            where = found.get(version, "not here, so no test runs on it")
            print(f"Python {version}: {said}; {where}", flush=True)
            all_fit = all_fit and fits
    return 0 if all_fit else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
