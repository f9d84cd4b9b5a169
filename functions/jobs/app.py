"""POST /jobs, GET /jobs, POST /jobs/{id}/cancel, POST /jobs/{id}/redrive: accept jobs once per key, list, end and revive them."""

from aws_lambda_powertools.event_handler import Response
from mayfly import http, jobs
from mayfly.errors import InvalidRequest, JobNotFound
from mayfly.fields import NAME
from mayfly.jobs.model import Status
from mayfly.jobs.rules import public, read_cursor, read_submission, write_cursor
from mayfly.wiring import JobsDeps

__all__ = ["build"]

_SCOPES = {
    "POST /jobs": "jobs:write",
    "GET /jobs": "jobs:read",
    "POST /jobs/{id}/cancel": "jobs:write",
    "POST /jobs/{id}/redrive": "jobs:write",
}
_LISTED = {"scheduled": Status.SCHEDULED, "dead": Status.DEAD}
_PAGE = 50


def build(deps: JobsDeps) -> http.Handler:
    """The handler of the jobs API."""
    app = http.resolver(deps.observe, _SCOPES)

    @app.post("/jobs")
    def submit() -> Response[str]:
        submission = read_submission(http.json_body(app), idempotency_key=http.header(app, "idempotency-key"))
        tenant, now_ms = http.caller(app).tenant, deps.clock()
        job, is_new = jobs.submit(
            submission, tenant=tenant, store=deps.store, operations=deps.operations, tasks=deps.tasks, now_ms=now_ms, new_id=deps.new_id
        )
        deps.observe.count("JobSubmitted" if is_new else "JobReplayed")
        return http.answer(public(job, now_ms), status=202 if is_new else 200, headers={"Location": f"/jobs/{job.id}"})

    @app.get("/jobs")
    def list_jobs() -> Response[str]:
        status = _LISTED.get(http.query(app, "status") or "")
        if status is None:
            raise InvalidRequest("status", f"must be {' or '.join(_LISTED)}")
        cursor = http.query(app, "cursor")
        now_ms = deps.clock()
        page = deps.operations.list(
            http.caller(app).tenant, status, limit=_PAGE, after=None if cursor is None else read_cursor(cursor), now_ms=now_ms
        )
        task = http.query(app, "task")
        items = [public(job, now_ms) for job in page.jobs if task in (None, job.task)]
        return http.answer({"items": items, "next": None if page.next is None else write_cursor(*page.next)})

    @app.post("/jobs/<job_id>/cancel")
    def cancel(job_id: str) -> Response[str]:
        now_ms = deps.clock()
        job = jobs.cancel(_known(job_id), tenant=http.caller(app).tenant, operations=deps.operations, now_ms=now_ms)
        deps.observe.count("JobCancelled")
        return http.answer(public(job, now_ms))

    @app.post("/jobs/<job_id>/redrive")
    def redrive(job_id: str) -> Response[str]:
        now_ms = deps.clock()
        job = jobs.redrive(_known(job_id), tenant=http.caller(app).tenant, operations=deps.operations, now_ms=now_ms)
        deps.observe.count("JobRedriven")
        return http.answer(public(job, now_ms), status=202)

    return http.entrypoint(app, deps.observe)


def _known(job_id: str) -> str:
    if not NAME.fullmatch(job_id):
        raise JobNotFound(job_id[:128])
    return job_id
