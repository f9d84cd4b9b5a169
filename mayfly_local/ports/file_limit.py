"""The limit of open files of this process."""

import resource
from contextlib import suppress

__all__ = ["raise_file_limit"]


def raise_file_limit(at_most: int = 65_536) -> int:
    """Raises the soft limit of open files as far as the system allows, and returns it.

    macOS starts with 256.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = at_most if hard == resource.RLIM_INFINITY else min(hard, at_most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # macOS refuses a limit above its own (OPEN_MAX).
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return soft
