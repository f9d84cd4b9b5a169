"""Outlives the supervisor by a moment, to kill what it left.

Reads `+PID` and `-PID` lines from standard input: process groups that started and ended. The end of
the input means that the supervisor is gone, however it went; then every group still listed is
killed. It covers what a parent-death signal does not: the children of the children, and systems
without such a signal.
"""

import os
import signal
import sys


def main() -> None:
    """Follows the list until the supervisor is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        pid = int(line[1:])
        if line[0] == "+":
            groups.add(pid)
        else:
            groups.discard(pid)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            continue


if __name__ == "__main__":
    main()
