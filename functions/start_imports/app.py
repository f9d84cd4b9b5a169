"""Uploads to the imports bucket -> jobs: each upload starts one `csv.import` job.

A second notice of the same upload starts no second job. Notices that failed too often are dead
letters of the same queue, and come here as well, until they can be handled or expire.
"""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from mayfly import jobs
from mayfly.core.errors import InvalidRequest, PayloadTooLarge
from mayfly.imports.wire import read_uploads
from mayfly.jobs import Submission
from mayfly.jobs.model import Unreadable
from mayfly.jobs.worker import invocation
from mayfly.jobs.worker.invocation import SQSRecord

from .deps import Deps

__all__ = ["build"]


def build(deps: Deps) -> Callable[[dict[str, Any], LambdaContext], Any]:
    """Returns the handler of S3's notices.

    An invalid notice is stored for the operator: another receive would change nothing.
    """

    def start(record: SQSRecord) -> None:
        if record.event_source_arn == deps.dead_letters_arn:
            deps.observe.count("DeadLetterReceived")
        try:
            uploads = read_uploads(record.body, deps.bucket)
        except (InvalidRequest, PayloadTooLarge) as problem:
            keep(record, str(problem))
            return
        for upload in uploads:
            if upload is None:
                deps.observe.log.warning(
                    "an uploaded object has no tenant in its key; it is not imported",
                    message_id=record.message_id,
                )
                continue
            submission = Submission("csv.import", {"key": upload.key}, idempotency_key=upload.mark)
            job, is_new = jobs.submit(
                deps.operations, submission, tenant=upload.tenant, tasks=deps.tasks
            )
            deps.observe.count("ImportStarted" if is_new else "ImportRepeated")
            deps.observe.log.info("an import was submitted for an upload", job=job.id)

    def keep(record: SQSRecord, problem: str) -> None:
        message = Unreadable(record.message_id, record.body, problem, deps.clock())
        deps.operations.keep_unreadable(message)
        deps.observe.count("MessageUnreadable")
        deps.observe.log.error(
            "a message is not a notice of an upload and was stored; list such messages with "
            "'mayfly jobs unreadable'",
            message_id=record.message_id,
            problem=problem,
        )

    return invocation.each(start, observe=deps.observe)
