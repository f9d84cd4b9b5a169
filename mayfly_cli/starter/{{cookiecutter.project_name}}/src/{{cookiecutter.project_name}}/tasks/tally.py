"""orders.tally: counts an order and its items, once per job."""

from mayfly import Effects, Fields, Job, task


@task("orders.tally", max_attempts=5)
def tally(job: Job, effects: Effects) -> dict[str, object]:
    """Payload `{items}`, a whole number from 1 to 1000.

    The effects are applied together with the job's completion, or not at all.
    """
    fields = Fields(job.payload, "payload")
    items = fields.integer("items", 1, 1000)
    fields.finish()
    effects.increment("orders")
    effects.increment("items", items)
    return {"items": items}
