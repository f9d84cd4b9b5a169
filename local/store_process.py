"""The embedded store's process: the emulator, what is changed in it, and the guard before it."""

import json
import os
import sys
from typing import Any, Final

from local import emulator
from local.access import Access
from local.guarded_store import Guard, Identities

__all__ = ["SETTINGS"]

#: The variable that holds what the supervisor tells this process, as JSON: `identities`, `hosts`, and where state is kept.
SETTINGS: Final = "MAYFLY_STORE"


def main() -> None:
    """Runs the store as its settings say."""
    settings = json.loads(os.environ.pop(SETTINGS))
    from ministack import app as store

    kept = emulator.prepare(store, settings, _say)
    identities = Identities(**settings["identities"])
    access = Access(frozenset(settings["hosts"]))
    store.app = Guard(store.app, lambda refused: _say({"refused": refused}), identities, access, cors=emulator.bucket_cors, kept=kept)
    store.main()


def _say(what: dict[str, Any]) -> None:
    """Tells the supervisor something: a line of JSON."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
