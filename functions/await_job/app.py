"""GET /jobs/{id}?wait=: tell how a job stands, as soon as it has ended or the wait is over.

A function of its own, so that callers who wait take no capacity from those who submit. Asked to
stop, it answers at once with the job as it is; the caller asks again, and nothing is lost but a
round trip.
"""

import re
from functools import wraps
from typing import Any

from aws_lambda_powertools.event_handler import Response
from aws_lambda_powertools.utilities.typing import LambdaContext
from mayfly import jobs
from mayfly.core.errors import InvalidRequest, JobNotFound
from mayfly.core.json_input import NAME
from mayfly.jobs.rules import public
from mayfly.web import http

from .deps import Deps

__all__ = ["build"]

_SCOPES = {"GET /jobs/{id}": "jobs:read"}
#: The longest wait that a caller may ask for, in seconds: below the API's 30 s with room for a cold
#: start.
_LONGEST_WAIT = 20
_SECONDS = re.compile(r"[0-9]{1,2}")


def build(deps: Deps) -> http.Handler:
    """The handler that waits for jobs."""
    app = http.resolver(deps.observe, _SCOPES, quota=deps.quota)

    @app.get("/jobs/<job_id>")
    def read(job_id: str) -> Response[str]:
        if not NAME.fullmatch(job_id):
            raise JobNotFound(job_id[:128])
        until_ms = deps.clock() + _read_wait(http.query(app, "wait")) * 1000
        job = jobs.wait(
            job_id,
            tenant=http.caller(app).tenant,
            store=deps.store,
            clock=deps.clock,
            until_ms=until_ms,
            pause=deps.stopping.pause,
        )
        return http.answer(public(job, deps.clock()))

    answer = http.entrypoint(app, deps.observe)

    @wraps(answer)
    def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        with deps.stopping.serving():
            return answer(event, context)

    return handler


def _read_wait(text: str | None) -> int:
    if text is None:
        return 0
    if not _SECONDS.fullmatch(text) or int(text) > _LONGEST_WAIT:
        raise InvalidRequest("wait", f"must be a whole number of seconds from 0 to {_LONGEST_WAIT}")
    return int(text)
