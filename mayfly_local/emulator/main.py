"""The emulator's process: the emulator, its durable state, and the guard in front of it."""

import asyncio
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from mayfly_local.emulator import preparation as emulator
from mayfly_local.emulator.process import SETTINGS
from mayfly_local.emulator.secrets import secret_arn
from mayfly_local.iam.guard import Guard
from mayfly_local.iam.identities import Identities
from mayfly_local.ports.access import Access
from mayfly_local.ports.asgi import handler_of, lifespan
from mayfly_local.ports.file_limit import raise_file_limit
from mayfly_local.ports.http_server import HttpServer

__all__ = ["main"]

#: Open files besides connections: the journal, objects, and files that a library opens briefly.
_OWN_FILES: Final = 96
_FEWEST_CONNECTIONS: Final = 64


def main() -> None:
    """Runs the emulator with its settings, on the socket that the supervisor has opened."""
    gc.disable()  # Nothing that is loaded is garbage. `prepare` enables it again.
    settings = json.loads(os.environ.pop(SETTINGS))
    say = _speaker(settings["mark"])
    from ministack import app as ministack

    identities = Identities(**settings["identities"])
    kept = emulator.prepare(ministack, settings, identities, say)
    from mayfly_local.emulator.keys import key_arn
    from mayfly_local.emulator.tables import EmulatorTables

    access = Access(frozenset(settings["hosts"]))
    guard = Guard(
        ministack.app, lambda refused: say({"refused": refused}), identities, access,
        cors=emulator.bucket_cors,
        bucket_of=emulator.bucket_of_host, secret_arn=secret_arn, key_arn=key_arn, kept=kept,
        tables=EmulatorTables(), transaction_seconds=settings["transaction_seconds"],
        request=lambda what: say({"requested": what}),
    )  # fmt: skip
    asyncio.run(_serve(guard, access, socket.socket(fileno=settings["socket"])))


async def _serve(guard: Guard, access: Access, listener: socket.socket) -> None:
    """Serves until a signal.

    The guard decides on pages, because a bucket may be open to some. The server decides on host
    names.
    """
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    most = max(_FEWEST_CONNECTIONS, raise_file_limit() - _OWN_FILES)
    server = HttpServer(
        handler_of(guard),
        replace(access, for_pages=True),
        body_limit=sys.maxsize,
        most_connections=most,
    )
    async with lifespan(guard):
        await server.listen(listener)
        await stopping.wait()
        await server.close()


def _speaker(mark: str) -> Callable[[dict[str, Any]], None]:
    """Returns a function that prints a line for the supervisor.

    The mark distinguishes it from lines that a request may have forged.
    """

    def say(what: dict[str, Any]) -> None:
        sys.stdout.write(f"{mark}{json.dumps(what)}\n")
        sys.stdout.flush()

    return say


if __name__ == "__main__":
    main()
