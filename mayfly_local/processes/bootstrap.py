"""The first step of every child process: ties the process to its supervisor, then runs its target.

It runs as a script, and loads as little as possible:
`bootstrap.py SUPERVISOR_PID MODULE_OR_FILE [ARGUMENT ...]`.
"""

import os
import runpy
import sys

_PR_SET_PDEATHSIG = 1
_SIGKILL = 9


def main() -> None:
    """Ties this process to its supervisor and runs the target as `__main__`."""
    supervisor, target = int(sys.argv[1]), sys.argv[2]
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != supervisor:  # The supervisor died before the tie was made.
        sys.exit(1)
    sys.argv = sys.argv[2:]
    if target.endswith(".py"):
        runpy.run_path(target, run_name="__main__")
    else:
        runpy.run_module(target, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
