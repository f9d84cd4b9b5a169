"""A batch of ten messages with one effect each, in both modes of Mayfly.

The documented recipe and other ways run in the same rounds.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from bench.workers import PEERS, RECIPE, Peer, Worker, canned, worker
from mayfly_local.application.template import load
from mayfly_local.emulator.clients import Clients
from mayfly_testing.stack import ROOT, emulator

QUESTION = (
    "what does a batch of ten messages cost, one effect each, beside the documented "
    "recipe, in the same interleaved rounds?"
)
ROUNDS, PER_ROUND, WARM = 15, 4, 10
SHARED, DISTINCT = ["n"] * 10, [f"n{number}" for number in range(10)]
#: Share of a core of a Lambda function with 128 MB.
SMALLEST_SHARE = 128 / 1769


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Returns calls, serial round trips, CPU ratios and wall times.

    They are by store, and by whether the messages share a counter.
    """
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        with canned() as endpoint, _workers(endpoint, work) as workers:
            for counters, label in ((SHARED, "one counter"), (DISTINCT, "ten counters")):
                figures |= _table(
                    say, f"store that answers at once, {label}", _rounds(workers, counters)
                )
            figures |= _at_smallest_share(say, workers)
        with canned(0.02) as endpoint, _workers(endpoint, work) as workers:
            walls = {peer.name: runner.run(3, SHARED)["wall"] for peer, runner in workers.items()}
            say(
                "20 ms a call, wall ms a batch: "
                + ", ".join(f"{name} {wall:.0f}" for name, wall in walls.items())
            )
            figures |= {
                f"20 ms a call, {name}: wall ms": round(wall) for name, wall in walls.items()
            }
        with (
            emulator(work) as endpoint,
            _workers(endpoint, work, queue=make_stores(endpoint, work)) as workers,
        ):
            figures |= _table(say, "emulator, one counter", _rounds(workers, SHARED))
            key = {"pk": {"S": "default/n"}, "sk": {"S": "shard/0"}}
            item = (
                Clients(endpoint)
                .get("dynamodb")
                .get_item(TableName="CountersTable", Key=key, ConsistentRead=True)["Item"]
            )
            # All peers did the work that was measured.
            assert int(item["value"]["N"]) == len(PEERS) * 10 * (WARM + ROUNDS * PER_ROUND)
    return figures


@contextmanager
def _workers(
    endpoint: str, work: Path, *, queue: str | None = None
) -> Iterator[dict[Peer, Worker]]:
    with ExitStack() as running:
        # A queue for each peer, so that no peer receives another one's messages.
        queues = {
            peer: queue and make_queue(endpoint, f"jobs-{number}")
            for number, peer in enumerate(PEERS)
        }
        workers = {
            peer: running.enter_context(worker(peer, endpoint, work, queue=queues[peer]))
            for peer in PEERS
        }
        for runner in workers.values():
            runner.run(WARM, SHARED)
        yield workers


def _rounds(
    workers: dict[Peer, Worker], counters: Sequence[str]
) -> dict[Peer, list[dict[str, float]]]:
    runs: dict[Peer, list[dict[str, float]]] = {peer: [] for peer in workers}
    for _ in range(ROUNDS):
        for peer, runner in workers.items():
            runs[peer].append(runner.run(PER_ROUND, counters))
    return runs


def _table(
    say: Callable[[str], None], label: str, rounds: dict[Peer, list[dict[str, float]]]
) -> dict[str, Any]:
    say(f"{label}, {ROUNDS} interleaved rounds of {PER_ROUND} batches")
    say(f"  {'':<30} {'calls':>6} {'serial':>6} {'CPU ms':>7} {'of the recipe':>20} {'wall ms':>8}")
    figures: dict[str, Any] = {}
    for peer, runs in rounds.items():
        ratios = sorted(
            one["cpu"] / recipe["cpu"] for one, recipe in zip(runs, rounds[RECIPE], strict=True)
        )
        calls, serial = (
            statistics.median(run["calls"] for run in runs),
            statistics.median(run["serial"] for run in runs),
        )
        cpu, wall = (
            statistics.median(run["cpu"] for run in runs),
            statistics.median(run["wall"] for run in runs),
        )
        ratio = statistics.median(ratios)
        say(
            f"  {peer.name:<30} {calls:>6.0f} {serial:>6.0f} {cpu:>7.1f} {ratio:>7.2f} "
            f"({ratios[0]:.2f} to {ratios[-1]:.2f}) {wall:>8.1f}"
        )
        figures |= {
            f"{label}, {peer.name}: calls": calls,
            f"{label}, {peer.name}: serial trips": serial,
            f"{label}, {peer.name}: CPU of the recipe's": round(ratio, 3),
            f"{label}, {peer.name}: wall ms": round(wall, 1),
        }
    return figures


def _at_smallest_share(say: Callable[[str], None], workers: dict[Peer, Worker]) -> dict[str, Any]:
    """Returns wall times with the share of a core of a 128 MB function, if cgroups allow it."""
    group = Path("/sys/fs/cgroup/cpu/mayfly-bench")
    try:
        group.mkdir(exist_ok=True)
        (group / "cpu.cfs_period_us").write_text("20000")
        (group / "cpu.cfs_quota_us").write_text(str(round(20000 * SMALLEST_SHARE)))
        (group / "cgroup.procs").write_text(str(next(iter(workers.values())).pid))
    except OSError as problem:
        say(
            "not measured at the share of a 128 MB function: cgroups do not allow it here "
            f"({problem})"
        )
        return {}
    figures: dict[str, Any] = {}
    for peer, runner in workers.items():
        (group / "cgroup.procs").write_text(str(runner.pid))
        figures[f"at a 128 MB share, {peer.name}: wall ms"] = round(runner.run(3, SHARED)["wall"])
        with suppress(OSError):
            Path("/sys/fs/cgroup/cpu/cgroup.procs").write_text(str(runner.pid))
    with suppress(OSError):
        group.rmdir()
    say(
        "at the share of a 128 MB function (1/14 of a core), wall ms a batch: "
        + ", ".join(
            f"{name.split(', ', 1)[1].split(':')[0]} {wall}" for name, wall in figures.items()
        )
    )
    return figures


def make_stores(endpoint: str, work: Path) -> str:
    """Creates the template's tables, the recipe's table and a queue; returns the queue's URL."""
    clients = Clients(endpoint)
    client = clients.get("dynamodb")
    for name, table in (
        load(ROOT / "template.yaml", cache=work).of_type("AWS::DynamoDB::Table").items()
    ):
        wanted = ("AttributeDefinitions", "KeySchema", "BillingMode", "GlobalSecondaryIndexes")
        client.create_table(
            TableName=name, **{key: value for key, value in table.items() if key in wanted}
        )
    client.create_table(
        TableName="Idempotency", BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )  # fmt: skip
    return make_queue(endpoint, "jobs")


def make_queue(endpoint: str, name: str) -> str:
    """Creates a queue, and returns its URL."""
    return str(Clients(endpoint).get("sqs").create_queue(QueueName=name)["QueueUrl"])
