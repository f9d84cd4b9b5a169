"""The `mayfly` command."""

import argparse
import asyncio
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Coroutine
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from mayfly_local.errors import LocalError
from mayfly_local.stack_file import StackFile

__all__ = ["main"]

#: Commands of the library's own operator tool, which runs in a process of its own against a stack.
_OPERATE: Final = ("keys", "jobs", "sessions", "counters", "webhooks")


def main(arguments: list[str] | None = None) -> int:
    """Runs one command and returns its exit code: 1 for a problem, 2 for a call that is off."""
    given = sys.argv[1:] if arguments is None else arguments
    if given and given[0] in _OPERATE:
        return _operate(given)
    options = _parser().parse_args(given)
    try:
        return int(options.run(options))
    except LocalError as problem:
        print(f"mayfly: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # before there was anything to stop
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mayfly", description="A serverless backend that keeps nothing in the process."
    )
    parser.add_argument("--version", action="version", version=f"mayfly {version('mayfly')}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    up = commands.add_parser(
        "up",
        help="run a SAM application on this machine",
        description="Runs a SAM application on this machine, on loopback only, until Ctrl-C.",
    )
    up.add_argument(
        "--template",
        type=Path,
        default=Path("template.yaml"),
        help="the SAM template (default: %(default)s)",
    )
    up.add_argument(
        "--port", type=_port, default=3000, help="where the HTTP API answers (default: %(default)s)"
    )
    up.add_argument(
        "--state",
        type=Path,
        metavar="DIR",
        help="keep what is stored here, through any kill (default: in memory, gone at the stop)",
    )
    up.add_argument(
        "--log",
        choices=("json", "text"),
        default="text",
        help="what the terminal shows (default: %(default)s)",
    )
    up.add_argument(
        "--endpoint-url",
        metavar="URL",
        help="use this AWS-compatible endpoint for state, not the embedded store",
    )
    up.add_argument(
        "--parameter",
        action="append",
        type=_pair,
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the template; may be repeated",
    )
    up.add_argument(
        "--ttl-lag",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="how late expired items are deleted (default: %(default)s; AWS takes up to days)",
    )
    up.add_argument(
        "--grace",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="how long a stop waits for what runs (default: %(default)s)",
    )
    up.add_argument(
        "--idle",
        type=_seconds,
        default=300.0,
        metavar="SECONDS",
        help="when an idle process is stopped (default: %(default)s)",
    )
    up.add_argument(
        "--work",
        type=Path,
        metavar="DIR",
        help="logs and run files (default: .mayfly beside the template)",
    )
    up.add_argument(
        "--runtime",
        choices=("awslambdaric", "python"),
        default="awslambdaric",
        help="the loop that calls handlers (default: awslambdaric, python where it has no wheels)",
    )
    up.add_argument(
        "--allow-host",
        action="append",
        type=str.lower,
        default=[],
        metavar="NAME",
        help="a host name, beside localhost, by which the stack may be asked; may be repeated",
    )
    up.add_argument(
        "--any-credentials",
        action="store_true",
        help="let the store take any AWS credentials, as before 0.2.0; every program of this "
        "machine reads and writes it then",
    )
    up.add_argument("--no-reload", action="store_true", help="do not watch the code for changes")
    up.set_defaults(run=_up)

    invoke = commands.add_parser(
        "invoke",
        help="invoke one function against the running stack",
        description="Invokes one function of the running stack and prints its result.",
    )
    invoke.add_argument("function", help="its logical id, or its folder's name")
    invoke.add_argument(
        "--event",
        type=Path,
        metavar="FILE",
        help="the event as JSON (default: events/FUNCTION.json)",
    )
    invoke.add_argument(
        "--container", action="store_true", help="by `sam local invoke`, in a container"
    )
    invoke.add_argument(
        "--skip-pull-image",
        action="store_true",
        help="with --container: use the image that is on this machine",
    )
    _add_work(invoke)
    invoke.set_defaults(run=_invoke)

    roles = commands.add_parser(
        "roles",
        help="what each function's role allows, and what of it was used",
        description="Prints what the role of each function of the running stack allows, with "
        "how often it was used since the start, and "
        "what was refused. With --check it exits with 1 where something was refused, never "
        "used, or could not be checked.",
    )
    roles.add_argument("--unused", action="store_true", help="only what was never used")
    roles.add_argument(
        "--check",
        action="store_true",
        help="exit with 1 unless everything was used and nothing refused",
    )
    roles.add_argument("--json", action="store_true", help="print JSON")
    _add_work(roles)
    roles.set_defaults(run=_roles)

    env = commands.add_parser(
        "env",
        help="the exports for SDKs and the AWS CLI",
        description="Prints what makes SDKs and the AWS CLI use the running stack's store: "
        "lines for a shell, as in "
        'eval "$(mayfly env)". The access key in them is this stack\'s own, the same at every '
        "start.",
    )
    env.add_argument("--json", action="store_true", help="print JSON")
    _add_work(env)
    env.set_defaults(run=_env)

    crash = commands.add_parser(
        "crash",
        help="the crash lab: kill workers at every store call, and count",
        description="Kills, pauses and cuts off real workers at every store call, redelivers, "
        "and counts how often each effect was "
        "applied: by the stock Powertools recipe, which must show doubles, and by Mayfly, "
        "which must show none.",
    )
    crash.add_argument(
        "--repeats",
        type=_positive,
        default=2,
        metavar="N",
        help="runs for each call and fault (default: %(default)s)",
    )
    crash.add_argument("--json", action="store_true", help="print JSON")
    crash.set_defaults(run=_crash)

    commands.add_parser("keys", help="make, list, rotate and revoke API keys", add_help=False)
    commands.add_parser(
        "jobs", help="look at jobs, cancel, redrive and resend them", add_help=False
    )
    commands.add_parser(
        "sessions", help="look at a subject's sessions, and end them", add_help=False
    )
    commands.add_parser(
        "counters", help="look at counters, add to them, make and delete them", add_help=False
    )
    commands.add_parser(
        "webhooks", help="make and change the secrets that sign webhooks", add_help=False
    )
    return parser


