"""The way to start environments of one function."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Launch"]


@dataclass(frozen=True)
class Launch:
    """The way to start environments of one function.

    `runtime` is the module or file of the loop that calls the handler.
    """

    name: str
    arn: str
    handler: str
    runtime: str
    variables: Mapping[str, str]
    folder: Path
    path: Sequence[Path]
    timeout_seconds: float
    memory_mb: int
    #: Folders of layer content, the size of /tmp, and the folder for byte-code. The last is None if
    #: this system cannot give a process folders of its own.
    layers: Sequence[Path] = ()
    tmp_mb: int = 512
    bytecode: Path | None = None
    #: The port at which each process waits for a debugger before it loads the handler.
    debug_port: int | None = None
    #: The file of the stack's clock, if a test can move that (`processes/clock.py`).
    clock: Path | None = None
