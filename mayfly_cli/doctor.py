"""`mayfly doctor`: compares library, template and stored items, and says what to do."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from mayfly_cli.nested_stack import ANY_STACK_HAS
from mayfly_cli.options import as_json, work
from mayfly_cli.target import Target, aws_failures, check_endpoint
from mayfly_local.errors import LocalError, TemplateError

if TYPE_CHECKING:
    from mayfly_cli.findings import Finding

__all__ = ["doctor"]

#: The most items of each table of a deployed stack that are read, unless the caller says how many.
_ITEMS: Final = 1000
_NAMES: Final = ("template.yaml", "template.yml")


@click.command()
@click.option("--stack", metavar="NAME", help="A deployed stack.  [default: the running local one]")
@click.option(
    "--endpoint-url", metavar="URL", help="The AWS-compatible endpoint that holds the stack."
)
@click.option(
    "--template",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The project's template.  [default: template.yaml or template.yml, if there is one]",
)
@click.option(
    "--items",
    type=click.IntRange(min=0),
    metavar="N",
    help="The most items to read of each table.  [default: 1000; of the local stack: all]",
)
@work
@as_json
def doctor(
    *,
    stack: str | None,
    endpoint_url: str | None,
    template: Path | None,
    items: int | None,
    work: Path,
    as_json: bool,
) -> int:
    """Says what must be done after an update, and changes nothing.

    It compares the installed library, the project's template with its mayfly.yaml, the stack that
    runs here or the deployed one of --stack, and the formats of the items in its tables. Each
    finding names a thing, what it is and what to do. Lines of "not checked" say what could not be
    compared, and why.

    The exit code is 0 if nothing must be done, 1 if something must, and 2 for an invalid call.
    """
    from mayfly_cli.findings import has_problem

    check_endpoint(stack, endpoint_url)
    path = template or _template(Path())
    if template is not None and not template.exists():
        raise click.UsageError(f"there is no template {template}")
    findings: list[Finding] = []
    with aws_failures(stack):
        for finding in _examined(path, stack, endpoint_url, items, work):
            findings.append(finding)
            _show(finding, as_json=as_json)
    if not as_json:
        _summarize(findings)
    return 1 if has_problem(findings) else 0


def _template(folder: Path) -> Path | None:
    """Returns the template of a folder, None if it has none."""
    return next((folder / name for name in _NAMES if (folder / name).exists()), None)


def _examined(
    path: Path | None, stack: str | None, endpoint_url: str | None, items: int | None, work: Path
) -> "Iterator[Finding]":
    from mayfly_cli.findings import unchecked
    from mayfly_cli.item_checks import item_checks
    from mayfly_cli.parts_checks import compared
    from mayfly_cli.project_checks import installed_checks
    from mayfly_cli.stack_parts import installed_parts
    from mayfly_cli.stack_reading import StackReading

    yield from installed_checks()
    if path is None:
        yield unchecked("template", "template", "there is no template.yaml in this folder")
    else:
        yield from _examined_project(path)
    try:
        target = Target(stack, endpoint_url, work)
    except LocalError as problem:
        yield unchecked("stack", "stack", str(problem))
        return
    reading = StackReading(target)
    parts = reading.parts()
    yield from reading.findings
    if ANY_STACK_HAS not in reading.tables:
        yield unchecked("stack", target.name, "it has no part of Mayfly")
        return
    update = (
        "start mayfly up again with the template of this release"
        if target.is_local
        else "deploy the template of this release: sam build, then sam deploy"
    )
    unread = {finding.thing for finding in reading.findings}
    for finding in compared(parts, installed_parts(parts.features), update):
        if finding.thing not in unread:
            yield _at(f"stack {target.name}", finding)
    most = items if items is not None else None if target.is_local else _ITEMS
    for finding in item_checks(target.client("dynamodb"), reading.tables, most):
        yield _at(f"stack {target.name}", finding)
    if not target.is_local:
        yield unchecked(
            "library",
            f"stack {target.name}",
            "Lambda does not say which library the code of a function has; sam build bundles what "
            "requirements.txt asks for",
        )


def _examined_project(path: Path) -> "Iterator[Finding]":
    """Yields the findings about a template, and about the files next to it."""
    from mayfly_cli.findings import unchecked
    from mayfly_cli.new_application import PART
    from mayfly_cli.parts_checks import compared
    from mayfly_cli.project_checks import file_checks, requirement_checks
    from mayfly_cli.stack_parts import StackParts, installed_parts
    from mayfly_local.application.template import load

    yield from file_checks(path.parent)
    try:
        with tempfile.TemporaryDirectory(prefix="mayfly-") as cache:
            template = load(path, cache=Path(cache))
    except TemplateError as failure:
        yield unchecked("template", str(path), str(failure))
        return
    yield from requirement_checks(template)
    parts = StackParts.of(template)
    if not parts.is_mayfly:
        yield unchecked("template", str(path), "it has no part of Mayfly")
        return
    is_nested = (path.parent / PART).exists()
    take_over = "run mayfly add" if is_nested else "take it over from this release's template"
    for finding in compared(
        parts, installed_parts(parts.features), f"{take_over}, then sam build and sam deploy"
    ):
        yield _at(str(path), finding)


def _at(place: str, finding: "Finding") -> "Finding":
    from dataclasses import replace

    return replace(finding, thing=f"{place}: {finding.thing}" if finding.thing else place)


def _show(finding: "Finding", *, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(finding), ensure_ascii=False))
        return
    click.echo(f"{finding.weight:<11}  {finding.thing}: {finding.what}")
    if finding.action:
        click.echo(f"{'':<11}  -> {finding.action}")


def _summarize(findings: "list[Finding]") -> None:
    from mayfly import __version__

    counts = Counter(finding.weight.value for finding in findings)
    problems = counts["problem"]
    said = "nothing must be done" if not problems else f"{problems} to do"
    click.echo(f"\nmayfly {__version__}: {said}; {counts['not checked']} not checked")