def _add_work(command: argparse.ArgumentParser) -> None:
    """The option of each command that uses the running stack."""
    command.add_argument(
        "--work",
        type=Path,
        default=Path(".mayfly"),
        metavar="DIR",
        help="the running stack's run files (default: %(default)s)",
    )


def _up(options: argparse.Namespace) -> int:
    from mayfly_local.stack import Options, up

    template = options.template.resolve()
    code = _run(
        up(
            Options(
                template=template,
                port=options.port,
                work=_work_folder(options, template),
                state=options.state.resolve() if options.state else None,
                log=options.log,
                endpoint=options.endpoint_url,
                parameters=dict(options.parameter),
                ttl_lag=options.ttl_lag,
                grace=options.grace,
                idle=options.idle,
                pure_python=options.runtime == "python",
                reload=not options.no_reload,
                hosts=frozenset(options.allow_host),
                any_credentials=options.any_credentials,
            )
        )
    )
    sys.stdout.flush()
    os._exit(code)  # a thread that waits in a call to a store that is gone is not waited for


def _run(work: Coroutine[Any, Any, int]) -> int:
    try:
        return asyncio.run(work)
    except LocalError as problem:
        print(f"mayfly: {problem}", file=sys.stderr, flush=True)
        return 1


def _work_folder(options: argparse.Namespace, template: Path) -> Path:
    """The folder asked for; by default `.mayfly`, and one below it for a stack beside another one
    that runs.
    """
    if options.work is not None:
        return Path(options.work).resolve()
    folder = template.parent / ".mayfly"
    try:
        StackFile.refuse_a_second(folder)
    except LocalError:
        return folder / f"port-{options.port}"
    return folder


def _crash(options: argparse.Namespace) -> int:
    from mayfly_lab.lab import run
    from mayfly_lab.report import verdict, write

    outcomes = run(
        Path(__file__).parent.parent,
        repeats=options.repeats,
        say=lambda text: print(text, file=sys.stderr, flush=True),
    )
    write(outcomes, as_json=options.json)
    return verdict(outcomes)


