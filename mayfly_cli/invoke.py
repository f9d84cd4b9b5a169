"""`mayfly invoke`: one function of the running stack."""

import asyncio
from pathlib import Path

import click

from mayfly_cli.options import work

__all__ = ["invoke"]


@click.command()
@click.argument("function")
@click.option(
    "--event",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The event as JSON.  [default: events/FUNCTION.json]",
)
@click.option("--container", is_flag=True, help="Use `sam local invoke`, in a container.")
@click.option(
    "--skip-pull-image",
    is_flag=True,
    help="With --container: use the image that is on this machine.",
)
@work
def invoke(
    *, function: str, event: Path | None, container: bool, skip_pull_image: bool, work: Path
) -> int:
    """Invokes one function of the running stack and prints its result.

    FUNCTION is its logical id, or the name of its folder.
    """
    from mayfly_local.invoke import in_container, in_process, read_event, require_engine

    bridge = asyncio.run(require_engine(function)) if container else ""
    value, path = read_event(event, function, work=work)
    if not container:
        return asyncio.run(in_process(function, value, work=work))
    sam = Path(".venv-sam/bin/sam")
    more = ["--skip-pull-image"] if skip_pull_image else []
    return asyncio.run(in_container(function, path, work=work, sam=sam, bridge=bridge, more=more))
