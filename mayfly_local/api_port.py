"""The port of the API, and the process that has it already."""

import contextlib

import psutil

from mayfly_local.emulator.process import free_port
from mayfly_local.errors import PortTaken

__all__ = ["check_port", "port_taken"]


def check_port(port: int) -> None:
    """Raises PortTaken if another process listens on a port."""
    if free_port(port) != port:
        raise port_taken(port)


def port_taken(port: int) -> PortTaken:
    """Returns the error for a port that another process has."""
    others = range(port + 1, port + 1000)
    free = next(candidate for candidate in others if free_port(candidate) == candidate)
    return PortTaken(port, _holder(port), free)


def _holder(port: int) -> str:
    """Returns a description of the process that listens on a port.

    It is "another process" if this user may not see the details.
    """
    with contextlib.suppress(psutil.AccessDenied):
        for connection in psutil.net_connections("tcp"):
            if (
                connection.status == psutil.CONN_LISTEN
                and connection.laddr
                and connection.laddr.port == port
                and connection.pid is not None
            ):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process = psutil.Process(connection.pid)
                    command = " ".join(process.cmdline()[:4]) or process.name()
                    return f"process {connection.pid} ({command})"
    return "another process"
