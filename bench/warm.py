"""The cost of a warm request, relative to the one store update that it makes."""

import http.client
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mayfly_testing.stack import running

QUESTION = (
    "how long does a warm GET / take, against the one update that it makes, on the same "
    "store in the same run?"
)
ROUNDS, PER_ROUND = 20, 25


def measure(say: Callable[[str], None]) -> dict[str, Any]:
    """Returns median milliseconds of both, in alternating rounds, and their ratio."""
    page: list[float] = []
    update: list[float] = []
    with tempfile.TemporaryDirectory() as folder, running(Path(folder)) as stack:
        client, table = stack.client("dynamodb"), stack.facts["resources"]["CountersTable"]
        connection = http.client.HTTPConnection("127.0.0.1", stack.port)

        def get() -> None:
            connection.request("GET", "/")
            connection.getresponse().read()

        def write() -> None:
            client.update_item(
                TableName=table,
                Key={"pk": {"S": "bench"}, "sk": {"S": "bench"}},
                UpdateExpression="ADD #value :one SET #last = :nonce",
                ExpressionAttributeNames={"#value": "value", "#last": "last"},
                ExpressionAttributeValues={":one": {"N": "1"}, ":nonce": {"S": "0123456789abcdef"}},
                ReturnValues="UPDATED_NEW",
            )

        for call in (get, write):
            _timed(call, 100)
        for _ in range(ROUNDS):
            page += _timed(get, PER_ROUND)
            update += _timed(write, PER_ROUND)
        connection.close()
    ratios = [
        statistics.median(page[i : i + PER_ROUND]) / statistics.median(update[i : i + PER_ROUND])
        for i in range(0, len(page), PER_ROUND)
    ]
    say(
        f"{ROUNDS} interleaved rounds of {PER_ROUND}; ratio of medians by round: "
        f"{min(ratios):.2f} to {max(ratios):.2f}"
    )
    return {
        "GET / p50, ms": round(statistics.median(page) * 1000, 2),
        "GET / p95, ms": round(statistics.quantiles(page, n=20)[18] * 1000, 2),
        "one update p50, ms": round(statistics.median(update) * 1000, 2),
        "GET / in store updates (ratio of p50)": round(
            statistics.median(page) / statistics.median(update), 2
        ),
    }


def _timed(call: Callable[[], None], times: int) -> list[float]:
    durations = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        durations.append(time.perf_counter() - started)
    return durations
