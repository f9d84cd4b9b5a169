"""fail: fails a given number of times. For trying out retries on a laptop."""

from mayfly.core.json_input import Fields
from mayfly.jobs import Effects, Job, Permanent, task


@task("fail", local=True)
def fail(job: Job, effects: Effects) -> dict[str, int]:
    """Fails the first `times` attempts. Payload `{times, permanent?}`.

    If `permanent` is true, the first failure is final.
    """
    fields = Fields(job.payload, "payload")
    times = fields.integer("times", 0, 50)
    permanent = fields.boolean("permanent", default=False)
    fields.finish()
    if job.attempt <= times:
        if permanent:
            raise Permanent(f"permanent failure as requested, in attempt {job.attempt}")
        raise RuntimeError(f"failure as requested, in attempt {job.attempt}; {times} are to fail")
    return {"attempt": job.attempt}
