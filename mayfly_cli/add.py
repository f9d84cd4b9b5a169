"""`mayfly add`: parts of Mayfly in a SAM project that exists."""

import difflib
from pathlib import Path

import click

from mayfly_local.errors import LocalError

__all__ = ["add"]


@click.command()
@click.argument("parts", nargs=-1, metavar="[PART]...")
@click.option(
    "--template",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The project's template.  [default: template.yaml or template.yml]",
)
@click.option("--name", default="", metavar="ID", help="The logical id.  [default: Mayfly]")
@click.option(
    "--code",
    default="",
    metavar="FOLDER",
    help="The folder of the code of Mayfly's functions.  [default: mayfly_code]",
)
@click.option(
    "--tasks",
    default="",
    metavar="PACKAGE",
    help="The package of the tasks in that folder.  [default: tasks]",
)
@click.option(
    "--runtime",
    default="",
    metavar="RUNTIME",
    help="Lambda's Python.  [default: the one of the template]",
)
@click.option("--print", "only_prints", is_flag=True, help="Show the changes and make none.")
@click.option("--force", is_flag=True, help="Replace a mayfly.yaml that was changed by hand.")
def add(
    *,
    parts: tuple[str, ...],
    template: Path | None,
    name: str,
    code: str,
    tasks: str,
    runtime: str,
    only_prints: bool,
    force: bool,
) -> None:
    """Adds parts of Mayfly to the SAM project in this folder.

    The parts are sessions, limits, counters, jobs, schedules, webhooks and imports. They are
    written to mayfly.yaml, which the template nests. Without a part, those of mayfly.yaml are
    updated to the installed release.
    """
    from mayfly_cli.addition import Addition, Choices, planned
    from mayfly_cli.file_set import write_all

    path = template or _template(Path())
    plan: Addition = planned(
        path, Choices(parts, name=name, code=code, tasks=tasks, runtime=runtime), force=force
    )
    if not only_prints:
        write_all({file: content for file, (_, content) in plan.files.items()})
    for file, (before, _) in plan.files.items():
        done = "written" if before is None else "changed"
        click.echo(f"{file}: {f'would be {done}' if only_prints else done}")
    if not plan.files:
        click.echo("nothing to change")
    if path in plan.files:
        before, content = plan.files[path]
        click.echo()
        click.echo("".join(_difference(path, before or b"", content)), nl=False)
    click.echo("\n" + "\n".join(plan.advice))


def _template(folder: Path) -> Path:
    """Returns the template of a folder. Raises LocalError if it has none, or two."""
    found = [folder / name for name in ("template.yaml", "template.yml")]
    found = [path for path in found if path.exists()]
    if len(found) == 1:
        return found[0]
    if found:
        raise LocalError(
            "there are a template.yaml and a template.yml: name one with --template FILE"
        )
    if (folder / "template.json").exists():
        raise LocalError(
            "template.json is a template in JSON: mayfly add changes only YAML; "
            "nest the output of mayfly template in it yourself"
        )
    raise LocalError(
        "there is no template.yaml or template.yml here: name one with --template FILE"
    )


def _difference(path: Path, before: bytes, after: bytes) -> list[str]:
    """Returns the difference of a file as text, without the carriage returns of its lines."""
    old, new = (content.decode("utf-8").splitlines() for content in (before, after))
    lines = difflib.unified_diff(old, new, str(path), str(path), lineterm="")
    return [f"{line}\n" for line in lines]
