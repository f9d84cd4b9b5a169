"""One of several processes that count, or take from limits, at the same time.

Usage: `python -m bench.hammer ORDER`, with ORDER as JSON: {"mode", "process", "threads", ...}. It
prints its results as one JSON line. "lose" is the share of responses that are lost between the
network and the SDK. The SDK's own retries therefore take part.
"""

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import boto3
import botocore.exceptions
from botocore.httpsession import URLLib3Session
from mayfly import counters, limits, resources
from mayfly.core.clock import system_clock
from mayfly.core.errors import StoreUnavailable
from mayfly.counters.errors import OutcomeUnknown
from mayfly.limits import Algorithm, Limit

_lost = threading.local()


def main() -> None:
    """Carries out one order."""
    order = json.loads(sys.argv[1])
    if lose := order.get("lose"):
        _lose_answers(lose, seed=order["process"])
    work = {"keyed": _keyed, "unkeyed": _unkeyed, "limit": _limit}[order["mode"]](order)
    results: list[Any] = []
    barrier = threading.Barrier(order["threads"])

    def run(thread: int) -> None:
        barrier.wait()
        results.append(work(thread))

    sys.stdin.readline()  # All processes start together.
    threads = [threading.Thread(target=run, args=[thread]) for thread in range(order["threads"])]
    for worker in threads:
        worker.start()
    for worker in threads:
        worker.join()
    print(json.dumps(results))


def _keyed(order: dict[str, Any]) -> Callable[[int], Any]:
    store = resources.counter_store(os.environ)

    def work(thread: int) -> dict[str, int]:
        failed = 0
        for number in range(order["each"]):
            key = f"{order['process']}-{thread}-{number}"
            acknowledged = 0
            # Each increment is sent twice, and again if it was not acknowledged.
            while acknowledged < 2:
                try:
                    counters.increment(store, tenant="t", name=order["name"], idempotency_key=key)
                    acknowledged += 1
                except StoreUnavailable:
                    failed += 1
        return {"failed": failed}

    return work


def _unkeyed(order: dict[str, Any]) -> Callable[[int], Any]:
    store = resources.counter_store(os.environ)

    def work(thread: int) -> dict[str, int]:
        done = {"acknowledged": 0, "settled": 0, "unknown": 0, "refused": 0}
        for _ in range(order["each"]):
            _lost.happened = False
            try:
                counters.increment(store, tenant="t", name=order["name"])
                done["settled" if _lost.happened else "acknowledged"] += 1
            except OutcomeUnknown:
                done["unknown"] += 1
            except StoreUnavailable:
                done["refused"] += 1
        return done

    return work


def _limit(order: dict[str, Any]) -> Callable[[int], Any]:
    moment = threading.local()

    def clock() -> int:
        moment.now = system_clock()
        return int(moment.now)

    store = resources.limit_store(os.environ, clock=clock)
    limit = Limit(
        "hammer",
        order["limit"],
        order["period_seconds"],
        Algorithm(order["algorithm"]),
        order.get("burst"),
    )

    def work(thread: int) -> dict[str, Any]:
        admitted, refused, stop = [], 0, time.monotonic() + order["seconds"]
        while time.monotonic() < stop:
            if limits.take(store, limit, tenant="t", key=order["name"]).is_allowed:
                admitted.append(moment.now)  # The time by which it was decided.
            else:
                refused += 1
                time.sleep(0.002)  # A pause leaves the store to the threads that may be admitted.
        return {"admitted": admitted, "refused": refused}

    return work


def _lose_answers(part: float, *, seed: int) -> None:
    draw = random.Random(seed)

    def lose(request: Any, event_name: str, **_: Any) -> None:
        if draw.random() < part:
            session.send(request)
            _lost.happened = True
            raise botocore.exceptions.ReadTimeoutError(endpoint_url=request.url)

    session = URLLib3Session(max_pool_connections=50)
    boto3.setup_default_session()
    assert boto3.DEFAULT_SESSION is not None
    boto3.DEFAULT_SESSION.events.register("before-send.dynamodb", lose)


if __name__ == "__main__":
    main()
