"""`mayfly template`: the parts of Mayfly, as a template that an application nests."""

import click

from mayfly_local.errors import LocalError

__all__ = ["template"]


@click.command()
@click.argument("parts", nargs=-1, metavar="[PART]...")
@click.option("--runtime", metavar="RUNTIME", help="Lambda's Python, such as python3.13.")
@click.option("--code", metavar="FOLDER", default="mayfly_code", show_default=True,
              help="The folder with requirements.txt, Makefile and tasks.")  # fmt: skip
@click.option("--tasks", metavar="PACKAGE", default="", help="The package of the tasks.")
@click.option("--makefile", is_flag=True,
              help="Print the Makefile of FOLDER instead, which sam build needs.")  # fmt: skip
def template(
    *, parts: tuple[str, ...], runtime: str | None, code: str, tasks: str, makefile: bool
) -> None:
    """Prints parts of Mayfly as a template to nest; all of them by default.

    The parts are sessions, limits, counters, jobs, schedules, webhooks and imports.
    """
    from mayfly_cli.new_application import MAKEFILE, RUNTIMES, runtime_here
    from mayfly_cli.parts import FEATURES, Wanted, nested

    if makefile:
        click.echo(MAKEFILE.read_text(encoding="utf-8"), nl=False)
        return

    runtime = runtime or runtime_here()
    if runtime not in RUNTIMES:
        raise LocalError(
            f"{runtime} is not a runtime that Mayfly supports: choose one of {', '.join(RUNTIMES)}"
        )
    try:
        text = nested(Wanted(parts or tuple(FEATURES), code, runtime, tasks))
    except ValueError as problem:
        raise LocalError(str(problem)) from None
    click.echo(text, nl=False)
