"""`mayfly jobs`: look at jobs, end them, run them again, and read messages that are not jobs."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click
from mayfly.core.clock import rfc3339, system_clock
from mayfly.jobs import service
from mayfly.jobs.errors import JobEnded, JobIsLive, JobNotFound
from mayfly.jobs.model import Job, Status, Unreadable
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.wire import public

from mayfly_cli.options import NAME_TYPE, tenant
from mayfly_cli.output import show
from mayfly_cli.target import Target, target
from mayfly_local.errors import LocalError

__all__ = ["jobs"]

_LISTED = {"dead": Status.DEAD, "scheduled": Status.SCHEDULED}
_PAGE = 100
_COLUMNS = ("id", "task", "status", "attempts", "created_at", "error")
_FIELDS = (
    "id",
    "task",
    "status",
    "created_at",
    "not_before",
    "max_attempts",
    "payload",
    "result",
    "error",
)


class _WholeSeconds(click.ParamType[int]):
    name = "seconds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Returns the seconds, or ends the command."""
        if not str(value).isdigit():
            self.fail(f"{value!r} is not a whole number of seconds", param, ctx)
        return int(value)


_ids = click.argument("ids", metavar="[ID]...", type=NAME_TYPE, nargs=-1)


@click.group()
def jobs() -> None:
    """Lists, shows, cancels, redrives and resends jobs."""


@jobs.command("list")
@target
@tenant
@click.option(
    "--status",
    type=click.Choice(sorted(_LISTED)),
    default="dead",
    show_default=True,
    help="The status.",
)
@click.option("--task", type=NAME_TYPE, help="Only jobs of this task.")
def list_(*, target: Target, tenant: str, status: str, task: str | None, as_json: bool) -> None:
    """Lists dead or scheduled jobs, by their time."""
    operations = target.jobs()
    rows = [
        _row(public(job, system_clock()), as_json=as_json)
        for job in _listed(operations, tenant, _LISTED[status], task)
    ]
    show(rows, _COLUMNS, as_json=as_json, none=f"no job of tenant {tenant} is {status}")


@jobs.command("show")
@target
@tenant
@click.argument("job_id", metavar="ID", type=NAME_TYPE)
def show_(*, target: Target, tenant: str, job_id: str, as_json: bool) -> None:
    """Shows one job, with its attempts."""
    now_ms = system_clock()
    job = public(target.jobs().store.read(tenant, job_id, now_ms=now_ms), now_ms)
    if as_json:
        show([job], (), as_json=True, none="")
        return
    for field in _FIELDS:
        if field in job:
            value = job[field]
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            click.echo(f"{field:<13} {text}")
    columns = ("number", "started_at", "ended_at", "outcome", "error")
    show(job["attempts"], columns, as_json=False, none="no attempt yet")


@jobs.command()
@target
@tenant
@click.argument("ids", metavar="ID...", type=NAME_TYPE, nargs=-1, required=True)
def cancel(*, target: Target, tenant: str, ids: tuple[str, ...], as_json: bool) -> int:
    """Ends jobs that have not ended; a running one cannot commit any more."""
    operations = target.jobs()
    return _for_each(
        ids,
        lambda job_id: service.cancel(operations, job_id, tenant=tenant),
        as_json=as_json,
    )


@jobs.command()
@target
@tenant
@_ids
@click.option(
    "--all",
    "is_all",
    is_flag=True,
    help="Every dead job of the tenant (with --task: of that task).",
)
@click.option("--task", type=NAME_TYPE, help="With --all: only jobs of this task.")
def redrive(
    *,
    target: Target,
    tenant: str,
    ids: tuple[str, ...],
    is_all: bool,
    task: str | None,
    as_json: bool,
) -> int:
    """Runs dead jobs again, with all their attempts."""
    _require_one_of(ids, "--all", is_given=is_all)
    operations = target.jobs()
    if is_all:
        ids = tuple(job.id for job in _listed(operations, tenant, Status.DEAD, task))
    return _for_each(
        ids,
        lambda job_id: service.redrive(operations, job_id, tenant=tenant),
        as_json=as_json,
    )


