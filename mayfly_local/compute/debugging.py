"""Functions that wait for a debugger (`mayfly up --debug FUNCTION`)."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from mayfly_local.compute.launch import Launch
from mayfly_local.compute.names import find_function
from mayfly_local.compute.packages import debugger_folder
from mayfly_local.errors import LocalError

__all__ = ["debug_launch", "debug_ports"]

#: The first port, which editors propose.
_PORT: Final = 5678
#: The timeout of a function under a debugger: a day.
_SECONDS: Final = 24 * 3600.0
#: Memory that the debugger may use, besides that of the function.
_MEGABYTES: Final = 256


def debug_ports(
    wanted: Sequence[str], names: Iterable[str], free_port: Callable[[int], int]
) -> dict[str, int]:
    """Returns the port of the debugger of each wanted function, by its logical id.

    `free_port(preferred)` returns a free port. Raises LocalError for a function that is unknown.
    """
    known = sorted(names)
    ports: dict[str, int] = {}
    for text in wanted:
        name = find_function(text, known)
        if name is None:
            raise LocalError(
                f"--debug: there is no function {text!r}; the template has: {', '.join(known)}"
            )
        if name not in ports:
            ports[name] = free_port(_PORT + len(ports))
    return ports


def debug_launch(launch: Launch, port: int, *, cache: Path) -> Launch:
    """Returns a launch whose processes wait for a debugger at a port of 127.0.0.1.

    It has no timeouts, and room for the debugger's memory. Raises LocalError if debugpy is not
    installed.
    """
    folder = debugger_folder(cache)
    if folder is None:
        raise LocalError("--debug needs the package debugpy: install it next to mayfly")
    return replace(
        launch,
        debug_port=port,
        path=[*launch.path, folder.resolve()],
        timeout_seconds=_SECONDS,
        memory_mb=launch.memory_mb + _MEGABYTES,
    )
