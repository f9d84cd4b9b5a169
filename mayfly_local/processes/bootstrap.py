"""The first step of every child process: ties the process to its supervisor, then runs its target.

It runs as a script, and loads as little as possible:
`bootstrap.py SUPERVISOR_PID FOLDERS MODULE_OR_FILE [ARGUMENT ...]`. FOLDERS is empty, or the text
of `folders.Folders` if the process has folders of its own.

A variable may name the file of the stack's clock. The process then finds that clock in
`sys.modules`, under the name `mayfly_local_clock`; nothing on AWS puts it there.
"""

import importlib
import os
import runpy
import sys
import types

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9


def main() -> None:
    """Ties this process to its supervisor and runs the target as `__main__`."""
    supervisor, own_folders, target = int(sys.argv[1]), sys.argv[2], sys.argv[3]
    # Opened before the folders: the file is in none of those that the process sees later.
    if clock := os.environ.pop("MAYFLY_CLOCK_FILE", ""):
        _take_clock(clock)
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


def _take_clock(path: str) -> None:
    moved_time = _own_module("moved_time")
    clock = types.ModuleType("mayfly_local_clock")
    # mayfly.core.clock looks it up.
    clock.time_ns = moved_time.reader(path)  # type: ignore[attr-defined]
    sys.modules[clock.__name__] = clock


def _enter(own_folders: str) -> None:
    mounts = _own_module("mounts")
    try:
        mounts.enter(own_folders)
    except OSError as problem:
        sys.exit(f"the folders of the function cannot be mounted: {problem}")


def _own_module(name: str) -> types.ModuleType:
    """Imports a module of this folder, and leaves its name free for one of the function."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path.insert(0, here)
    module = importlib.import_module(name)
    sys.path.remove(here)
    del sys.modules[name]
    return module


if __name__ == "__main__":
    main()
