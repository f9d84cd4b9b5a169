"""Byte-code of the template's Python version, on a machine that need not have that version.

Lambda cannot write byte-code, so a function without it compiles its modules at each cold start.
"""

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from mayfly_cli.bundling.cache import Cache, digest
from mayfly_cli.bundling.errors import BundleError

__all__ = ["OFF_COSTS", "Compiler", "compile_modules", "find_compiler", "later_found"]

_PROGRAM: Final = Path(__file__).parent / "compiled.py"
_PYODIDE: Final = Path(__file__).parent / "pyodide"
#: The cost of a build without byte-code.
OFF_COSTS: Final = "without byte-code, a cold start takes about twice as long"


@dataclass(frozen=True)
class Compiler:
    """An interpreter of the wanted version: its command, and its byte-code's first four bytes."""

    command: tuple[str, ...]
    magic: bytes


class _Unusable(Exception):
    """An interpreter is missing, or not the one that is needed. The text says why."""


def find_compiler(
    version: str, install_pyodide: Callable[[Callable[[Path], None]], Path]
) -> Compiler:
    """Returns the first interpreter of this version: on PATH, by uv, or Pyodide under Node.

    `install_pyodide` gets a function that fills a folder, and returns the filled folder. Raises
    BundleError with the reason against each of the three.
    """
    ways: dict[str, Callable[[], tuple[str, ...]]] = {
        f"python{version} on PATH": lambda: _on_path(version),
        f"uv python find {version}": lambda: _of_uv(version),
        "Pyodide under Node": lambda: _pyodide(install_pyodide),
    }
    reasons = []
    for name, command in ways.items():
        try:
            return _checked(command(), version)
        except _Unusable as reason:
            reasons.append(f"  {name}: {reason}")
    raise BundleError(
        f"no Python {version} is here to compile byte-code for Lambda. These were tried:\n"
        + "\n".join(reasons)
        + f"\nInstall one of them, or build with BYTECODE=off: {OFF_COSTS}."
    )


def later_found(version: str, cache: Cache) -> Callable[[], Compiler]:
    """Returns a function that finds the compiler of a version at its first call.

    It raises BundleError as `find_compiler` does. Pyodide is kept in the cache, which the caller
    has locked.
    """

    @lru_cache
    def found() -> Compiler:
        return find_compiler(version, lambda fill: cache.made("pyodide", digest(_PYODIDE), fill))

    return found


def compile_modules(
    compiler: Compiler | None, folder: Path, deployed: str, *, every: bool = True
) -> None:
    """Compiles every module of a folder whose path on Lambda is `deployed`; None compiles nothing.

    With `every` false, modules that cannot be compiled stay as they are: packages have some, such
    as templates of code. Raises BundleError if a module cannot be compiled, or has byte-code of
    another interpreter.
    """
    if compiler is None:
        return
    try:
        report = _run([*compiler.command, str(folder), deployed])
    except _Unusable as reason:
        raise BundleError(f"{compiler.command[0]} could not compile {folder}: {reason}") from None
    if report["failed"] and every:
        raise BundleError(f"a module cannot be compiled:\n{report['said']}")
    for module in folder.rglob("*.py"):
        compiled = list((module.parent / "__pycache__").glob(f"{module.stem}.cpython-*.pyc"))
        # The second word's lowest bit says that it has a hash, the next one that it is compared:
        # https://docs.python.org/3/reference/import.html#cached-bytecode-invalidation
        wanted = compiler.magic + (1).to_bytes(4, "little")
        if not compiled and not every:
            continue
        if [path.read_bytes()[:8] for path in compiled] != [wanted]:
            raise BundleError(
                f"{module} has no byte-code that Lambda will use; delete .aws-sam and build again"
            )


def _on_path(version: str) -> tuple[str, ...]:
    python = shutil.which(f"python{version}")
    if python is None:
        raise _Unusable("is not installed")
    return (python, "-I", str(_PROGRAM))


def _of_uv(version: str) -> tuple[str, ...]:
    uv = shutil.which("uv")
    if uv is None:
        raise _Unusable("uv is not installed")
    # The option keeps uv from downloading an interpreter.
    python = _output([uv, "python", "find", "--no-python-downloads", version]).strip()
    return (python, "-I", str(_PROGRAM))


def _pyodide(install: Callable[[Callable[[Path], None]], Path]) -> tuple[str, ...]:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise _Unusable(f"{'npm' if node else 'node'} is not installed")
    folder = install(lambda folder: _npm_install(npm, folder))
    return (node, str(folder / "compile.mjs"), str(_PROGRAM))


def _npm_install(npm: str, folder: Path) -> None:
    for path in _PYODIDE.iterdir():
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    _output([npm, "ci", "--loglevel=error", "--ignore-scripts", "--no-audit", "--no-fund"], folder)


def _checked(command: tuple[str, ...], version: str) -> Compiler:
    """Returns a compiler if the command runs CPython of this version."""
    report = _run(command)
    if report["version"] != version or not report["is_final"]:
        raise _Unusable(f"it is Python {report['version']}")
    return Compiler(command, bytes.fromhex(report["magic"]))


def _run(command: Sequence[str]) -> dict[str, Any]:
    """Returns the report of compiled.py, with the errors that Python printed as `said`."""
    said, _, report = _output(command).strip().rpartition("\n")
    try:
        return {**json.loads(report), "said": said}
    except ValueError:
        raise _Unusable(f"it printed {report!r} instead of its version") from None


def _output(command: Sequence[str], folder: Path | None = None) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as problem:
        raise _Unusable(f"{command[0]} does not start: {problem.strerror}") from None
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise _Unusable(f"{command[0]} ended with {done.returncode}: {'; '.join(said[:2])}")
    return done.stdout
