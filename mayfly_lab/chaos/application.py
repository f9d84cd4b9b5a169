"""The application of a chaos run: this repository's, with tasks and clocks of its own.

A machine's clock cannot be set without being its administrator. Functions read the time in one
module (`mayfly.core.clock`), so the copy of the library that this stack runs has a clock there that
can be set for each function.
"""

import shutil
from pathlib import Path
from typing import Final

__all__ = ["Clocks", "copy_application", "impatient"]

_TASKS: Final = '''"""Tasks of a chaos run."""

from mayfly import Effects, Job, task


@task("chaos.exclusive", exclusive=True)
def exclusive(job: Job, effects: Effects) -> None:
    """Adds to a counter, in a job that is claimed before it runs."""
    effects.increment(job.payload["name"], job.payload["by"])


@task("chaos.chain")
def chain(job: Job, effects: Effects) -> None:
    """Adds to a counter, and submits a job that adds 1 to another one."""
    effects.increment(job.payload["name"], job.payload["by"])
    effects.submit("counter.add", {"name": job.payload["then"], "by": 1}, max_attempts=20)
'''

_CLOCK: Final = '''

import os
from pathlib import Path

_STEPS = Path({folder!r}, os.environ["AWS_LAMBDA_FUNCTION_NAME"])


def system_clock() -> int:
    """Returns milliseconds since the epoch by this function's clock."""
    step_ms = int(_STEPS.read_text()) if _STEPS.exists() else 0
    return time.time_ns() // 1_000_000 + step_ms
'''


class Clocks:
    """The clocks of functions, each as far from the right time as a file says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def step(self, function: str, milliseconds: int) -> None:
        """Sets the clock of a function, in all its processes, to a time that is not right."""
        partial = self._folder / f".{function}"
        partial.write_text(str(milliseconds))
        partial.rename(self._folder / function)

    def correct(self) -> None:
        """Sets every clock right."""
        for path in list(self._folder.iterdir()):
            self.step(path.name, 0)


def copy_application(root: Path, folder: Path) -> tuple[Path, Clocks]:
    """Copies the application in `root` to a folder; returns its template, and its clocks.

    Messages return after 10 and 45 s instead of 90 and 120 s, which is the cost of a kill before a
    worker's first call.
    """
    for name in ("functions", "layers"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "functions/tasks/chaos.py").write_text(_TASKS)
    # Functions see no other folder of /tmp than their code and layers.
    steps = folder / "layers/mayfly/clocks"
    with (folder / "layers/mayfly/mayfly/core/clock.py").open("a") as clock:
        clock.write(_CLOCK.format(folder=str(steps)))
    # Packages that were installed for another run of the same application are used again.
    (root / ".mayfly/cache").mkdir(parents=True, exist_ok=True)
    (folder / ".mayfly").mkdir()
    (folder / ".mayfly/cache").symlink_to(root / ".mayfly/cache")
    template = folder / "template.yaml"
    template.write_text(impatient((root / "template.yaml").read_text()))
    return template, Clocks(steps)


def impatient(template: str) -> str:
    """Returns this repository's template with messages that return soon after a kill.

    Those of jobs return after 10 s instead of 90 s, those of webhooks after 45 s instead of 120 s:
    a delivery does not begin with less than 30 s left.
    """
    for old, new in ((90, 10), (120, 45)):
        # A worker's timeout, and the visibility timeout of its queue.
        assert template.count(f"Timeout: {old}\n") == 2
        template = template.replace(f"Timeout: {old}\n", f"Timeout: {new}\n")
    return template
