"""GET /jobs/{id}?wait=: answers when the job has ended, or when the wait is over.

This is a separate function: waiting callers do not use the capacity for submissions. If its process
must stop, it answers immediately with the job as it is, and the caller asks again.
"""

import re
from functools import wraps
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from mayfly import Response, jobs
from mayfly.core.errors import InvalidRequest
from mayfly.core.json_input import NAME
from mayfly.jobs.errors import JobNotFound
from mayfly.jobs.wire import public
from mayfly.web import answers
from mayfly.web.resolver import Api, Handler

from .deps import Deps

__all__ = ["build"]

#: The longest wait that a caller may request, in seconds. With a cold start it stays below the
#: API's limit of 30 s.
_LONGEST_WAIT = 20
_SECONDS = re.compile(r"[0-9]{1,2}")


def build(deps: Deps) -> Handler:
    """Returns the handler that waits for jobs."""
    api = Api(deps.observe, quota=deps.quota)

    @api.get("/jobs/<job_id>", scope="jobs:read")
    def read(job_id: str) -> Response[str]:
        if not NAME.fullmatch(job_id):
            raise JobNotFound(job_id[:128])
        job = jobs.wait(
            deps.store,
            job_id,
            tenant=api.tenant,
            seconds=_read_wait(api.query("wait")),
            pause=deps.stopping.pause,
        )
        return answers.answer(public(job, deps.clock()))

    answer = api.handler()

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
