"""A worker with one task whose body a test writes, and the messages that it receives."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from aws_lambda_powertools.utilities.data_classes.sqs_event import SQSRecord
from boto3.dynamodb.types import TypeSerializer
from mayfly.aws.dynamodb import DynamoDB
from mayfly.core.ids import new_nonce
from mayfly.core.observability import Observer, observer
from mayfly.jobs.authoring.task import Declaration, Task
from mayfly.jobs.model import Job, Status, Submission, Wake
from mayfly.jobs.operations import JobOperations
from mayfly.jobs.store import JobStore
from mayfly.jobs.worker.batch import Batch
from mayfly.jobs.worker.deps import Deps
from mayfly.jobs.worker.invocation import entrypoint
from mayfly.jobs.worker.runner import Runner

from tests.support.counting import counted
from tests.support.events import sqs
from tests.support.fakes import Context, FixedClock


def a_record(message: Wake | Submission, message_id: str, receives: int = 1) -> SQSRecord:
    """Returns a message as SQS delivers it."""
    if isinstance(message, Wake):
        body = {"tenant": message.tenant, "id": message.job_id}
    else:
        fields = {
            "task": message.task,
            "payload": message.payload,
            "idempotency_key": message.idempotency_key,
        }
        body = {name: value for name, value in fields.items() if value is not None}
    (record,) = sqs(json.dumps(body))["Records"]
    return SQSRecord(
        {
            **record,
            "messageId": message_id,
            "receiptHandle": f"r-{message_id}",
            "attributes": {"ApproximateReceiveCount": str(receives)},
        }
    )


class Counting(Observer):
    """An observer that keeps the names of what it counts, and logs."""

    def __init__(self, counted: list[str]) -> None:
        base = observer("test")
        super().__init__(log=base.log, metrics=base.metrics)
        object.__setattr__(self, "counted", counted)

    def count(self, name: str, by: int = 1) -> None:
        """Keeps the name."""
        object.__getattribute__(self, "counted").extend([name] * by)


def finish(batch: Batch) -> None:
    """Runs a batch of one; raises the error that returns its message, immediately or at the end."""
    try:
        batch.run(batch.records[0])
    finally:
        late = batch.close()
    for failure in late.values():
        raise failure


class VisibleQueue:
    """Keeps the visibility timeouts that were set."""

    def __init__(self) -> None:
        self.asked: list[dict[str, float]] = []

    def set_visibility(self, seconds_by_receipt: Mapping[str, float]) -> int:
        """Keeps the timeouts; changes nothing."""
        self.asked.append(dict(seconds_by_receipt))
        return 0


class Stage:
    """A worker with one task, whose body a test writes."""

    def __init__(
        self,
        client: Any,
        tables: dict[str, str] | None = None,
        *,
        due_shards: int = 1,
        **options: Any,
    ) -> None:
        self.client = client
        self.options = options
        self.tables = tables or {"JobsTable": "JobsTable", "CountersTable": "CountersTable"}
        self.clock = FixedClock()
        db = DynamoDB(client, pause=lambda attempt: None)
        self.store = JobStore(db, self.tables["JobsTable"], due_shards=due_shards)
        self.operations = JobOperations(self.store)
        self.body: Callable[[Job, Any], Any] = lambda job, effects: effects.increment("n")
        self.ran: list[Job] = []
        self.counted: list[str] = []
        self.observe = Counting(self.counted)
        self.declare(**options)
        self.batch: Batch
        self.visible = VisibleQueue()

    def declare(self, **options: Any) -> None:
        """Makes the worker with one task that has these options."""
        self.worker = Deps(
            store=self.store,
            tasks={"t": Task(Declaration("t", max_attempts=3, **options), self._run_task)},
            counters_table=self.tables["CountersTable"],
            producer_tenant="acme",
            observe=self.observe,
            clock=self.clock,
            new_nonce=new_nonce,
            jitter=lambda: 1.0,
            serialize=TypeSerializer().serialize,
            keep_unreadable=self.operations.keep_unreadable,
            lease_ms=15_000,
        )
        self.runner = Runner(self.worker)

    def submit(self, **changes: Any) -> None:
        facts = {
            "id": "j1",
            "tenant": "acme",
            "task": "t",
            "payload": None,
            "status": Status.QUEUED,
            "max_attempts": 3,
        }
        self.store.create(
            Job(**{**facts, "created_at_ms": self.clock(), "fingerprint": "f", **changes})
        )

    def run(
        self, message: Wake | Submission | None = None, message_id: str = "m1", *, receives: int = 1
    ) -> None:
        """Runs a batch of one message, as the worker's process runs it."""
        self.batch = self.deliver(
            message, message_id, runner=self.runner, receives=receives, run=False
        )
        finish(self.batch)

    def deliver(
        self, message: Wake | Submission | None = None, message_id: str = "m2", *,
        runner: Runner | None = None, receives: int = 1,
        run: bool = True,
    ) -> Batch:  # fmt: skip
        """Runs a batch of one message, in another process unless `runner` is given."""
        record = a_record(message or Wake("acme", "j1"), message_id, receives)
        batch = (runner or Runner(self.worker)).open([record], Context())
        batch.prepare()
        if run:
            finish(batch)
        return batch

    def handle(
        self, *messages: Wake | Submission | str, receives: int = 1, context: Context | None = None
    ) -> dict[str, Any]:
        """Runs a batch of messages m0, m1, ... through the whole handler.

        A text is used as the body of a message.
        """
        records = [
            self._raw(message, f"m{index}", receives) for index, message in enumerate(messages)
        ]
        return self.handle_records(records, context)

    def handle_records(
        self, records: list[dict[str, Any]], context: Context | None = None
    ) -> dict[str, Any]:
        """Runs a batch of records as they are."""
        handler = entrypoint(
            self.runner.open,
            queue=self.visible,  # type: ignore[arg-type]  # a fake
            lease_seconds=15,
            observe=self.worker.observe,
        )
        reply: dict[str, Any] = handler({"Records": records}, context or Context())
        return reply

    @staticmethod
    def _raw(message: Wake | Submission | str, message_id: str, receives: int) -> dict[str, Any]:
        if not isinstance(message, str):
            return a_record(message, message_id, receives).raw_event
        (record,) = sqs(message)["Records"]
        return {
            **record,
            "messageId": message_id,
            "receiptHandle": f"r-{message_id}",
            "attributes": {"ApproximateReceiveCount": str(receives)},
        }

    @property
    def succeeded(self) -> int:
        """Returns the number of attempts that were reported as committed."""
        return self.counted.count("JobSucceeded")

    def job(self, job_id: str = "j1") -> Job:
        return self.store.read("acme", job_id, now_ms=self.clock())

    def count(self) -> int:

        return counted(self.client, self.tables["CountersTable"], "n")

    def _run_task(self, job: Job, effects: Any) -> Any:
        self.ran.append(job)
        return self.body(job, effects)
