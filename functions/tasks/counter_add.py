"""counter.add: adds to a counter, once per job."""

from mayfly import Effects, Fields, Job, task
from mayfly.core.json_input import NAME
from mayfly.counters import MAX_STEP


@task("counter.add")
def add(job: Job, effects: Effects) -> dict[str, object]:
    """Adds to a counter. Payload `{name, by?}`; `by` is 1 by default.

    The job is dead immediately if the payload has another shape.
    """
    fields = Fields(job.payload, "payload")
    name, by = (
        fields.text("name", pattern=NAME),
        fields.integer("by", -MAX_STEP, MAX_STEP, default=1),
    )
    fields.finish()
    effects.increment(name, by)
    return {"name": name, "by": by}
