"""Builds the distribution and checks it: `python3 -m tools.dist` is `make dist`.

The sdist and the wheel are built twice, and must have the same bytes. The wheel is made from the
sdist, so that the sdist is complete.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

__all__ = ["main"]

ROOT: Final = Path(__file__).parent.parent
#: Top folders of the wheel.
_PACKAGES: Final = (
    "mayfly", "mayfly_cli", "mayfly_functions", "mayfly_lab", "mayfly_local", "mayfly_testing",
)  # fmt: skip
#: The time of files in both archives if the environment names none: 1980, the first of a zip.
_EPOCH: Final = "315532800"
#: Checks that do not hold here: the `main.py` of all functions are the same (W002), the starter's
#: modules are for another folder (W004), and the wheel has several packages (W009).
_IGNORED: Final = "W002,W004,W009"


def main() -> int:
    """Fills dist/. Returns 1 if a check fails, after the check's own output."""
    target = ROOT / "dist"
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        again = Path(folder)
        for out in (target, again):
            if _run("build", "--no-isolation", "--outdir", str(out), str(ROOT)):
                return 1
        made = sorted(target.iterdir())
        differing = [
            path.name for path in made if path.read_bytes() != (again / path.name).read_bytes()
        ]
    if differing:
        print(f"a second build has other bytes: {', '.join(differing)}", file=sys.stderr)
        return 1
    wheel = next(path for path in made if path.suffix == ".whl")
    names = ",".join(_PACKAGES)
    code = _run("check_wheel_contents", "--toplevel", names, "--ignore", _IGNORED, str(wheel))
    code = code or _run("twine", "check", "--strict", *map(str, made))
    for path in made:
        print(f"{path.relative_to(ROOT)}  {path.stat().st_size // 1000} kB")
    return code


def _run(module: str, *arguments: str) -> int:
    """Runs a module, and returns its exit code. Its output is shown only if it fails."""
    done = subprocess.run(
        _command(module, arguments), cwd=ROOT, capture_output=True, text=True, check=False,
        env={"SOURCE_DATE_EPOCH": _EPOCH, **os.environ},
    )  # fmt: skip
    if done.returncode:
        print(f"{done.stdout}{done.stderr}", file=sys.stderr)
    return done.returncode


def _command(module: str, arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


if __name__ == "__main__":
    sys.exit(main())
