"""sleep: waits. For trying out leases, crashes and cancellation on a laptop."""

import threading

from mayfly import Effects, Fields, Job, task

_STEP_SECONDS = 0.2


@task("sleep", exclusive=True, local=True)  # claimed before it runs, so that others see it run
def sleep(job: Job, effects: Effects) -> dict[str, float]:
    """Waits for `seconds`, up to 600. Payload `{seconds}`.

    Checks at every step that the job still belongs to this worker.
    """
    fields = Fields(job.payload, "payload")
    seconds = fields.number("seconds", 0, 600)
    fields.finish()
    clock = threading.Event()  # never set; it only waits
    left = float(seconds)
    while left > 0:
        effects.checkpoint()
        clock.wait(min(left, _STEP_SECONDS))
        left -= _STEP_SECONDS
    return {"seconds": seconds}
