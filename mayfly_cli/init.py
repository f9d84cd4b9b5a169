"""`mayfly init`: a new application."""

import os
import shutil
from pathlib import Path

import click

from mayfly_local.errors import LocalError

__all__ = ["init"]


@click.command()
@click.argument("name")
@click.option(
    "--runtime",
    metavar="RUNTIME",
    help="Lambda's Python, such as python3.13.  [default: the one of this Python]",
)
def init(*, name: str, runtime: str | None) -> None:
    """Makes a small application in the folder NAME, which is also the name of its package.

    The application has a route, a task, a schedule and tests, and runs at once.
    """
    from mayfly_cli.new_application import RUNTIMES, name_problem, rendered, runtime_here

    runtime = runtime or runtime_here()
    if runtime not in RUNTIMES:
        raise LocalError(
            f"{runtime} is not a runtime that Mayfly supports: choose one of "
            f"{', '.join(RUNTIMES)} with --runtime"
        )
    if problem := name_problem(name):
        raise LocalError(f"{name!r} {problem}")
    folder = Path(name)
    if folder.exists() or folder.is_symlink():
        raise LocalError(f"{folder} exists already: choose another name, or delete it")
    _write(folder, dict(rendered(name, runtime)))
    click.echo(
        f"{folder} is made, for {runtime}. Next:\n"
        f"  cd {folder}\n"
        "  mayfly up     # runs it on this machine\n"
        "  pytest        # its tests"
    )


def _write(folder: Path, files: dict[Path, str]) -> None:
    """Writes all files, or nothing. Raises LocalError."""
    unfinished = folder.with_name(f".{folder.name}.{os.getpid()}")
    try:
        unfinished.mkdir()
        for path, text in files.items():
            (unfinished / path).parent.mkdir(parents=True, exist_ok=True)
            (unfinished / path).write_text(text, encoding="utf-8")
        unfinished.rename(folder)
    except OSError as problem:
        raise LocalError(f"{folder} cannot be made: {problem.strerror}") from None
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
