"""/schedules: define, list, pause, resume and delete schedules."""

from mayfly import Response, schedules
from mayfly.web import answers
from mayfly.web.resolver import Api, Handler, read_name

from .deps import Deps

__all__ = ["build"]

_PAGE = 50


def build(deps: Deps) -> Handler:
    """Returns the handler of the schedules API."""
    api, mine = Api(deps.observe, quota=deps.quota), deps.schedules

    def shown(schedule: schedules.Schedule, status: int = 200) -> Response[str]:
        return answers.answer(schedules.public(schedule, deps.clock()), status=status)

    @api.get("/schedules", scope="schedules:read")
    def list_schedules() -> Response[str]:
        cursor = api.query("cursor")
        after = None if cursor is None else read_name(cursor, "cursor")
        page, following = schedules.list_by_name(mine, tenant=api.tenant, limit=_PAGE, after=after)
        items = [schedules.public(schedule, deps.clock()) for schedule in page]
        return answers.answer({"items": items, "next": following})

    @api.get("/schedules/<name>", scope="schedules:read")
    def read_schedule(name: str) -> Response[str]:
        return shown(schedules.read(mine, read_name(name), tenant=api.tenant))

    @api.put("/schedules/<name>", scope="schedules:write", body=schedules.read_definition)
    def define(name: str) -> Response[str]:
        definition = schedules.read_definition(api.json_body())
        schedule, is_new = schedules.define(mine, read_name(name), definition, tenant=api.tenant)
        return shown(schedule, 201 if is_new else 200)

    @api.delete("/schedules/<name>", scope="schedules:write")
    def delete(name: str) -> Response[str]:
        schedules.delete(mine, read_name(name), tenant=api.tenant)
        return answers.nothing()

    @api.post("/schedules/<name>/pause", scope="schedules:write")
    def pause(name: str) -> Response[str]:
        return shown(schedules.pause(mine, read_name(name), tenant=api.tenant))

    @api.post("/schedules/<name>/resume", scope="schedules:write")
    def resume(name: str) -> Response[str]:
        return shown(schedules.resume(mine, read_name(name), tenant=api.tenant))

    return api.handler()
