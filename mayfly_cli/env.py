"""`mayfly env`: the running stack's emulator for SDKs and the AWS CLI."""

import json
import shlex
from pathlib import Path

import click

from mayfly_cli.options import as_json, work

__all__ = ["env"]


@click.command()
@as_json
@work
def env(*, as_json: bool, work: Path) -> None:
    """Prints what makes SDKs and the AWS CLI use the running stack's emulator.

    The lines are for a shell, as in: eval "$(mayfly env)". The access key in them is this stack's
    own, the same at every start. AWS_SAM_STACK_NAME is for tests that read the stack's outputs.
    """
    from mayfly_local.iam.credentials import emulator_variables
    from mayfly_local.stack_file import StackFile

    stack = StackFile.read(work)
    variables = {
        **emulator_variables(stack.endpoint, stack.people), "AWS_SAM_STACK_NAME": stack.name
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(variables))
        return
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")
