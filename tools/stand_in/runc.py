"""Runs runc on a container's bundle, without the limits that this machine cannot set.

Podman calls this program in place of runc. Podman asks for higher limits in `process.rlimits`.
Raising a limit takes CAP_SYS_RESOURCE, which a machine of CI may lack. Without the entry, a
container has the limits of the process that starts it.
"""

import json
import os
import sys
from itertools import pairwise
from pathlib import Path
from typing import Final

__all__ = ["without_limits"]

_RUNC: Final = "/usr/sbin/runc"


def without_limits(arguments: list[str]) -> None:
    """Removes the limits from the bundle that the arguments name, if they name one."""
    for flag, value in pairwise(arguments):
        if flag in ("--bundle", "-b"):
            path = Path(value) / "config.json"
            config = json.loads(path.read_text())
            if config["process"].pop("rlimits", None) is not None:
                path.write_text(json.dumps(config))


if __name__ == "__main__":
    without_limits(sys.argv[1:])
    os.execv(_RUNC, [_RUNC, *sys.argv[1:]])
