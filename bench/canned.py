"""A store that answers immediately, so that a call costs only its client's own work.

It runs as a script in its own process. `--latency` seconds pass before each response. While a
transaction runs, others on its items are refused, as DynamoDB does (TransactionConflict). Nothing
is stored. `--tls` names a file with a certificate and its key, and `--answers` a file with a JSON
object: the answer of each operation that must not be empty.
"""

import argparse
import asyncio
import json
import ssl
import sys
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

__all__ = ["main"]

_OK: Final[dict[str, Any]] = {}


class Canned:
    """The responses, and counts of the requests."""

    def __init__(self, latency: float, answers: Mapping[str, dict[str, Any]]) -> None:
        self._latency = latency
        self._answers = answers
        self._held: set[str] = set()
        self.calls: dict[str, int] = {}
        self.conflicts = 0

    async def answer(self, target: str, body: bytes) -> tuple[int, dict[str, Any]]:
        """Returns the status and body of a response."""
        operation = target.rpartition(".")[2]
        if operation == "Figures":
            figures = {"calls": self.calls, "conflicts": self.conflicts}
            self.calls, self.conflicts = {}, 0
            return 200, figures
        self.calls[operation] = self.calls.get(operation, 0) + 1
        if operation == "TransactWriteItems":
            return await self._transact(json.loads(body)["TransactItems"])
        if self._latency:
            await asyncio.sleep(self._latency)
        if operation == "BatchExecuteStatement":
            return 200, {"Responses": [_OK] * len(json.loads(body)["Statements"])}
        if operation == "BatchGetItem":
            return 200, {"Responses": {}, "UnprocessedKeys": {}}
        return 200, self._answers.get(operation, _OK)

    async def _transact(self, writes: list[dict[str, Any]]) -> tuple[int, dict[str, Any]]:
        items = [_item(*write.values()) for write in writes]
        if any(item in self._held for item in items):
            self.conflicts += 1
            reasons = [
                {"Code": "TransactionConflict" if item in self._held else "None"} for item in items
            ]
            if self._latency:
                await asyncio.sleep(self._latency)
            return 400, {
                "__type": "com.amazonaws.dynamodb.v20120810#TransactionCanceledException",
                "CancellationReasons": reasons,
            }
        self._held.update(items)
        if self._latency:
            await asyncio.sleep(self._latency)
        self._held.difference_update(items)
        return 200, _OK

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection, request by request."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                headers = {
                    name.strip().lower(): value.strip()
                    for name, _, value in (
                        line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:]
                    )
                }
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                status, answer = await self.answer(headers.get("x-amz-target", ""), body)
                text = json.dumps(answer).encode()
                writer.write(
                    b"HTTP/1.1 %d OK\r\nContent-Type: application/x-amz-json-1.0\r\n"
                    b"x-amzn-RequestId: 0\r\nx-amz-crc32: %d\r\nContent-Length: %d\r\n\r\n"
                    % (status, zlib.crc32(text), len(text))
                    + text
                )
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
            writer.close()


def _item(write: dict[str, Any]) -> str:
    key = (
        write.get("Key")
        or {name: write["Item"][name] for name in ("pk", "sk") if name in write["Item"]}
        or write["Item"]
    )
    return json.dumps([write["TableName"], key], sort_keys=True)


async def _run(canned: Canned, tls: ssl.SSLContext | None) -> None:
    server = await asyncio.start_server(
        canned.serve, "127.0.0.1", 0, limit=8 * 1024 * 1024, ssl=tls
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    # Serve until the owner closes standard input.
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.close()


def main() -> None:
    """Prints its port, and serves until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--answers", type=Path)
    parser.add_argument("--tls", type=Path)
    options = parser.parse_args()
    answers = json.loads(options.answers.read_text()) if options.answers else {}
    tls = None
    if options.tls:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(options.tls)
    asyncio.run(_run(Canned(options.latency, answers), tls))


if __name__ == "__main__":
    main()
