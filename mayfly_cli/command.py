"""The command `mayfly`: its subcommands, and what their failures look like."""

import sys
from importlib import import_module
from typing import Final

import click
from mayfly.core.errors import MayflyError

from mayfly_local.errors import LocalError

__all__ = ["main", "mayfly"]


#: Subcommands by the modules that hold them. A module is imported when its command is used, so
#: that `mayfly up` does not wait for what it does not need.
_COMMANDS: Final = {
    "init": "Make a small application that runs at once.",
    "add": "Add parts of Mayfly to a SAM project, or update them.",
    "template": "Print parts of Mayfly as a template to nest.",
    "bundle": "Put together what is deployed of a function; sam build calls it.",
    "docs": "Say where the pages of the documentation are.",
    "up": "Run a SAM application on this machine.",
    "doctor": "Say what must be done after an update.",
    "invoke": "Invoke one function of the running stack.",
    "roles": "Show what each function's role allows, and what of it was used.",
    "env": "Print the exports for SDKs and the AWS CLI.",
    "token": "Print a token for a JWT or Cognito authorizer of the running stack.",
    "crash": "Run the crash lab: kill workers at every store call, and count.",
    "keys": "Make, list, rotate and revoke API keys.",
    "jobs": "List, show, cancel, redrive and resend jobs.",
    "sessions": "List and end a subject's sessions.",
    "counters": "Show, add to, make and delete counters.",
    "webhooks": "Make and rotate the secrets that sign webhooks.",
}


class _Lazy(click.Group):
    """A group whose subcommands are imported when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Returns the subcommands in the order of their table."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a subcommand."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(import_module(f"mayfly_cli.{cmd_name}"), cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the subcommands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mayfly-serverless", message="mayfly %(version)s")
def mayfly() -> None:
    """Runs and operates a serverless backend that keeps nothing in the process."""


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code: 1 for a problem, 2 for an invalid call."""
    try:
        # Not `mayfly.main`: click would end the process with 1 if the reader of a pipe has gone.
        words = sys.argv[1:] if arguments is None else arguments
        with mayfly.make_context("mayfly", list(words)) as context:
            code = mayfly.invoke(context)
        sys.stdout.flush()
        return int(code or 0)
    except click.exceptions.Exit as end:
        return int(end.exit_code)
    except click.ClickException as problem:
        problem.show()
        return int(problem.exit_code)
    except (LocalError, MayflyError) as problem:
        click.echo(f"mayfly: {problem}", err=True)
        return 1
    except BrokenPipeError:  # the reader has seen enough
        _discard_output()
        return 0
    except (KeyboardInterrupt, click.Abort):  # before there was anything to stop
        return 130


def _discard_output() -> None:
    """Keeps Python from failing when it flushes output that has no reader."""
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
