"""One of several processes that use the same sessions.

It reads orders on stdin, carries them out on two threads, and writes the results.

An order is `[seed, tenant, subject, tokens, calls]`: operations drawn by the seed, on these tokens
and on those they are rotated to.
"""

import json
import os
import random
import sys
import threading
import time
from typing import Any

from mayfly import resources, sessions
from mayfly.core.errors import StoreUnavailable
from mayfly.sessions.errors import SessionNotFound

#: Ends are rare, so that the other operations find open sessions.
_OPERATIONS = ("read",) * 12 + ("patch",) * 12 + ("rotate",) * 3 + ("end",)


def main() -> None:
    """Serves orders until there are no more."""
    store = resources.session_store(os.environ)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        seed, tenant, subject, tokens, calls = json.loads(line)
        done: list[list[Any]] = []
        threads = [
            threading.Thread(
                target=play, args=[store, f"{seed}-{each}", tenant, subject, tokens, calls, done]
            )
            for each in range(2)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        sys.stdout.write(json.dumps(done) + "\n")
        sys.stdout.flush()


def play(
    store: Any,
    seed: str,
    tenant: str,
    subject: str | None,
    tokens: list[str],
    calls: int,
    done: list[list[Any]],
) -> None:
    """Runs a few operations in sequence, mostly on the newest token that this process has."""
    draw = random.Random(seed)
    for number in range(calls):
        operation, used = (
            draw.choice((*_OPERATIONS, "end_all") if subject else _OPERATIONS),
            draw.choice([tokens[-1], tokens[-1], tokens[-1], tokens[0]]),
        )
        argument: Any = (
            {"key": f"k{draw.randrange(3)}", "value": f"{seed}-{number}"}
            if operation == "patch"
            else None
        )
        began = time.monotonic_ns()
        try:
            answer = act(store, operation, used, argument, tenant, subject, tokens)
        except SessionNotFound:
            answer = "not found"
        except StoreUnavailable as problem:
            answer = f"unknown: {problem}"
        done.append(
            [began, time.monotonic_ns(), operation, {"token": used, "patch": argument}, answer]
        )


def act(
    store: Any,
    operation: str,
    token: str,
    argument: Any,
    tenant: str,
    subject: str | None,
    tokens: list[str],
) -> Any:
    """Runs one operation and returns its outcome."""
    if operation == "read":
        found = sessions.read(store, token, tenant=tenant)
        return {"version": found.version, "data": found.data}
    if operation == "patch":
        found = sessions.patch(store, token, {argument["key"]: argument["value"]}, tenant=tenant)
        return {"version": found.version, "data": found.data}
    if operation == "rotate":
        fresh, found = sessions.rotate(store, token, tenant=tenant)
        tokens.append(fresh)
        return {"version": found.version, "data": found.data, "token": fresh}
    if operation == "end":
        sessions.end(store, token, tenant=tenant)
        return "ended"
    assert subject is not None
    sessions.end_all(store, tenant=tenant, subject=subject)
    return "ended all"


if __name__ == "__main__":
    main()
