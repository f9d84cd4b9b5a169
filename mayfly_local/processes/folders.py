"""The folders that a process of a function has of its own, if this system allows it.

`mounts.py` mounts them, in the process itself.
"""

import json
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["Folders", "why_not"]

_HERE: Final = Path(__file__).parent


@dataclass(frozen=True)
class Folders:
    """What a process sees: its code, its layers, the size of its /tmp.

    `writable` is a folder that stays writable, for byte-code. `needed` are files and folders of the
    runtime itself. They stay visible if they are below a folder that is replaced.
    """

    task: Path
    layers: Sequence[Path]
    tmp_mb: int
    writable: Path
    needed: Iterable[Path]

    @property
    def text(self) -> str:
        """These folders as an argument of `bootstrap.py`."""
        return json.dumps(
            {
                "task": str(self.task),
                "layers": [str(layer) for layer in self.layers],
                "tmp_mb": self.tmp_mb,
                "writable": str(self.writable),
                "needed": sorted({str(path) for path in self.needed}),
            }
        )


def why_not() -> str | None:
    """Returns the reason why a process of this user cannot have folders of its own.

    Tries it in another process, which takes a moment.
    """
    if sys.platform != "linux":
        return f"{platform.system()} has no mount namespaces"
    folders = Folders(task=_HERE, layers=[], tmp_mb=1, writable=_HERE, needed=[])
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(_HERE / "mounts.py"), folders.text],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return None if done.returncode == 0 else done.stderr.strip().rpartition("\n")[2]
