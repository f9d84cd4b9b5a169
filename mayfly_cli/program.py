"""The program `mayfly`. It says what is missing if the package came without the extra `local`."""

import sys

__all__ = ["main"]


def main() -> int:
    """Runs one command and returns its exit code."""
    try:
        from mayfly_cli.command import main as run
    except ModuleNotFoundError as problem:
        if (problem.name or "").split(".")[0] in ("mayfly", "mayfly_cli", "mayfly_local"):
            raise  # A part of this package is missing, which no extra brings.
        sys.stderr.write(
            f"mayfly: the package {problem.name} is not installed; the command needs the extra "
            "local: pip install 'mayfly-serverless[local]'\n"
        )
        return 1
    return run()
