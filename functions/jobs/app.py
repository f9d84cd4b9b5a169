"""POST /jobs, GET /jobs/{id}: accept a job once per key, and tell how it stands."""

import re

from aws_lambda_powertools.event_handler import Response
from mayfly import http, jobs
from mayfly.errors import InvalidRequest, JobNotFound
from mayfly.fields import NAME
from mayfly.jobs.rules import public, read_submission
from mayfly.wiring import JobsDeps

__all__ = ["build"]

_SCOPES = {"POST /jobs": "jobs:write", "GET /jobs/{id}": "jobs:read"}
#: The longest wait that a caller may ask for, in seconds: below the API's 30 s with room for a cold start.
_LONGEST_WAIT = 20
_SECONDS = re.compile(r"[0-9]{1,2}")


def build(deps: JobsDeps) -> http.Handler:
    """The handler of the jobs API."""
    app = http.resolver(deps.observe, _SCOPES)

    @app.post("/jobs")
    def submit() -> Response[str]:
        submission = read_submission(http.json_body(app), idempotency_key=http.header(app, "idempotency-key"))
        tenant, now_ms = http.caller(app).tenant, deps.clock()
        job, is_new = jobs.submit(submission, tenant=tenant, store=deps.store, tasks=deps.tasks, now_ms=now_ms, new_id=deps.new_id)
        deps.observe.count("JobSubmitted" if is_new else "JobReplayed")
        return http.answer(public(job, now_ms), status=202 if is_new else 200, headers={"Location": f"/jobs/{job.id}"})

    @app.get("/jobs/<job_id>")
    def read(job_id: str) -> Response[str]:
        if not NAME.fullmatch(job_id):
            raise JobNotFound(job_id[:128])
        until_ms = deps.clock() + _read_wait(http.query(app, "wait")) * 1000
        job = jobs.wait(job_id, tenant=http.caller(app).tenant, store=deps.store, clock=deps.clock, until_ms=until_ms, pause=deps.pause)
        return http.answer(public(job, deps.clock()))

    return http.entrypoint(app, deps.observe)


def _read_wait(text: str | None) -> int:
    if text is None:
        return 0
    if not _SECONDS.fullmatch(text) or int(text) > _LONGEST_WAIT:
        raise InvalidRequest("wait", f"must be a whole number of seconds from 0 to {_LONGEST_WAIT}")
    return int(text)
