"""What a running local stack tells other commands: a JSON file in the work folder, there while the
stack runs.
"""

import contextlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from mayfly_local.compute.environment import Launch
from mayfly_local.errors import LocalError
from mayfly_local.iam.credentials import Credentials

__all__ = ["StackFile"]


@dataclass(frozen=True)
class StackFile:
    """Where the store is, what everything in it is called, and how each function is started."""

    pid: int
    name: str
    template: str
    api_url: str
    endpoint: str
    region: str
    credentials: dict[str, str]
    resources: dict[str, str]
    launches: dict[str, dict[str, Any]]
    outputs: dict[str, str]

    def launch(self, function: str) -> Launch:
        """How a function is started."""
        found = self.launches[function]
        return Launch(
            **{
                **found,
                "folder": Path(found["folder"]),
                "path": [Path(each) for each in found["path"]],
            }
        )

    @property
    def people(self) -> Credentials:
        """The access key of people and tools."""
        return Credentials(
            self.credentials["AWS_ACCESS_KEY_ID"], self.credentials["AWS_SECRET_ACCESS_KEY"]
        )

    def write(self, work: Path) -> None:
        """Leaves it for others, readable by this user alone."""
        path = _path(work)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(asdict(self), indent=2, default=str))
        unfinished.replace(path)

    @classmethod
    def read(cls, work: Path) -> "StackFile":
        """The file of a stack that runs. Raises LocalError when none does."""
        try:
            found = cls(**json.loads(_path(work).read_text()))
            if (
                psutil.Process(found.pid).status() == psutil.STATUS_ZOMBIE
            ):  # killed, and its parent has not asked yet
                raise ProcessLookupError(found.pid)
        except (OSError, TypeError, ValueError, psutil.Error):
            raise LocalError(
                f"no local stack is running here ({_path(work)} names none); start one with: "
                "make run"
            ) from None
        return found

    @classmethod
    def remove(cls, work: Path, *, pid: int) -> None:
        """Takes it away, if it is this process's."""
        with contextlib.suppress(LocalError):
            if cls.read(work).pid == pid:
                _path(work).unlink(missing_ok=True)

    @classmethod
    def refuse_a_second(cls, work: Path) -> None:
        """Raises LocalError where a stack runs that uses this folder."""
        try:
            found = cls.read(work)
        except LocalError:
            return
        raise LocalError(
            f"a stack runs here already, at {found.api_url} (process {found.pid}); stop it, or "
            "give this one a folder with --work DIR"
        )


def _path(work: Path) -> Path:
    return work / "stack.json"
