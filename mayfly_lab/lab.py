"""Runs the matrix: every store call with every fault, on worker processes against the emulator."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

import psutil
import requests

from mayfly_lab.worker import FAULTS
from mayfly_local.application.template import load
from mayfly_local.emulator.clients import Clients
from mayfly_local.errors import LocalError
from mayfly_local.iam.credentials import FOREIGN, emulator_variables
from mayfly_local.iam.transactions import TRANSACTION_SECONDS
from mayfly_testing.stack import emulator

__all__ = ["CONTROL", "Outcome", "Subject", "run"]

#: The control, which must fail.
CONTROL: Final = "stock Powertools recipe"

_HERE: Final = Path(__file__).parent
#: Seconds for which a claim holds in the lab; the stock recipe's lock holds as long.
_LEASE: Final = 1
#: Longest time of a delivery, and of a run with all its deliveries, in seconds.
_LONGEST_DELIVERY: Final = 20.0
_LONGEST_RUN: Final = 60.0


_EXCLUSIVE_TASK: Final = """
from mayfly.jobs import Effects, Job, task


@task("lab.exclusive", exclusive=True)
def add(job: Job, effects: Effects) -> None:
    effects.increment(job.payload["name"])
"""


@dataclass(frozen=True)
class Subject:
    """A worker function under test.

    `main` is the module of its handler in `folder`. `path` has its imports other than its packages.
    """

    name: str
    folder: Path
    path: tuple[Path, ...] = ()
    task: str = ""
    messages: int = 1
    main: str = "main"
    #: True if jobs are submitted to the API first, and the messages only wake them.
    is_submitted: bool = False
    #: Remaining time of the invocation in milliseconds. The stock recipe locks for as long.
    remaining_ms: int = 30_000


def _subjects(root: Path, functions: Path) -> list[Subject]:
    ours = Subject("", functions, (root / "layers/mayfly",), "counter.add", main="run_jobs.main")
    return [
        Subject(CONTROL, _HERE / "stock", remaining_ms=_LEASE * 1000),
        replace(ours, name="mayfly, one message"),
        replace(ours, name="mayfly, three messages", messages=3),
        replace(ours, name="mayfly, three submitted jobs", messages=3, is_submitted=True),
        replace(ours, name="mayfly, three messages, exclusive", messages=3, task="lab.exclusive"),
        replace(
            ours,
            name="mayfly, three submitted, exclusive",
            messages=3,
            task="lab.exclusive",
            is_submitted=True,
        ),
    ]


@dataclass
class Outcome:
    """The result of one subject under one fault.

    `applied` counts the effects by the number of times that each was applied.
    """

    subject: str
    fault: str
    runs: int = 0
    applied: Counter[int] = field(default_factory=Counter)
    #: Runs that left messages on the queue at the end.
    unsettled: int = 0
    #: Requests that the store refused, since a transaction held their item.
    conflicts: int = 0

    @property
    def once(self) -> int:
        """Effects applied exactly once."""
        return self.applied[1]

    @property
    def more(self) -> int:
        """Effects applied twice or more."""
        return sum(number for times, number in self.applied.items() if times > 1)

    @property
    def never(self) -> int:
        """Effects that were lost."""
        return self.applied[0]


def run(root: Path, *, repeats: int, client: str, say: Callable[[str], None]) -> list[Outcome]:
    """Runs every subject under every fault at each of its calls, `repeats` times.

    `client` is the client of Mayfly's workers, lean or boto3. Shows the progress with `say`. Raises
    LocalError if a worker fails without a fault.
    """
    with (
        tempfile.TemporaryDirectory(prefix="mayfly-crash-") as folder,
        emulator(Path(folder), transaction_seconds=TRANSACTION_SECONDS) as endpoint,
    ):
        functions = Path(folder) / "functions"
        shutil.copytree(root / "functions", functions, ignore=shutil.ignore_patterns("__pycache__"))
        (functions / "tasks/lab_exclusive.py").write_text(_EXCLUSIVE_TASK)
        lab = _Lab(root, endpoint, Path(folder), client)
        api = Subject("the API", functions, (root / "layers/mayfly",), main="jobs.main")
        outcomes = []
        for subject in _subjects(root, functions):
            with lab.worker(subject) as worker, lab.worker(api) as lab.api:
                calls = lab.count_calls(subject, worker)
                say(f"{subject.name}: {calls} store calls a delivery")
                for fault in FAULTS:
                    outcome, before = Outcome(subject.name, fault), lab.conflicts()
                    cells = [number for number in range(1, calls + 1) for _ in range(repeats)]
                    with ThreadPoolExecutor(12) as threads:
                        deliver = partial(lab.deliver, subject, worker, fault)
                        for result in threads.map(deliver, cells):
                            outcome.runs += 1
                            outcome.applied.update(result.applied)
                            outcome.unsettled += not result.is_settled
                    outcome.conflicts = lab.conflicts() - before
                    outcomes.append(outcome)
                    say(f"  {fault:<9} {outcome.runs} runs, {outcome.conflicts} conflicts")
        return outcomes


@dataclass(frozen=True)
class _Result:
    applied: Counter[int]
    is_settled: bool


class _Worker:
    """A subject's process, which forks one process for each delivery."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._lock = threading.Lock()

    def fork(self, command: Mapping[str, Any]) -> int:
        """Starts a delivery and returns its process id."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            print(json.dumps(command), file=self._process.stdin, flush=True)
            return int(self._process.stdout.readline())


class _Lab:
    def __init__(self, root: Path, endpoint: str, work: Path, client: str) -> None:
        self._client = client
        clients = Clients(endpoint)
        self._dynamodb, self._sqs = clients.get("dynamodb"), clients.get("sqs")
        self._endpoint = endpoint
        self._work = work
        self._names = count()
        self.api: _Worker | None = None
        template = load(root / "template.yaml", cache=work)
        for name, table in template.of_type("AWS::DynamoDB::Table").items():
            wanted = ("AttributeDefinitions", "KeySchema", "BillingMode", "GlobalSecondaryIndexes")
            self._dynamodb.create_table(
                TableName=name, **{key: value for key, value in table.items() if key in wanted}
            )
        self._dynamodb.create_table(
            TableName="Idempotency",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )

    @contextmanager
    def worker(self, subject: Subject) -> Iterator[_Worker]:
        """Runs a subject's process until the end of the block.

        Raises LocalError if it does not start.
        """
        env = {
            "PATH": os.environ.get("PATH", ""),
            **emulator_variables(self._endpoint, FOREIGN),
            "PYTHONPATH": os.pathsep.join(str(folder) for folder in subject.path),
            "POWERTOOLS_SERVICE_NAME": "crash-lab",
            "POWERTOOLS_METRICS_NAMESPACE": "crash-lab",
            "AWS_LAMBDA_FUNCTION_NAME": "crash-lab",
            "JOBS_TABLE": "JobsTable",
            "COUNTERS_TABLE": "CountersTable",
            "IMPORTS_BUCKET": "imports",
            "TENANT_LIMIT": "0",
            "IDEMPOTENCY_TABLE": "Idempotency",
            "DEFAULT_TENANT": "default",
            "JOBS_QUEUE_URL": "each delivery has its own",
            "LEASE_SECONDS": str(_LEASE),
            "MAYFLY_CLIENT": self._client,
            # For the stock recipe, whose client otherwise has the SDK's default of ten. Runs would
            # only take longer.
            "AWS_RETRY_MODE": "standard",
            "AWS_MAX_ATTEMPTS": "3",
        }
        process = subprocess.Popen(
            [sys.executable, _HERE / "worker.py", subject.main],
            cwd=subject.folder,
            env=env,
            text=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline().strip() != "ready":
                raise LocalError(
                    f"the worker of {subject.name!r} did not start; its output is above"
                )
            yield _Worker(process)
        finally:
            process.stdin.close()
            process.wait(10)
            process.stdout.close()

    def count_calls(self, subject: Subject, worker: _Worker) -> int:
        """Returns the number of store calls of a delivery without faults.

        Raises LocalError if that delivery fails.
        """
        run = _Run(self, subject, worker, fault=None, number=0)
        result = run.result()
        if list(result.applied.elements()) != [1] * subject.messages or not result.is_settled:
            raise LocalError(f"{subject.name!r} fails even without a fault: {result}")
        return run.calls

    def submit(self, body: Mapping[str, Any]) -> str:
        """Submits a job to the API function.

        Returns the message with which the relay would wake it.
        """
        name = self.name()
        reply = self._work / f"{name}.reply"
        context = {
            "http": {"method": "POST", "path": "/jobs"},
            "requestId": name,
            "stage": "$default",
            "routeKey": "POST /jobs",
        }
        context["authorizer"] = {"lambda": {"tenant": "default", "scopes": "jobs:write"}}
        event = {
            "version": "2.0", "routeKey": "POST /jobs", "rawPath": "/jobs", "rawQueryString": "",
            "headers": {},
            "requestContext": context, "body": json.dumps(body), "isBase64Encoded": False,
        }  # fmt: skip
        assert self.api is not None
        pid = self.api.fork({
            "event": event, "queue": "", "fault": None, "number": 0, "remaining_ms": 30_000,
            "reply": str(reply),
            "calls": str(self._work / f"{name}.calls"), "log": str(self._work / "worker.log"),
        })  # fmt: skip
        wait_for_end(pid, _LONGEST_DELIVERY)
        answer = json.loads(reply.read_text())
        assert answer["statusCode"] == 202, answer
        return json.dumps({"tenant": "default", "id": json.loads(answer["body"])["id"]})

    def deliver(self, subject: Subject, worker: _Worker, fault: str, number: int) -> _Result:
        """Delivers messages under a fault until they are finished.

        Returns how often each effect was applied.
        """
        return _Run(self, subject, worker, fault=fault, number=number).result()

    def queue(self, name: str) -> str:
        """Creates a queue for one run, so that no other run receives its messages.

        Its visibility timeout equals the stock recipe's lock.
        """
        url: str = self._sqs.create_queue(
            QueueName=name, Attributes={"VisibilityTimeout": str(_LEASE)}
        )["QueueUrl"]
        return url

    def value(self, counter: str) -> int:
        """Returns the value of a counter, or 0 if it does not exist."""
        key = {"pk": {"S": f"default/{counter}"}, "sk": {"S": "shard/0"}}
        item = self._dynamodb.get_item(TableName="CountersTable", Key=key, ConsistentRead=True).get(
            "Item", {}
        )
        return int(item.get("value", {"N": "0"})["N"])

    def conflicts(self) -> int:
        """Returns how many requests the store has refused, since a transaction held their item."""
        reply = requests.get(
            f"{self._endpoint}/_mayfly/transactions",
            headers={"Authorization": f"Bearer {FOREIGN.id}"},
            timeout=10,
        )
        reply.raise_for_status()
        report: dict[str, dict[str, int]] = reply.json()
        return sum(report["met"].values()) + sum(report["requested"].values())

    def name(self) -> str:
        """Returns an unused name."""
        return f"run{next(self._names)}"

    @property
    def work(self) -> Path:
        """The folder for files."""
        return self._work

    @property
    def sqs(self) -> Any:
        """The SQS client."""
        return self._sqs


class _Run:
    """One message, or a few in one batch, delivered until they are finished.

    The first delivery gets the fault.
    """

    def __init__(
        self, lab: _Lab, subject: Subject, worker: _Worker, *, fault: str | None, number: int
    ) -> None:
        self._lab, self._subject, self._worker = lab, subject, worker
        self._fault, self._number = fault, number
        self._name = lab.name()
        self._url = lab.queue(self._name)
        self._calls_file = lab.work / f"{self._name}.calls"
        self._deadline = time.monotonic() + _LONGEST_RUN

    @property
    def calls(self) -> int:
        """Store calls of the last delivery."""
        return int(self._calls_file.read_text())

    def result(self) -> _Result:
        """Returns effects by the times that they were applied.

        Tells as well whether every message was finished.
        """
        counters = [f"{self._name}-{index}" for index in range(self._subject.messages)]
        for counter in counters:
            body = {"task": self._subject.task, "payload": {"name": counter}}
            message = self._lab.submit(body) if self._subject.is_submitted else json.dumps(body)
            self._lab.sqs.send_message(QueueUrl=self._url, MessageBody=message)
        left, paused = len(counters), None
        while left and time.monotonic() < self._deadline:
            messages = self._receive(left)
            if not messages:
                continue
            fault, self._fault = self._fault, None
            pid, reply = self._fork(messages, fault)
            if fault == "pause" and self._is_stopped(pid):
                paused = (pid, reply, messages)
                continue
            left -= self._finish(pid, reply, messages)
        if paused is not None:
            pid, reply, messages = paused
            os.kill(pid, signal.SIGCONT)
            self._finish(pid, reply, messages)
        self._lab.sqs.delete_queue(QueueUrl=self._url)
        return _Result(
            Counter(self._lab.value(counter) for counter in counters), is_settled=left == 0
        )

    def _receive(self, count: int) -> list[dict[str, Any]]:
        """Receives the available messages; for the first delivery all of them, in one batch."""
        received: list[dict[str, Any]] = []
        while not received or (self._is_first and len(received) < count):
            reply = self._lab.sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=1,
                AttributeNames=["All"],
            )
            received += reply.get("Messages", [])
            if not received:
                break
        return received

    @property
    def _is_first(self) -> bool:
        return self._fault is not None

    def _fork(self, messages: list[dict[str, Any]], fault: str | None) -> tuple[int, Path]:
        reply = (
            self._lab.work
            / f"{self._name}-{messages[0]['ReceiptHandle'][:8]}-{time.monotonic_ns()}.reply"
        )
        event = {"Records": [_record(message) for message in messages]}
        pid = self._worker.fork({
            "event": event, "queue": self._url, "fault": fault, "number": self._number,
            "remaining_ms": self._subject.remaining_ms,
            "reply": str(reply), "calls": str(self._calls_file),
            "log": str(self._lab.work / "worker.log"),
        })  # fmt: skip
        return pid, reply

    def _is_stopped(self, pid: int) -> bool:
        """Waits until the process has stopped itself, or has ended before."""
        while time.monotonic() < self._deadline:
            try:
                if psutil.Process(pid).status() == psutil.STATUS_STOPPED:
                    return True
            except psutil.NoSuchProcess:
                return False
            time.sleep(0.01)
        return False

    def _finish(self, pid: int, reply: Path, messages: list[dict[str, Any]]) -> int:
        """Waits for the delivery's end, and deletes the messages that it reports as done.

        Lambda does the same. Returns their number.
        """
        wait_for_end(pid, _LONGEST_DELIVERY)
        if not reply.exists():
            return 0
        failed = {
            failure["itemIdentifier"]
            for failure in json.loads(reply.read_text())["batchItemFailures"]
        }
        done = 0
        for message in messages:
            if message["MessageId"] not in failed:
                # An expired receipt deletes nothing.
                with suppress(self._lab.sqs.exceptions.ClientError):
                    self._lab.sqs.delete_message(
                        QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"]
                    )
                    done += 1
        return done


def wait_for_end(pid: int, seconds: float) -> None:
    """Returns when a process has ended; kills it if it takes longer."""
    until = time.monotonic() + seconds
    while psutil.pid_exists(pid) and time.monotonic() < until:
        time.sleep(0.005)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _record(message: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": {},
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:000000000000:crash-lab",
        "awsRegion": "us-east-1",
    }
