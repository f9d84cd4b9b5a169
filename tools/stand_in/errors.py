"""The error that ends the program with a message."""

__all__ = ["StandInError", "output"]

import subprocess
from collections.abc import Mapping, Sequence


class StandInError(Exception):
    """A step failed: `what` was not possible, for the reason `why`."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


def output(
    command: Sequence[str], what: str, *, env: Mapping[str, str] | None = None, text: str = ""
) -> str:
    """Runs a command with `text` as its input, and returns its standard output.

    Raises StandInError with the last lines that it printed if it cannot run, or fails.
    """
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, check=False, env=env
        )
    except OSError as problem:
        raise StandInError(what, f"{command[0]}: {problem.strerror}") from None
    if done.returncode:
        last = "\n".join((done.stdout + done.stderr).strip().splitlines()[-15:])
        raise StandInError(
            what, f"{' '.join(command[:3])} ... exited with {done.returncode}\n{last}"
        )
    return done.stdout
