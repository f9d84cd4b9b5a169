"""Options and types of arguments that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from mayfly.core.json_input import NAME, NAME_PROBLEM

__all__ = ["NAME_TYPE", "PAIR", "SECONDS", "as_json", "tenant", "work"]

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


class _Name(click.ParamType[str]):
    """A name of a task, a counter, a tenant, a subject or a job."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Returns the name, or ends the command."""
        if not NAME.fullmatch(value):
            self.fail(f"{value!r} {NAME_PROBLEM}", param, ctx)
        return str(value)


class _Seconds(click.ParamType[float]):
    """A time span in seconds."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Returns the seconds, or ends the command."""
        try:
            seconds = float(value)
        except ValueError:
            seconds = -1
        if not 0 <= seconds < float("inf"):
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return seconds


class _Pair(click.ParamType[tuple[str, str]]):
    """NAME=VALUE."""

    name = "pair"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        """Returns name and value, or ends the command."""
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        if not equals:
            self.fail(f"{value!r} is not NAME=VALUE", param, ctx)
        return name, text


NAME_TYPE = _Name()
SECONDS = _Seconds()
PAIR = _Pair()

#: The run files of the running stack. `mayfly up` sets the variable for its AfterDeploy commands.
work: Decorator = click.option(
    "--work",
    type=click.Path(path_type=Path),
    default=Path(".mayfly"),
    envvar="MAYFLY_WORK",
    metavar="DIR",
    show_default=True,
    help="The running stack's run files.",
)
as_json: Decorator = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
tenant: Decorator = click.option(
    "--tenant", type=NAME_TYPE, default="default", show_default=True, help="The tenant."
)
