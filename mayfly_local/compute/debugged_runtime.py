"""Waits for a debugger, then runs the loop that calls a function's handler.

It runs as a script: `debugged_runtime.py PORT MODULE_OR_FILE HANDLER`.
"""

import os
import runpy
import socket
import sys
import time

_HOST = "127.0.0.1"
#: Seconds until the process before this one has left the port, after a save.
_LEAVE_SECONDS = 10.0
#: Seconds in which a client must begin to speak; an editor does so immediately.
_SPEAK_SECONDS = 2.0
#: The beginning of each message of the Debug Adapter Protocol.
_BEGINNING = b"content-length:"


class EditorsOnly(socket.socket):
    """A server socket that drops clients which do not speak the Debug Adapter Protocol.

    debugpy skips lines that it does not know, such as the header of an HTTP request. So a page in a
    browser could send it a message, which may be code to run.
    """

    def accept(self) -> tuple[socket.socket, object]:
        """Waits for the next client whose first bytes are those of a message."""
        while True:
            client, address = super().accept()
            client.settimeout(_SPEAK_SECONDS)
            try:
                first = client.recv(len(_BEGINNING), socket.MSG_PEEK).lower()
            except OSError:
                first = b""
            if first and _BEGINNING.startswith(first):
                client.settimeout(None)
                return client, address
            client.close()


def main() -> None:
    """Listens on a port of this machine until a debugger has attached; then runs the loop."""
    port, loop = int(sys.argv[1]), sys.argv[2]
    _wait_for_port(port)
    # Modules that Python has frozen have no file, and need no warning: editors show none of them.
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")
    usual = socket.socket
    socket.socket = EditorsOnly  # type: ignore[misc]  # for debugpy alone
    import debugpy

    # Without a process of its own for the adapter, which would outlive this one.
    debugpy.listen((_HOST, port), in_process_debug_adapter=True)
    socket.socket = usual  # type: ignore[misc]  # debugpy has its sockets by now
    print(f"waiting for a debugger at {_HOST}:{port}", flush=True)
    debugpy.wait_for_client()
    sys.argv = sys.argv[2:]
    if loop.endswith(".py"):
        runpy.run_path(loop, run_name="__main__")
    else:
        runpy.run_module(loop, run_name="__main__", alter_sys=True)


def _wait_for_port(port: int) -> None:
    until = time.monotonic() + _LEAVE_SECONDS
    while time.monotonic() < until:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                time.sleep(0.05)
            else:
                return
    sys.exit(f"the port {port} for the debugger is in use")


if __name__ == "__main__":
    main()
