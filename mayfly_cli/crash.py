"""`mayfly crash`: the crash lab."""

from pathlib import Path

import click

__all__ = ["crash"]


@click.command()
@click.option(
    "--repeats",
    type=click.IntRange(min=1),
    default=2,
    show_default=True,
    metavar="N",
    help="Runs for each call and fault.",
)
@click.option(
    "--client",
    type=click.Choice(["lean", "boto3"]),
    default="lean",
    show_default=True,
    envvar="MAYFLY_CLIENT",
    help="The client of Mayfly's workers. The stock recipe always has boto3's.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def crash(*, repeats: int, client: str, as_json: bool) -> int:
    """Strikes real workers at every store call, redelivers, and counts each effect.

    Workers are killed, paused and cut off. The control is the stock Powertools recipe, which must
    show doubles. Mayfly must show none.
    """
    from mayfly_lab.lab import run
    from mayfly_lab.report import verdict, write

    outcomes = run(
        Path(__file__).parent.parent,
        repeats=repeats,
        client=client,
        say=lambda text: click.echo(text, err=True),
    )
    write(outcomes, as_json=as_json)
    return verdict(outcomes)
