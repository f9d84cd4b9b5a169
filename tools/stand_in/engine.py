"""Podman behind Docker's API, with a storage of its own: it changes no engine of this machine."""

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tools.stand_in.errors import StandInError

__all__ = ["Engine", "missing_commands"]

_COMMANDS: Final = ("podman", "runc", "debootstrap", "iptables")
_START_SECONDS: Final = 30.0
#: There is no systemd in a container or virtual machine of CI, which are Podman's defaults.
_SETTINGS: Final = """[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
[engine.runtimes]
runc = ["{runc}"]
[network]
network_backend = "netavark"
"""


class Engine:
    """An engine with its images in the folder `storage`. Its settings live in `folder`."""

    def __init__(self, storage: Path, folder: Path) -> None:
        self._folder = folder
        # Podman insists on one run folder for a storage, with a path of at most 50 characters.
        name = hashlib.sha256(str(storage).encode()).hexdigest()[:8]
        self.podman = ["podman", f"--root={storage}", f"--runroot=/run/mayfly-engine-{name}"]
        self.variables = {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "DOCKER_HOST": f"unix://{folder}/engine.sock",
        }

    @classmethod
    @contextlib.contextmanager
    def opened(cls, storage: Path) -> Iterator["Engine"]:
        """Yields an engine that does not serve yet, and deletes its settings and containers."""
        storage.mkdir(parents=True, exist_ok=True)
        # The path of a socket has at most 107 bytes, so it is not below the storage.
        folder = Path(tempfile.mkdtemp(prefix="mayfly-engine-"))
        engine = cls(storage, folder)
        engine._write_settings()
        try:
            yield engine
        finally:
            environment = {**os.environ, **engine.variables}
            for arguments in (["rm", "--all", "--force", "--time=0"], ["umount", "--all"]):
                subprocess.run(
                    [*engine.podman, *arguments], env=environment, capture_output=True, check=False
                )
            shutil.rmtree(folder, ignore_errors=True)

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Serves Docker's API while the block runs. Raises StandInError if it does not come up."""
        log = self._folder / "service.log"
        with log.open("wb") as written:
            service = subprocess.Popen(
                [*self.podman, "system", "service", "--time=0", self.variables["DOCKER_HOST"]],
                env={**os.environ, **self.variables}, stdout=written, stderr=written,
            )  # fmt: skip
        try:
            socket, deadline = self._folder / "engine.sock", time.monotonic() + _START_SECONDS
            while not socket.exists():
                if service.poll() is not None or time.monotonic() > deadline:
                    raise StandInError("the engine does not come up", log.read_text()[-2000:])
                time.sleep(0.05)
            yield
        finally:
            service.terminate()
            service.wait(30)

    def _write_settings(self) -> None:
        runc = self._folder / "runc"
        program = Path(__file__).with_name("runc.py")
        runc.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I {program} "$@"\n')
        runc.chmod(0o755)
        Path(self.variables["CONTAINERS_CONF"]).write_text(_SETTINGS.format(runc=runc))
        # Programs that this process starts, and podman's own children, read the settings here.
        os.environ["CONTAINERS_CONF"] = self.variables["CONTAINERS_CONF"]


def missing_commands() -> list[str]:
    """Returns the programs that are missing here, of those that an engine needs."""
    paths = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return [command for command in _COMMANDS if shutil.which(command, path=paths) is None]
