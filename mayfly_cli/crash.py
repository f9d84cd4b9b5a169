"""`mayfly crash`: the crash lab, and chaos for a whole stack."""

import secrets

import click

from mayfly_cli.checkout import checkout

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
@click.option(
    "--chaos",
    "seconds",
    type=click.FloatRange(min=1),
    metavar="SECONDS",
    help="Strike a whole stack under load for this long instead, and count per tenant.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    help="With --chaos: draws the strikes and the load.  [default: a new one, which is printed]",
)
@click.option(
    "--no-latency",
    is_flag=True,
    help="With --chaos: do not measure a quiet tenant next to a flooding one.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def crash(
    *,
    repeats: int,
    client: str,
    seconds: float | None,
    seed: int | None,
    no_latency: bool,
    as_json: bool,
) -> int:
    """Strikes real workers at every store call, redelivers, and counts each effect.

    Workers are killed, paused and cut off. The control is the stock Powertools recipe, which must
    show doubles. Mayfly must show none.

    With --chaos, a whole stack gets load from several tenants, while processes of every kind are
    killed and stopped, answers are lost and clocks are set to wrong times. Then what was
    acknowledged is compared with what is there. Any difference is named, and the exit code is 1.
    """
    if seconds is not None:
        return _chaos(
            seconds,
            secrets.randbelow(10**6) if seed is None else seed,
            measures_latency=not no_latency,
            as_json=as_json,
        )
    if seed is not None or no_latency:
        raise click.UsageError("--seed and --no-latency need --chaos SECONDS")
    from mayfly_lab.lab import run
    from mayfly_lab.report import verdict, write

    with checkout() as root:
        outcomes = run(
            root,
            repeats=repeats,
            client=client,
            say=lambda text: click.echo(text, err=True),
        )
    write(outcomes, as_json=as_json)
    return verdict(outcomes)


def _chaos(seconds: float, seed: int, *, measures_latency: bool, as_json: bool) -> int:
    from mayfly_lab.chaos.storm import run
    from mayfly_lab.chaos.table import verdict, write

    click.echo(f"seed {seed}", err=True)
    with checkout() as root:
        outcome = run(
            root,
            seconds=seconds,
            seed=seed,
            measures_latency=measures_latency,
            say=lambda text: click.echo(text, err=True),
        )
    write(outcome, seed=seed, as_json=as_json)
    return verdict(outcome)
