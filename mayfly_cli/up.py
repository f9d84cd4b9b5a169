"""`mayfly up`: a SAM application on this machine."""

import asyncio
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import click

from mayfly_cli.options import PAIR, SECONDS
from mayfly_local.errors import LocalError
from mayfly_local.stack_file import StackFile

__all__ = ["up"]


class _Port(click.ParamType[int]):
    name = "port"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Returns the port, or ends the command."""
        if not str(value).isdigit() or not 0 < int(value) < 65536:
            self.fail(f"{value!r} is not a port from 1 to 65535", param, ctx)
        return int(value)


@click.command()
@click.option(
    "--template",
    type=click.Path(path_type=Path),
    default=Path("template.yaml"),
    show_default=True,
    help="The SAM template.",
)
@click.option(
    "--port", type=_Port(), default=3000, show_default=True, help="The port of the HTTP API."
)
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Keep what is stored in this folder, through any kill.  [default: in memory]",
)
@click.option(
    "--log",
    type=click.Choice(["json", "text"]),
    default="text",
    show_default=True,
    help="The form of the log on the terminal.",
)
@click.option(
    "--endpoint-url",
    metavar="URL",
    help="Use this AWS-compatible endpoint for state, not the embedded emulator.",
)
@click.option(
    "--parameter",
    "parameters",
    type=PAIR,
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the template; may be repeated.",
)
@click.option(
    "--layer",
    "layers",
    type=PAIR,
    multiple=True,
    metavar="ARN=PATH",
    help="The folder or zip archive of a layer that the template names by ARN; may be repeated.",
)
@click.option(
    "--ttl-lag",
    type=SECONDS,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How late expired items are deleted; AWS may take days.",
)
@click.option(
    "--retry-delay",
    type=SECONDS,
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="The pause before the first retry of an asynchronous invocation, on AWS a minute; the "
    "second is twice as long.",
)
@click.option(
    "--transaction-time",
    type=click.FloatRange(0, 10),
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="For how long a transaction holds its items; other writes of them are refused meanwhile, "
    "as on AWS, where it is about 0.02.",
)
@click.option(
    "--grace",
    type=SECONDS,
    default=10.0,
    show_default=True,
    metavar="SECONDS",
    help="How long a stop waits for running invocations.",
)
@click.option(
    "--idle",
    type=SECONDS,
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="When an idle process is stopped.",
)
@click.option(
    "--work",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Logs and run files.  [default: .mayfly next to the template]",
)
@click.option(
    "--runtime",
    type=click.Choice(["awslambdaric", "python"]),
    default="awslambdaric",
    show_default=True,
    help="The loop that calls handlers; python is used if awslambdaric has no wheels.",
)
@click.option(
    "--allow-host",
    "hosts",
    type=str.lower,
    multiple=True,
    metavar="NAME",
    help="Another host name, next to localhost, for requests to the stack; may be repeated.",
)
@click.option(
    "--any-credentials",
    is_flag=True,
    help="Let the emulator accept any AWS credentials, as before 0.2.0. Every program of this "
    "machine can read and write it then.",
)
@click.option(
    "--debug",
    multiple=True,
    metavar="FUNCTION",
    help="Let this function wait for a debugger (debugpy), with its timeouts off; may be repeated.",
)
@click.option("--no-reload", is_flag=True, help="Do not watch the code for changes.")
@click.option(
    "--strict", is_flag=True, help="Refuse a template with parts that are absent on this machine."
)
@click.option(
    "--movable-clock",
    is_flag=True,
    help="Let tests move the stack's time ahead (`stack.advance` of the pytest plugin).",
)
def up(
    *,
    template: Path,
    port: int,
    state: Path | None,
    log: str,
    endpoint_url: str | None,
    parameters: tuple[tuple[str, str], ...],
    layers: tuple[tuple[str, str], ...],
    ttl_lag: float,
    retry_delay: float,
    transaction_time: float,
    grace: float,
    idle: float,
    work: Path | None,
    runtime: str,
    hosts: tuple[str, ...],
    any_credentials: bool,
    debug: tuple[str, ...],
    no_reload: bool,
    strict: bool,
    movable_clock: bool,
) -> None:
    """Runs a SAM application on this machine, on loopback only, until Ctrl-C."""
    from mayfly_local.up import Options
    from mayfly_local.up import up as run

    if movable_clock and (state is not None or endpoint_url is not None):
        # Stored times would be ahead of the clock of the next start, or of the endpoint.
        raise click.UsageError("--movable-clock keeps no state: leave out --state, --endpoint-url")
    if transaction_time and endpoint_url:
        raise click.UsageError(
            "--transaction-time is for the embedded emulator; leave out --endpoint-url"
        )
    template = template.resolve()
    options = Options(
        template=template,
        port=port,
        work=_work_folder(work, template, port),
        state=state.resolve() if state else None,
        log=log,
        endpoint=endpoint_url,
        parameters=_asked_for(template, dict(parameters)),
        ttl_lag=ttl_lag,
        retry_delay=retry_delay,
        transaction_seconds=transaction_time,
        grace=grace,
        idle=idle,
        pure_python=runtime == "python",
        reload=not no_reload,
        hosts=frozenset(hosts),
        any_credentials=any_credentials,
        strict=strict,
        debug=debug,
        movable_clock=movable_clock,
        layers={arn: _layer_folder(path) for arn, path in layers},
    )
    try:
        code = asyncio.run(run(options))
    except LocalError as problem:
        click.echo(f"mayfly: {problem}", err=True)
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # a thread that waits for an emulator that is gone is not waited for


def _asked_for(template: Path, parameters: dict[str, str]) -> dict[str, str]:
    """Returns the parameters with those that the terminal was asked for.

    Without a terminal nothing is asked; the start then names what is missing.
    """
    if not sys.stdin.isatty():
        return parameters
    from mayfly_local.application.transformation import unanswered

    for name, spec in unanswered(template, parameters).items():
        text = f"{name} ({spec['Description']})" if spec.get("Description") else name
        parameters[name] = click.prompt(f"{text}\n  --parameter {name}")
    return parameters


def _layer_folder(path: str) -> Path:
    folder = Path(path).resolve()
    if not folder.is_dir() and not zipfile.is_zipfile(folder):
        raise click.BadParameter(f"{path} is not a folder or a zip archive", param_hint="--layer")
    return folder


def _work_folder(work: Path | None, template: Path, port: int) -> Path:
    """Returns the folder that the call names, or `.mayfly` next to the template.

    A second stack of the same template gets a folder below that one.
    """
    if work is not None:
        return work.resolve()
    folder = template.parent / ".mayfly"
    try:
        StackFile.refuse_a_second(folder)
    except LocalError:
        return folder / f"port-{port}"
    return folder
