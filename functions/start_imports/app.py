"""Uploads to the imports bucket -> jobs: each upload starts one `csv.import` job.

A second notice of the same upload starts no second job.
"""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from mayfly import jobs
from mayfly.imports.wire import read_uploads
from mayfly.jobs import Submission
from mayfly.jobs.worker import invocation
from mayfly.jobs.worker.invocation import SQSRecord

from .deps import Deps

__all__ = ["build"]


def build(deps: Deps) -> Callable[[dict[str, Any], LambdaContext], Any]:
    """Returns the handler of S3's notices.

    An invalid notice comes back until it is a dead letter.
    """

    def start(record: SQSRecord) -> None:
        for upload in read_uploads(record.body, deps.bucket):
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

    return invocation.each(start, observe=deps.observe)
