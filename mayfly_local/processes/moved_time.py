"""The time in a process of a stack whose clock a test moves: the machine's, plus a file's offset.

`bootstrap.py` loads this module in each process of a function, so it imports very little.
"""

import mmap
import time
from collections.abc import Callable

__all__ = ["SIZE", "VARIABLE", "reader"]

#: The size of the file: the offset in nanoseconds, little-endian.
SIZE = 8
#: The variable that tells `bootstrap.py` the path of the file. The function never sees it.
VARIABLE = "MAYFLY_CLOCK_FILE"


def reader(path: str) -> Callable[[], int]:
    """Returns a function like `time.time_ns` that adds the offset in a file.

    Each call reads the offset from shared memory. Raises OSError if the file cannot be mapped.
    """
    with open(path, "rb") as file:
        shared = mmap.mmap(file.fileno(), SIZE, access=mmap.ACCESS_READ)
    real = time.time_ns

    def time_ns() -> int:
        return real() + int.from_bytes(shared[:SIZE], "little", signed=True)

    return time_ns
