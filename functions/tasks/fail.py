"""fail: fails as often as it is told to. For trying out retries on a laptop."""

from mayfly.core.json_input import Fields
from mayfly.jobs import Effects, Job, Permanent, task


@task("fail", local=True)
def fail(job: Job, effects: Effects) -> dict[str, int]:
    """Payload `{times, permanent?}`: the first `times` attempts fail, at once for good where
    `permanent` is true.
    """
    fields = Fields(job.payload, "payload")
    times = fields.integer("times", 0, 50)
    permanent = fields.boolean("permanent", default=False)
    fields.finish()
    if job.attempt <= times:
        if permanent:
            raise Permanent(f"told to fail, on attempt {job.attempt}")
        raise RuntimeError(f"told to fail {times} times, on attempt {job.attempt}")
    return {"attempt": job.attempt}
