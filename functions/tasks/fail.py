"""fail: fails a given number of times. For trying out retries on a laptop."""

from mayfly import Effects, Fields, Job, Permanent, task


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
            raise Permanent(f"attempt {job.attempt} failed for good, as requested")
        raise RuntimeError(f"attempt {job.attempt} of {times} failed, as requested")
    return {"attempt": job.attempt}
