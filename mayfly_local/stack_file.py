"""The file that tells other commands about a running local stack.

It is a JSON file in the work folder, and exists while the stack runs.
"""

import contextlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from mayfly_local.compute.launch import Launch
from mayfly_local.errors import LocalError
from mayfly_local.iam.credentials import Credentials

__all__ = ["StackFile"]


@dataclass(frozen=True)
class StackFile:
    """The endpoint, the names of all resources, and how to start each function."""

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
    #: The local address of each API and function URL, with its stage, by logical id.
    apis: dict[str, str] = field(default_factory=dict)
    #: The absent parts of each resource, as the start names them, by logical id.
    absent: dict[str, list[str]] = field(default_factory=dict)
    #: The JWT and Cognito authorizers, for `mayfly token`: kind, issuer and audience by name.
    issuers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def launch(self, function: str) -> Launch:
        """Returns how to start environments of a function."""
        launch = self.launches[function]
        return Launch(
            **{
                **launch,
                "folder": Path(launch["folder"]),
                "path": [Path(folder) for folder in launch["path"]],
                "layers": [Path(folder) for folder in launch["layers"]],
                "bytecode": Path(launch["bytecode"]) if launch["bytecode"] else None,
                "clock": Path(launch["clock"]) if launch["clock"] else None,
            }
        )

    @property
    def people(self) -> Credentials:
        """The access key of people and tools."""
        return Credentials(
            self.credentials["AWS_ACCESS_KEY_ID"], self.credentials["AWS_SECRET_ACCESS_KEY"]
        )

    def nesting(self, logical_id: str) -> str:
        """Returns the beginning of a resource's logical id, if a nested stack has the resource.

        Returns an empty text if the application itself has it, or if nothing has it. The local
        runtime makes one stack of an application and the stacks that it nests.
        """
        names = sorted((name for name in self.resources if name.endswith(logical_id)), key=len)
        return names[0].removesuffix(logical_id) if names else ""

    def write(self, work: Path) -> None:
        """Writes the file; only this user may read it."""
        path = _path(work)
        unfinished = path.with_suffix(f".{os.getpid()}")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(asdict(self), indent=2, default=str))
        unfinished.replace(path)

    @classmethod
    def read(cls, work: Path) -> "StackFile":
        """Returns the file of a running stack. Raises LocalError if no stack is running."""
        try:
            stack = cls(**json.loads(_path(work).read_text()))
            # A zombie was killed, and its parent has not reaped it yet.
            if psutil.Process(stack.pid).status() == psutil.STATUS_ZOMBIE:
                raise ProcessLookupError(stack.pid)
        except (OSError, TypeError, ValueError, psutil.Error):
            raise LocalError(
                f"no local stack is running here (see {_path(work)}); start one with: mayfly up"
            ) from None
        return stack

    @classmethod
    def remove(cls, work: Path, *, pid: int) -> None:
        """Removes the file if this process wrote it."""
        with contextlib.suppress(LocalError):
            if cls.read(work).pid == pid:
                _path(work).unlink(missing_ok=True)

    @classmethod
    def refuse_a_second(cls, work: Path) -> None:
        """Raises LocalError if a stack that uses this folder is running."""
        try:
            stack = cls.read(work)
        except LocalError:
            return
        raise LocalError(
            f"a stack runs here already, at {stack.api_url} (process {stack.pid}); stop it, or "
            "give this one another folder with --work DIR"
        )


def _path(work: Path) -> Path:
    return work / "stack.json"
