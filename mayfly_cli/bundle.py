"""`mayfly bundle`: what is deployed of one function. The Makefile of its code calls it."""

import os
from pathlib import Path

import click

from mayfly_local.errors import LocalError

__all__ = ["bundle"]


@click.command()
@click.argument("function")
@click.argument("code", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--service",
    "services",
    multiple=True,
    metavar="NAME",
    help="Keep botocore's data of this AWS service, too. May be given again.",
)
@click.option(
    "--template",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The function's template.  [default: searched for from CODE upwards]",
)
def bundle(
    *, function: str, code: Path, folder: Path, services: tuple[str, ...], template: Path | None
) -> None:
    """Fills FOLDER with what is deployed of the function with the logical id FUNCTION.

    That is the folder CODE, the packages of its requirements.txt without what no function needs,
    and byte-code of both. `sam build` calls it through the Makefile of CODE. BYTECODE=off in the
    environment leaves byte-code out.
    """
    from mayfly_cli.bundling.application import build
    from mayfly_cli.bundling.bytecode import OFF_COSTS
    from mayfly_cli.bundling.cache import Cache
    from mayfly_cli.bundling.errors import BundleError
    from mayfly_cli.bundling.services import SERVICES
    from mayfly_cli.function_target import find_function

    bytecode = os.environ.get("BYTECODE", "")
    if bytecode not in ("", "off"):
        raise LocalError(f"BYTECODE is {bytecode!r}; it may be off")
    found = find_function(function, code, template)
    try:
        build(
            code.resolve(), folder, found.target, services={*SERVICES, *services},
            cache=Cache(found.template.parent / ".aws-sam" / "mayfly"), bytecode=bytecode != "off",
        )  # fmt: skip
    except BundleError as problem:
        raise LocalError(str(problem)) from None
    if bytecode == "off":
        click.echo(f"BYTECODE=off: {OFF_COSTS}")
