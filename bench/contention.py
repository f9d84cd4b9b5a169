"""Several workers on one counter, and on sixteen shards of it.

The store refuses transactions that conflict.
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.workers import EXCLUSIVE, OPTIMISTIC, canned, canned_figures, worker

QUESTION = (
    "how many jobs a second do 1, 2, 4 and 8 workers commit on one counter, and on a "
    "sharded one, where transactions conflict?"
)
LATENCY, BATCHES, SHARDS = 0.008, 15, 16


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Returns jobs a second, conflicts, and transactions sent again."""
    figures: dict[str, Any] = {}
    say(
        f"a store that answers after {LATENCY * 1000:.0f} ms and refuses transactions that "
        f"conflict; {BATCHES} batches of ten a worker"
    )
    with tempfile.TemporaryDirectory() as folder, canned(LATENCY) as endpoint:
        for peer in (OPTIMISTIC, EXCLUSIVE):
            for shards in (1, SHARDS):
                for count in (1, 2, 4, 8):
                    with ExitStack() as running:
                        workers = [
                            running.enter_context(worker(peer, endpoint, Path(folder)))
                            for _ in range(count)
                        ]
                        for runner in workers:
                            runner.run(2, ["warm"] * 10)
                        canned_figures(endpoint)
                        started = time.perf_counter()
                        for number, runner in enumerate(workers):
                            runner.start(BATCHES, [f"n-{number % shards}"] * 10)
                        failed = sum(runner.finish()["failed"] for runner in workers)
                        seconds = time.perf_counter() - started
                    requests = canned_figures(endpoint)
                    label = (
                        f"{peer.name}, {count} workers, "
                        f"{'one counter' if shards == 1 else f'{shards} shards'}"
                    )
                    jobs = count * BATCHES * 10 - int(failed)
                    figures |= {
                        f"{label}: jobs/s": round(jobs / seconds),
                        f"{label}: conflicts": requests["conflicts"],
                        f"{label}: transactions sent again": requests["calls"]["TransactWriteItems"]
                        - count * BATCHES,
                        f"{label}: records sent back": int(failed),
                    }
                    say(
                        f"  {label:<48} {jobs / seconds:>6.0f} jobs/s {requests['conflicts']:>5} "
                        f"conflicts in {requests['calls']['TransactWriteItems']:>4} transactions, "
                        f"{failed:.0f} records sent back"
                    )
    return figures
