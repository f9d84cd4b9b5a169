"""The first step of every child process: ties the process to its supervisor, then runs its target.

It runs as a script, and loads as little as possible:
`bootstrap.py SUPERVISOR_PID FOLDERS MODULE_OR_FILE [ARGUMENT ...]`. FOLDERS is empty, or the text
of `folders.Folders` if the process has folders of its own.
"""

import importlib
import os
import runpy
import sys

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9


def main() -> None:
    """Ties this process to its supervisor and runs the target as `__main__`."""
    supervisor, own_folders, target = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    if own_folders:
        _enter(own_folders)
    if sys.platform == "linux":
        import ctypes

        # After the folders: the system forgets the tie if a process gets a namespace of users.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != supervisor:  # The supervisor died before the tie was made.
        sys.exit(1)
    sys.argv = sys.argv[3:]
    if target.endswith(".py"):
        runpy.run_path(target, run_name="__main__")
    else:
        runpy.run_module(target, run_name="__main__", alter_sys=True)


def _enter(own_folders: str) -> None:
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, here)
    mounts = importlib.import_module("mounts")
    try:
        mounts.enter(own_folders)
    except OSError as problem:
        sys.exit(f"the folders of the function cannot be mounted: {problem}")
    sys.path.remove(here)
    # A module of the function may have the same name.
    del sys.modules["mounts"]


if __name__ == "__main__":
    main()
