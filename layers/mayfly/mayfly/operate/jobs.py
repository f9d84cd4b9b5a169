"""`mayfly jobs`: look at jobs, end them, run them again, find those whose message is lost, and read
what is no job.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mayfly.core.clock import rfc3339, system_clock
from mayfly.core.errors import MayflyError
from mayfly.jobs.errors import JobEnded, JobIsLive, JobNotFound
from mayfly.jobs.model import Job, Status, Unreadable
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.wire import public
from mayfly.operate.stack import Stack, name, show, target, tenant_option

__all__ = ["add_parser"]

_LISTED = {"dead": Status.DEAD, "scheduled": Status.SCHEDULED}
_PAGE = 100
_COLUMNS = ("id", "task", "status", "attempts", "created_at", "error")


def add_parser(features: Any) -> None:
    """Adds the commands."""
    common = [target(), tenant_option()]
    jobs = features.add_parser(
        "jobs", help="jobs: list, show, cancel, redrive, resend, unreadable"
    ).add_subparsers(required=True, metavar="VERB")

    listing = jobs.add_parser("list", parents=common, help="dead or scheduled jobs, by their time")
    listing.add_argument(
        "--status", choices=sorted(_LISTED), default="dead", help="which (default: %(default)s)"
    )
    listing.add_argument("--task", type=name, help="only those of this task")
    listing.set_defaults(run=_list)

    showing = jobs.add_parser("show", parents=common, help="one job, with its attempts")
    showing.add_argument("id", type=name)
    showing.set_defaults(run=_show)

    cancel = jobs.add_parser(
        "cancel",
        parents=common,
        help="end jobs that have not ended; a running one can commit nothing more",
    )
    cancel.add_argument("id", type=name, nargs="+")
    cancel.set_defaults(run=_cancel)

    redrive = jobs.add_parser(
        "redrive", parents=common, help="run dead jobs again, with all their attempts"
    )
    redrive.add_argument("id", type=name, nargs="*")
    redrive.add_argument(
        "--all",
        action="store_true",
        help="every dead job of the tenant (with --task: of that task)",
    )
    redrive.add_argument("--task", type=name, help="with --all: only those of this task")
    redrive.set_defaults(run=_redrive)

    resend = jobs.add_parser(
        "resend",
        parents=common,
        help="announce jobs again whose message is lost",
        description="Announces jobs again whose message is lost. Harmless where it is not: a "
        "job is run by one worker at a time.",
    )
    resend.add_argument("id", type=name, nargs="*")
    resend.add_argument(
        "--stranded",
        action="store_true",
        help="every tenant's jobs that should have started long ago; reads the whole table",
    )
    resend.add_argument(
        "--older-than",
        type=_seconds,
        default=300,
        metavar="SECONDS",
        help="with --stranded (default: %(default)s)",
    )
    resend.set_defaults(run=_resend)

    unreadable = jobs.add_parser(
        "unreadable",
        parents=[target()],
        help="messages that were no job: kept whole until somebody forgets them",
    )
    unreadable.add_argument("--show", metavar="MESSAGE_ID", help="print one body, whole")
    unreadable.add_argument(
        "--forget", metavar="MESSAGE_ID", help="delete one, when it is dealt with"
    )
    unreadable.set_defaults(run=_unreadable)


def _list(options: argparse.Namespace) -> int:
    _, operations = Stack(options).jobs()
    jobs = [
        public(job, system_clock())
        for job in _listed(operations, options.tenant, _LISTED[options.status], options.task)
    ]
    show(
        [_row(job, options) for job in jobs],
        _COLUMNS,
        as_json=options.json,
        none=f"no job of tenant {options.tenant} is {options.status}",
    )
    return 0


def _show(options: argparse.Namespace) -> int:
    store, _ = Stack(options).jobs()
    now_ms = system_clock()
    job = public(store.read(options.tenant, options.id, now_ms=now_ms), now_ms)
    if options.json:
        show([job], (), as_json=True, none="")
        return 0
    for field in (
        "id",
        "task",
        "status",
        "created_at",
        "not_before",
        "max_attempts",
        "payload",
        "result",
        "error",
    ):
        if field in job:
            value = job[field]
            print(
                f"{field:<13} "
                f"{value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
            )
    show(
        job["attempts"],
        ("number", "started_at", "ended_at", "outcome", "error"),
        as_json=False,
        none="no attempt yet",
    )
    return 0


def _cancel(options: argparse.Namespace) -> int:
    _, operations = Stack(options).jobs()
    return _each(
        options,
        options.id,
        lambda job_id: operations.cancel(options.tenant, job_id, now_ms=system_clock()),
    )


def _redrive(options: argparse.Namespace) -> int:
    _require_one_of(options, "--all", is_given=options.all)
    _, operations = Stack(options).jobs()
    ids = (
        [job.id for job in _listed(operations, options.tenant, Status.DEAD, options.task)]
        if options.all
        else options.id
    )
    return _each(
        options,
        ids,
        lambda job_id: operations.redrive(options.tenant, job_id, now_ms=system_clock()),
    )


def _resend(options: argparse.Namespace) -> int:
    _require_one_of(options, "--stranded", is_given=options.stranded)
    _, operations = Stack(options).jobs()
    if not options.stranded:
        return _each(
            options,
            options.id,
            lambda job_id: operations.resend(options.tenant, job_id, now_ms=system_clock()),
        )
    found = list(
        _with_progress(operations.stranded(before_ms=system_clock() - options.older_than * 1000))
    )
    tenants = {job.id: job.tenant for job in found}
    return _each(
        options,
        list(tenants),
        lambda job_id: operations.resend(tenants[job_id], job_id, now_ms=system_clock()),
    )


def _unreadable(options: argparse.Namespace) -> int:
    _, operations = Stack(options).jobs()
    if options.forget:
        operations.forget_unreadable(options.forget)
        return 0
    found = list(operations.unreadable(now_ms=system_clock()))
    if options.show:
        chosen = next((each for each in found if each.message_id == options.show), None)
        if chosen is None:
            raise JobNotFound(options.show)
        sys.stdout.buffer.write(chosen.body.encode("utf-8", "surrogatepass") + b"\n")
        return 0
    show(
        [_unreadable_row(each, options) for each in found],
        ("message_id", "kept_at", "bytes", "problem"),
        as_json=options.json,
        none="none",
    )
    return 0


def _listed(
    operations: JobOperations, tenant: str, status: Status, task: str | None
) -> Iterator[Job]:
    after: tuple[str, int] | None = None
    while True:
        page = operations.list(tenant, status, limit=_PAGE, after=after, now_ms=system_clock())
        yield from (job for job in page.jobs if task in (None, job.task))
        if page.next is None:
            return
        after = page.next


def _each(options: argparse.Namespace, ids: list[str], act: Callable[[str], Job]) -> int:
    """Does one thing to each job, and prints what it is now; goes on after one that is not to be
    had, and says so at the end.
    """
    rows, refused = [], 0
    for job_id in ids:
        try:
            rows.append(_row(public(act(job_id), system_clock()), options))
        except (JobNotFound, JobEnded, JobIsLive) as problem:
            refused += 1
            print(f"mayfly: {problem}", file=sys.stderr)
    if rows or not refused:
        show(rows, _COLUMNS, as_json=options.json, none="nothing was to be done")
    return 1 if refused else 0


def _row(job: Mapping[str, Any], options: argparse.Namespace) -> Mapping[str, Any]:
    return (
        job
        if options.json
        else {**job, "attempts": len(job["attempts"]), "error": (job["error"] or "-")[:60]}
    )


def _unreadable_row(found: Unreadable, options: argparse.Namespace) -> Mapping[str, Any]:
    size = len(found.body.encode("utf-8", "surrogatepass"))
    row = {
        "message_id": found.message_id,
        "kept_at": rfc3339(found.kept_at_ms),
        "bytes": size,
        "problem": found.problem,
    }
    return {**row, "body": found.body} if options.json else row


def _with_progress(found: Iterator[Job | None]) -> Iterator[Job]:
    pages = jobs = 0
    for each in found:
        if each is not None:
            jobs += 1
            yield each
            continue
        pages += 1
        print(f"\rread {pages} pages, found {jobs} jobs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def _require_one_of(options: argparse.Namespace, flag: str, *, is_given: bool) -> None:
    if is_given == bool(options.id):
        raise _Misused(flag)


class _Misused(MayflyError):
    """Neither ids nor the flag were given, or both."""

    def __init__(self, flag: str) -> None:
        super().__init__(f"give the ids of jobs, or {flag}")


def _seconds(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of seconds")
    return int(text)
