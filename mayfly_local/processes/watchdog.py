"""The watchdog process: outlives the supervisor for a moment, and kills the processes that it left.

It reads `+PID` and `-PID` lines from standard input: process groups that started and ended. The end
of the input means that the supervisor is gone, for whatever reason. The watchdog then kills every
group that is still listed. It covers the cases that a parent-death signal does not: children of the
children, and systems without such a signal.
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
