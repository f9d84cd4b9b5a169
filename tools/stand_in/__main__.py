"""Runs a command beside a container engine that has a stand-in for AWS's runtime image.

    python -m tools.stand_in pytest tests/integration/test_container.py

The command finds the engine at DOCKER_HOST. The image is made by the first run and kept in
~/.cache/mayfly/engine. Needs root, and Debian's podman, runc, netavark, aardvark-dns, iptables and
debootstrap.
"""

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from tools.stand_in.engine import Engine, missing_commands
from tools.stand_in.errors import StandInError
from tools.stand_in.image import Image

_PACKAGES: Final = "podman runc netavark aardvark-dns iptables debootstrap"


def main(command: list[str]) -> int:
    """Runs the command, and returns its exit code; 2 if the engine or the image is missing."""
    if not command:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        return _run(command)
    except StandInError as problem:
        print(f"tools.stand_in: {problem}", file=sys.stderr)
        return 2


def _run(command: list[str]) -> int:
    if os.geteuid() != 0:
        raise StandInError("an engine cannot be started here", "debootstrap and podman need root")
    if missing := missing_commands():
        raise StandInError(
            f"{', '.join(missing)} cannot be found",
            f"apt-get install --no-install-recommends {_PACKAGES}",
        )
    storage = _cache() / "engine"
    storage.mkdir(parents=True, exist_ok=True)
    with (storage.parent / "engine.lock").open("w") as lock:
        # One engine at a time has the storage; a second run waits for the first.
        fcntl.flock(lock, fcntl.LOCK_EX)
        with Engine.opened(storage) as engine:
            Image.of_template().make(engine.podman, lambda text: print(text, flush=True))
            with engine.serving():
                return subprocess.run(
                    command, env={**os.environ, **engine.variables}, check=False
                ).returncode


def _cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "mayfly"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