def _invoke(options: argparse.Namespace) -> int:
    from mayfly_local.invoke import in_container, in_process, read_event, require_engine

    bridge = asyncio.run(require_engine(options.function)) if options.container else ""
    event, path = read_event(options.event, options.function, work=options.work)
    if options.container:
        sam = Path(os.environ.get("MAYFLY_SAM", ".venv-sam/bin/sam"))
        more = ["--skip-pull-image"] if options.skip_pull_image else []
        return asyncio.run(
            in_container(
                options.function, path, work=options.work, sam=sam, bridge=bridge, more=more
            )
        )
    return asyncio.run(in_process(options.function, event, work=options.work))


def _env(options: argparse.Namespace) -> int:
    from mayfly_local.compute.launches import store_variables

    stack = StackFile.read(options.work)
    variables = store_variables(stack.endpoint, stack.people)
    if options.json:
        print(json.dumps(dict(variables)))
    else:
        print("\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items()))
    return 0


def _roles(options: argparse.Namespace) -> int:
    from urllib.error import URLError
    from urllib.request import Request, urlopen

    from mayfly_local.emulator.handover import shown

    stack = StackFile.read(options.work)
    headers = {"Authorization": f"Bearer {stack.people.id}"}
    asked = Request(f"{stack.endpoint}/_mayfly/roles", headers=headers)  # noqa: S310 - loopback
    try:
        with urlopen(asked, timeout=10) as reply:  # noqa: S310
            found = json.load(reply)
    except (URLError, ValueError):
        raise LocalError(
            f"the store at {stack.endpoint} has no guard: roles are checked in the embedded "
            "store only"
        ) from None
    granted = shown(found, stack.resources)
    rows = [row for row in granted if not (options.unused and row["used"])]
    if options.json:
        print(
            json.dumps(
                {"grants": rows, "refused": found["refused"], "unchecked": found["unchecked"]}
            )
        )
    else:
        width, middle = (
            max([len(row[name]) for row in rows], default=0) for name in ("function", "action")
        )
        for row in rows:
            print(
                f"{row['function']:<{width}}  {row['action']:<{middle}}  "
                f"{row['used'] or 'unused':>8}  {row['resource']}"
            )
        for each in found["refused"]:
            print(
                f"refused {each['times']}x: {each['function']} {each['action']} on "
                f"{each['resource']}"
            )
        for each in found["unchecked"]:
            print(f"not checked: {each}, whose role is not in the template")
        unused = sum(not row["used"] for row in granted)
        print(
            f"{len(granted)} permissions, {unused} unused, {len(found['refused'])} refused",
            file=sys.stderr,
        )
    is_whole = (
        not found["refused"] and not found["unchecked"] and all(row["used"] for row in granted)
    )
    return int(options.check and not is_whole)


def _operate(arguments: list[str]) -> int:
    """The library's operator tool, pointed at the running local stack unless the call names another
    one.
    """
    env = {**os.environ, **_known_credentials(arguments)}
    if not any(
        each.startswith(("--stack", "--endpoint-url", "-h", "--help")) for each in arguments
    ):
        from mayfly_local.compute.launches import store_variables

        try:
            stack = StackFile.read(Path(".mayfly"))
        except LocalError as problem:
            print(f"mayfly: {problem}", file=sys.stderr)
            return 1
        env |= {
            **store_variables(stack.endpoint, stack.people),
            "MAYFLY_STACK": stack.name,
            "MAYFLY_OUTPUTS": json.dumps(stack.outputs),
        }
    return subprocess.run(
        [sys.executable, "-m", "mayfly.operate", *arguments], env=env, check=False
    ).returncode


def _known_credentials(arguments: list[str]) -> dict[str, str]:
    """The access key of the running local stack, if a call names its endpoint."""
    given = [each.partition("=")[2] for each in arguments if each.startswith("--endpoint-url=")]
    given += [value for name, value in pairwise(arguments) if name == "--endpoint-url"]
    try:
        stack = StackFile.read(Path(".mayfly"))
    except LocalError:
        return {}
    return stack.people.variables if stack.endpoint in given else {}


def _port(text: str) -> int:
    if not text.isdigit() or not 0 < int(text) < 65536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 up")
    return int(text)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value
