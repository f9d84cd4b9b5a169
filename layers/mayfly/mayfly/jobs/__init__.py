"""Background jobs, whose effects happen exactly once or not at all, even if a worker crashes."""

from mayfly.jobs.authoring.effects import Effects
from mayfly.jobs.authoring.outcomes import Continue, Permanent, Retry
from mayfly.jobs.authoring.task import task
from mayfly.jobs.model import Job, Submission
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.service import cancel, list_by_status, redrive, submit, wait
from mayfly.jobs.store import JobStore
from mayfly.jobs.transactions import existing_job, in_transaction, job_of

__all__ = [
    "Continue",
    "Effects",
    "Job",
    "JobOperations",
    "JobStore",
    "Permanent",
    "Retry",
    "Submission",
    "cancel",
    "existing_job",
    "in_transaction",
    "job_of",
    "list_by_status",
    "redrive",
    "submit",
    "task",
    "wait",
]
