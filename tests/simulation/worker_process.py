"""A worker as a process of its own, for tests that need many.

It prints when it is ready, takes one batch, and prints the outcome.

Arguments: the emulator's endpoint, the names of the jobs and the counters table, `exclusive` or
`optimistic`, and the ids of the jobs.
"""

import json
import os
import sys

from mayfly.jobs.model import Wake

from tests.support.clients import make_client
from tests.support.stage import Stage


def main() -> None:
    """Takes one batch."""
    endpoint, jobs_table, counters_table, mode, *names = sys.argv[1:]
    os.environ["AWS_ENDPOINT_URL"] = endpoint  # tests.conftest has made sure that none is inherited
    stage = Stage(
        make_client("dynamodb"),
        {"JobsTable": jobs_table, "CountersTable": counters_table},
        exclusive=mode == "exclusive",
    )
    stage.clock.now_ms = 1_800_000_000_000
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    reply = stage.handle(*(Wake("acme", name) for name in names))
    failed = [each["itemIdentifier"] for each in reply["batchItemFailures"]]
    sys.stdout.write(
        json.dumps({"failed": failed, "succeeded": stage.succeeded, "ran": len(stage.ran)}) + "\n"
    )


if __name__ == "__main__":
    main()
