"""The process at the other end of a loopback connection, if the system tells it (Linux)."""

import os
import socket
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["can_tell", "is_peer"]

_CONNECTIONS: Final = Path("/proc/net/tcp")
_LOOPBACK: Final = "127.0.0.1"
#: Column of the inode in a line of /proc/net/tcp: proc(5).
_INODE_COLUMN: Final = 9


#: The kernel gives its table in pieces. A line may be missing if other connections open or close
#: between two pieces, so a missing line is looked for again.
_READS: Final = 5


def is_peer(
    pid: int,
    *,
    client_port: int,
    server_port: int,
    read: Callable[[], str] = _CONNECTIONS.read_text,
) -> bool:
    """Returns True if the process holds the client's end of a connection on loopback.

    Returns False if the system does not tell. `read` returns the kernel's table of connections.
    """
    inode = _inode(client_port, server_port, read)
    return inode is not None and _holds(pid, inode)


@cache
def can_tell() -> bool:
    """Returns True if this system tells which process holds a connection.

    It tries with a connection to itself.
    """
    try:
        with (
            socket.create_server((_LOOPBACK, 0)) as server,
            socket.create_connection(server.getsockname()) as client,
        ):
            return is_peer(
                os.getpid(),
                client_port=client.getsockname()[1],
                server_port=server.getsockname()[1],
            )
    except OSError:
        return False


def _inode(client_port: int, server_port: int, read: Callable[[], str]) -> str | None:
    """Returns the inode of the client's socket, from the kernel's table of connections."""
    address = f"{int.from_bytes(socket.inet_aton(_LOOPBACK), sys.byteorder):08X}"
    wanted = f" {address}:{client_port:04X} {address}:{server_port:04X} "
    for _ in range(_READS):
        try:
            table = read()
        except OSError:
            return None
        for line in table.splitlines():
            if wanted in line:
                return line.split()[_INODE_COLUMN]
    return None


def _holds(pid: int, inode: str) -> bool:
    try:
        with os.scandir(f"/proc/{pid}/fd") as files:
            return any(_target(file.path) == f"socket:[{inode}]" for file in files)
    except OSError:  # The process has ended.
        return False


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # The file was closed meanwhile.
        return ""
