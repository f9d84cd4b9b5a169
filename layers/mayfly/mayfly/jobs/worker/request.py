"""The job that a message asks for."""

from dataclasses import dataclass

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord

from mayfly.core.errors import InvalidRequest, PayloadTooLarge
from mayfly.jobs.errors import UnreadableMessage
from mayfly.jobs.model import Job, Status, Wake
from mayfly.jobs.rules import is_inline, job_id_for
from mayfly.jobs.wire import read_message
from mayfly.jobs.worker.deps import Deps

__all__ = ["Request", "read_request", "was_received_before"]


@dataclass(frozen=True)
class Request:
    """The job that a message asks for.

    `new` is the job to make if it does not exist, None if the message only wakes one. `receives`
    counts the receives of the message so far, with this one.
    """

    message_id: str
    tenant: str
    job_id: str
    new: Job | None
    receives: int

    @property
    def fingerprint(self) -> str | None:
        """The part of the request that copies of one message share; None if it only wakes a job."""
        return (self.new.canonical_fingerprint or self.new.fingerprint) if self.new else None

    def is_for(self, job: Job) -> bool:
        """Returns False if `job` has the idempotency key of this request and another body."""
        return self.new is None or not job.fingerprints.isdisjoint(self.new.fingerprints)

    def is_fresh(self, job: Job | None) -> bool:
        """Returns True if no worker has had `job` yet, as far as this message shows.

        Then one write can make or change it. `job` is None if it does not exist.
        """
        if self.receives > 1:
            return False
        if job is None:
            new = self.new
            return new is not None and new.status is Status.QUEUED and is_inline(new.payload)
        return job.status is Status.QUEUED and self.is_for(job)

    def key_reused(self) -> UnreadableMessage:
        """Returns the error of a message whose idempotency key was used with another body."""
        return UnreadableMessage(
            self.message_id,
            f"its idempotency key belongs to job {self.job_id!r}, with another body",
        )


def read_request(deps: Deps, record: SQSRecord) -> Request:
    """Returns the request of an SQS record. Raises UnreadableMessage."""
    try:
        message = read_message(record.body)
        receives = _receives(record)
        if isinstance(message, Wake):
            return Request(record.message_id, message.tenant, message.job_id, None, receives)
        tenant = deps.producer_tenant
        job_id = job_id_for(
            tenant, message.idempotency_key, otherwise=f"message {record.message_id}"
        )
        new = deps.new_job(tenant, job_id, message)
        return Request(record.message_id, tenant, job_id, new, receives)
    except (InvalidRequest, PayloadTooLarge) as problem:
        raise UnreadableMessage(record.message_id, str(problem)) from problem


def was_received_before(record: SQSRecord) -> bool:
    """Returns True if SQS has delivered the message before."""
    return _receives(record) > 1


def _receives(record: SQSRecord) -> int:
    """Returns how often SQS has delivered the message, with this receive."""
    return int(record.attributes.approximate_receive_count or 1)
