"""/jobs: accept jobs once per idempotency key; list, cancel and redrive them."""

from mayfly import Response, jobs
from mayfly.core.errors import InvalidRequest
from mayfly.core.json_input import NAME
from mayfly.jobs.errors import JobNotFound
from mayfly.jobs.model import Status
from mayfly.jobs.wire import public, read_cursor, read_submission, write_cursor
from mayfly.web import answers
from mayfly.web.resolver import Api, Handler

from .deps import Deps

__all__ = ["build"]

_LISTED = {"scheduled": Status.SCHEDULED, "dead": Status.DEAD}
_PAGE = 50


def build(deps: Deps) -> Handler:
    """Returns the handler of the jobs API."""
    api = Api(deps.observe, quota=deps.quota)

    @api.post("/jobs", scope="jobs:write", body=read_submission)
    def submit() -> Response[str]:
        submission = read_submission(api.json_body(), idempotency_key=api.header("idempotency-key"))
        job, is_new = jobs.submit(deps.operations, submission, tenant=api.tenant, tasks=deps.tasks)
        deps.observe.count("JobSubmitted" if is_new else "JobReplayed")
        return answers.answer(
            public(job, deps.clock()),
            status=202 if is_new else 200,
            headers={"Location": f"/jobs/{job.id}"},
        )

    @api.get("/jobs", scope="jobs:read")
    def list_jobs() -> Response[str]:
        status = _LISTED.get(api.query("status") or "")
        if status is None:
            raise InvalidRequest("status", f"must be {' or '.join(_LISTED)}")
        cursor, task, now_ms = api.query("cursor"), api.query("task"), deps.clock()
        page = jobs.list_by_status(
            deps.operations,
            status,
            tenant=api.tenant,
            limit=_PAGE,
            after=None if cursor is None else read_cursor(cursor),
        )
        items = [public(job, now_ms) for job in page.jobs if task in (None, job.task)]
        following = None if page.next is None else write_cursor(*page.next)
        return answers.answer({"items": items, "next": following})

    @api.post("/jobs/<job_id>/cancel", scope="jobs:write")
    def cancel(job_id: str) -> Response[str]:
        job = jobs.cancel(deps.operations, _read_id(job_id), tenant=api.tenant)
        deps.observe.count("JobCancelled")
        return answers.answer(public(job, deps.clock()))

    @api.post("/jobs/<job_id>/redrive", scope="jobs:write")
    def redrive(job_id: str) -> Response[str]:
        job = jobs.redrive(deps.operations, _read_id(job_id), tenant=api.tenant)
        deps.observe.count("JobRedriven")
        return answers.answer(public(job, deps.clock()), status=202)

    return api.handler()


def _read_id(job_id: str) -> str:
    """Returns an id that a job may have. Raises JobNotFound."""
    if not NAME.fullmatch(job_id):
        raise JobNotFound(job_id[:128])
    return job_id
