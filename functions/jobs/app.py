"""/jobs and /schedules: accept jobs once per key, list, end and revive them; keep schedules."""

from urllib.parse import unquote

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from mayfly import jobs, schedules
from mayfly.core.errors import InvalidRequest, JobNotFound
from mayfly.core.json_input import NAME
from mayfly.jobs.model import Status
from mayfly.jobs.rules import public, read_cursor, read_submission, write_cursor
from mayfly.web import http

from .deps import Deps

__all__ = ["build"]

_SCOPES = {
    "POST /jobs": "jobs:write",
    "GET /jobs": "jobs:read",
    "POST /jobs/{id}/cancel": "jobs:write",
    "POST /jobs/{id}/redrive": "jobs:write",
    "GET /schedules": "schedules:read",
    "GET /schedules/{name}": "schedules:read",
    "PUT /schedules/{name}": "schedules:write",
    "DELETE /schedules/{name}": "schedules:write",
    "POST /schedules/{name}/pause": "schedules:write",
    "POST /schedules/{name}/resume": "schedules:write",
}
_LISTED = {"scheduled": Status.SCHEDULED, "dead": Status.DEAD}
_PAGE = 50


def build(deps: Deps) -> http.Handler:
    """The handler of the jobs API."""
    app = http.resolver(deps.observe, _SCOPES, quota=deps.quota)

    @app.post("/jobs")
    def submit() -> Response[str]:
        submission = read_submission(
            http.json_body(app), idempotency_key=http.header(app, "idempotency-key")
        )
        tenant, now_ms = http.caller(app).tenant, deps.clock()
        job, is_new = jobs.submit(
            submission,
            tenant=tenant,
            store=deps.store,
            operations=deps.operations,
            tasks=deps.tasks,
            now_ms=now_ms,
            new_id=deps.new_id,
        )
        deps.observe.count("JobSubmitted" if is_new else "JobReplayed")
        return http.answer(
            public(job, now_ms),
            status=202 if is_new else 200,
            headers={"Location": f"/jobs/{job.id}"},
        )

    @app.get("/jobs")
    def list_jobs() -> Response[str]:
        status = _LISTED.get(http.query(app, "status") or "")
        if status is None:
            raise InvalidRequest("status", f"must be {' or '.join(_LISTED)}")
        cursor = http.query(app, "cursor")
        now_ms = deps.clock()
        page = deps.operations.list(
            http.caller(app).tenant,
            status,
            limit=_PAGE,
            after=None if cursor is None else read_cursor(cursor),
            now_ms=now_ms,
        )
        task = http.query(app, "task")
        items = [public(job, now_ms) for job in page.jobs if task in (None, job.task)]
        return http.answer(
            {"items": items, "next": None if page.next is None else write_cursor(*page.next)}
        )

    @app.post("/jobs/<job_id>/cancel")
    def cancel(job_id: str) -> Response[str]:
        now_ms = deps.clock()
        job = jobs.cancel(
            _known(job_id),
            tenant=http.caller(app).tenant,
            operations=deps.operations,
            now_ms=now_ms,
        )
        deps.observe.count("JobCancelled")
        return http.answer(public(job, now_ms))

    @app.post("/jobs/<job_id>/redrive")
    def redrive(job_id: str) -> Response[str]:
        now_ms = deps.clock()
        job = jobs.redrive(
            _known(job_id),
            tenant=http.caller(app).tenant,
            operations=deps.operations,
            now_ms=now_ms,
        )
        deps.observe.count("JobRedriven")
        return http.answer(public(job, now_ms), status=202)

    _add_schedules(app, deps)
    return http.entrypoint(app, deps.observe)


def _add_schedules(app: APIGatewayHttpResolver, deps: Deps) -> None:
    keeper = deps.schedules

    def shown(schedule: schedules.Schedule, status: int = 200) -> Response[str]:
        return http.answer(schedules.public(schedule, deps.clock()), status=status)

    @app.get("/schedules")
    def list_schedules() -> Response[str]:
        cursor = http.query(app, "cursor")
        found, following = keeper.store.list(
            http.caller(app).tenant,
            limit=_PAGE,
            after=None if cursor is None else _name(cursor, "cursor"),
        )
        return http.answer(
            {"items": [schedules.public(each, deps.clock()) for each in found], "next": following}
        )

    @app.get("/schedules/<name>")
    def read_schedule(name: str) -> Response[str]:
        return shown(schedules.read(keeper, _name(name), tenant=http.caller(app).tenant))

    @app.put("/schedules/<name>")
    def define(name: str) -> Response[str]:
        definition = schedules.read_definition(http.json_body(app))
        schedule, is_new = schedules.define(
            keeper, _name(name), definition, tenant=http.caller(app).tenant
        )
        return shown(schedule, 201 if is_new else 200)

    @app.delete("/schedules/<name>")
    def delete(name: str) -> Response[str]:
        schedules.delete(keeper, _name(name), tenant=http.caller(app).tenant)
        return http.nothing()

    @app.post("/schedules/<name>/pause")
    def pause(name: str) -> Response[str]:
        return shown(schedules.pause(keeper, _name(name), tenant=http.caller(app).tenant))

    @app.post("/schedules/<name>/resume")
    def resume(name: str) -> Response[str]:
        return shown(schedules.resume(keeper, _name(name), tenant=http.caller(app).tenant))


def _name(part: str, field: str = "name") -> str:
    """A name in a path, where `@` and `+` may come percent-encoded."""
    name = unquote(part)
    if not NAME.fullmatch(name):
        raise InvalidRequest(field, f"must match {NAME.pattern}")
    return name


def _known(job_id: str) -> str:
    if not NAME.fullmatch(job_id):
        raise JobNotFound(job_id[:128])
    return job_id
