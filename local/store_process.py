"""The embedded store's process: the emulator, its changes, and the guard in front of it."""

import asyncio
import json
import os
import sys
from collections.abc import Callable
from typing import Any, Final

from local import emulator
from local.access import Access
from local.guarded_store import Guard, Identities

__all__ = ["SETTINGS"]

#: Variable with the supervisor's settings as JSON: `identities`, `hosts`, `socket`, `mark`, and the place of the state.
SETTINGS: Final = "MAYFLY_STORE"
_KEEP_ALIVE_SECONDS: Final = 75


def main() -> None:
    """Runs the store with its settings, on the socket that the supervisor has opened."""
    settings = json.loads(os.environ.pop(SETTINGS))
    say = _speaker(settings["mark"])
    from hypercorn.asyncio import serve
    from hypercorn.config import Config
    from ministack import app as store

    identities = Identities(**settings["identities"])
    kept = emulator.prepare(store, settings, identities, say)
    access = Access(frozenset(settings["hosts"]))
    guard = Guard(store.app, lambda refused: say({"refused": refused}), identities, access, cors=emulator.bucket_cors, kept=kept)
    config = Config()
    config.bind = [f"fd://{settings['socket']}"]
    config.keep_alive_timeout = _KEEP_ALIVE_SECONDS
    config.loglevel = "WARNING"
    asyncio.run(serve(guard, config))  # type: ignore[arg-type]  # hypercorn's own names of the ASGI types


def _speaker(mark: str) -> Callable[[dict[str, Any]], None]:
    """Returns a function that prints a line for the supervisor. The mark tells it from lines that a request may have forged."""

    def say(what: dict[str, Any]) -> None:
        sys.stdout.write(f"{mark}{json.dumps(what)}\n")
        sys.stdout.flush()

    return say


if __name__ == "__main__":
    main()
