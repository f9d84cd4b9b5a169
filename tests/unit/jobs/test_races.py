"""Concurrent deliveries of one message on the emulator, with exact counts."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from mayfly.jobs.errors import LeaseHeld
from mayfly.jobs.model import Job, Status, Submission, Wake
from mayfly.jobs.worker.runner import Runner

from tests.conftest import WORKERS, make_tables
from tests.support.clients import make_client
from tests.support.fakes import Context
from tests.support.stage import Stage, a_record, finish

WIDE = 16


def deliver_at_once(stage: Stage, message: Wake | Submission) -> Counter[str]:
    """Delivers one message to as many workers as there are threads, each with its own client.

    Returns the number of each outcome.
    """
    barrier = threading.Barrier(WIDE)

    def one(_: int) -> str:
        worker = Stage(make_client("dynamodb"), stage.tables, exclusive=True)
        worker.body, worker.ran = stage.body, stage.ran
        record = a_record(message, "m")
        batch = Runner(worker.worker).open([record], Context())
        barrier.wait()
        batch.prepare()
        try:
            finish(batch)
        except LeaseHeld:
            return "held"
        return "done"

    with ThreadPoolExecutor(WIDE) as threads:
        return Counter(threads.map(one, range(WIDE)))


def test_sixteen_concurrent_deliveries_of_one_message_have_one_effect(embedded: Any) -> None:
    stage = Stage(embedded, make_tables(embedded, "race1-", only=WORKERS), exclusive=True)
    held = threading.Event()

    def body(job: Job, effects: Any) -> None:
        held.wait(1)  # long enough for the other workers to find the lease
        effects.increment("n")

    stage.body = body
    stage.submit()
    outcomes = deliver_at_once(stage, Wake("acme", "j1"))
    assert (outcomes, len(stage.ran), stage.count()) == ({"done": 1, "held": WIDE - 1}, 1, 1)
    assert (stage.job().status, stage.job().attempt) == (Status.COMPLETED, 1)


def test_sixteen_concurrent_deliveries_of_a_message_that_requests_a_job_create_one(
    embedded: Any,
) -> None:
    stage = Stage(embedded, make_tables(embedded, "race2-", only=WORKERS), exclusive=True)
    outcomes = deliver_at_once(stage, Submission("t", 1))
    assert (outcomes["done"] >= 1, sum(outcomes.values()), len(stage.ran), stage.count()) == (
        True,
        WIDE,
        1,
        1,
    )
    assert len(embedded.scan(TableName=stage.tables["JobsTable"])["Items"]) == 1