@jobs.command()
@target
@tenant
@_ids
@click.option(
    "--stranded",
    is_flag=True,
    help="Jobs of every tenant that should have started long ago; reads the whole table.",
)
@click.option(
    "--older-than",
    type=_WholeSeconds(),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="With --stranded.",
)
def resend(
    *,
    target: Target,
    tenant: str,
    ids: tuple[str, ...],
    stranded: bool,
    older_than: int,
    as_json: bool,
) -> int:
    """Announces jobs again whose message is lost.

    Harmless if a message exists: one worker at a time runs a job.
    """
    _require_one_of(ids, "--stranded", is_given=stranded)
    operations = target.jobs()
    tenants = dict.fromkeys(ids, tenant)
    if stranded:
        stranded_jobs = operations.stranded(before_ms=system_clock() - older_than * 1000)
        tenants = {job.id: job.tenant for job in _with_progress(stranded_jobs)}
    return _for_each(
        list(tenants),
        lambda job_id: operations.resend(tenants[job_id], job_id, now_ms=system_clock()),
        as_json=as_json,
    )


@jobs.command()
@target
@click.option("--show", "shown", metavar="MESSAGE_ID", help="Print one body, whole.")
@click.option("--forget", metavar="MESSAGE_ID", help="Delete one, when it is dealt with.")
def unreadable(*, target: Target, shown: str | None, forget: str | None, as_json: bool) -> None:
    """Lists messages that are not valid jobs; they are stored until they are forgotten."""
    operations = target.jobs()
    if forget:
        operations.forget_unreadable(forget)
        return
    messages = list(operations.unreadable(now_ms=system_clock()))
    if shown:
        chosen = next((message for message in messages if message.message_id == shown), None)
        if chosen is None:
            raise JobNotFound(shown)
        sys.stdout.buffer.write(chosen.body.encode("utf-8", "surrogatepass") + b"\n")
        return
    show(
        [_unreadable_row(message, as_json=as_json) for message in messages],
        ("message_id", "kept_at", "bytes", "problem"),
        as_json=as_json,
        none="none",
    )


def _listed(
    operations: JobOperations, tenant: str, status: Status, task: str | None
) -> Iterator[Job]:
    after: tuple[str, int] | None = None
    while True:
        page = service.list_by_status(operations, status, tenant=tenant, limit=_PAGE, after=after)
        yield from (job for job in page.jobs if task in (None, job.task))
        if page.next is None:
            return
        after = page.next


def _for_each(ids: Sequence[str], act: Callable[[str], Job], *, as_json: bool) -> int:
    """Acts on each job and prints what it is now.

    A job that refuses does not stop the others; the exit code is 1 then.
    """
    rows, refused = [], 0
    for job_id in ids:
        try:
            rows.append(_row(public(act(job_id), system_clock()), as_json=as_json))
        except (JobNotFound, JobEnded, JobIsLive) as problem:
            refused += 1
            click.echo(f"mayfly: {problem}", err=True)
    if rows or not refused:
        show(rows, _COLUMNS, as_json=as_json, none="there was nothing to do")
    return 1 if refused else 0


def _row(job: Mapping[str, Any], *, as_json: bool) -> Mapping[str, Any]:
    if as_json:
        return job
    return {**job, "attempts": len(job["attempts"]), "error": (job["error"] or "-")[:60]}


def _unreadable_row(message: Unreadable, *, as_json: bool) -> Mapping[str, Any]:
    row = {
        "message_id": message.message_id,
        "kept_at": rfc3339(message.kept_at_ms),
        "bytes": len(message.body.encode("utf-8", "surrogatepass")),
        "problem": message.problem,
    }
    return {**row, "body": message.body} if as_json else row


def _with_progress(entries: Iterator[Job | None]) -> Iterator[Job]:
    """Yields the jobs; None is the end of a page, and shown as progress."""
    pages = jobs = 0
    for job in entries:
        if job is not None:
            jobs += 1
            yield job
            continue
        pages += 1
        click.echo(f"\rread {pages} pages, found {jobs} jobs", nl=False, err=True)
    click.echo(err=True)


def _require_one_of(ids: Sequence[str], flag: str, *, is_given: bool) -> None:
    if is_given == bool(ids):
        raise LocalError(f"give the ids of jobs, or {flag}")
