"""The embedded store: an AWS-compatible server as a child on loopback, for state only.

Which one and why: docs/decisions/0003. It is started, watched and stopped here and nowhere else; any other AWS-compatible
endpoint can take its place (`mayfly up --endpoint-url`).
"""

import asyncio
import json
import os
import socket
import sys
import time
from pathlib import Path
from typing import Final

import aiohttp

from local.errors import LocalError
from local.logs import Log
from local.processes import Child, Children
from local.template import ACCOUNT, REGION

__all__ = ["EmbeddedStore", "free_port"]

_SERVICES: Final = "dynamodb,dynamodbstreams,sqs,s3,ssm,cloudformation,iam,sts"
_START_SECONDS: Final = 30.0
_SAVE_SECONDS: Final = 10.0


class EmbeddedStore:
    """The store's process. Keeps its state in `state` across clean stops, in memory only where that is None."""

    def __init__(self, port: int, *, work: Path, state: Path | None, log: Log) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self._port = port
        self._work = work
        self._state = state
        self._log = log
        self._child: Child | None = None
        self._reader: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._child is not None
        return self._child.pid

    async def start(self, children: Children) -> None:
        """Starts the process and returns when it answers. Raises LocalError when it does not come up."""
        temporary = self._work / "store"
        temporary.mkdir(parents=True, exist_ok=True)
        self._child = await children.spawn("local.guarded_store", env=self._variables(temporary), folder=temporary)
        self._reader = asyncio.ensure_future(self._read_output(self._child))
        await self._answering(self._child)

    async def ended(self) -> int:
        """Waits until the process ends, and returns its exit code."""
        assert self._child is not None
        return await asyncio.shield(self._child.ended)

    async def stop(self) -> None:
        """Stops it, with the time it takes to save its state."""
        if self._child is not None:
            await self._child.stop(_SAVE_SECONDS)

    def _variables(self, temporary: Path) -> dict[str, str]:
        saved = {"PERSIST_STATE": "1", "S3_PERSIST": "1", "STATE_DIR": str(self._state), "S3_DATA_DIR": f"{self._state}/s3"}
        return {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(temporary),
            "TMPDIR": str(temporary),
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",
            "GATEWAY_PORT": str(self._port),
            "MINISTACK_REGION": REGION,
            "MINISTACK_ACCOUNT_ID": ACCOUNT,
            "SERVICES": _SERVICES,
            # With a port here it would also listen on all interfaces.
            "IOT_MTLS_PORT": "0",
            "LOG_LEVEL": "WARNING",
            **(saved if self._state else {"PERSIST_STATE": "0"}),
        }

    async def _answering(self, child: Child) -> None:
        deadline = time.monotonic() + _START_SECONDS
        async with aiohttp.ClientSession() as session:
            while time.monotonic() < deadline:
                if child.ended.done():
                    raise LocalError(
                        f"the embedded store ended at start (exit code {child.ended.result()}); see mayfly.jsonl in {self._work}/logs"
                    )
                try:
                    async with session.get(f"{self.endpoint}/_ministack/health") as response:
                        if response.status == 200:
                            return
                except aiohttp.ClientError:
                    await asyncio.sleep(0.01)
        raise LocalError(
            f"the embedded store did not answer at {self.endpoint} within {_START_SECONDS:.0f} s; see mayfly.jsonl in {self._work}/logs"
        )

    async def _read_output(self, child: Child) -> None:
        while True:
            try:
                line = await child.output.readline()
            except ValueError:
                continue
            if not line:
                return
            text = line.decode(errors="replace").rstrip()
            if text.startswith('{"refused"'):
                self._report_refusal(json.loads(text)["refused"])
            else:
                self._log.event("store", quiet=True, text=text)

    def _report_refusal(self, refused: dict[str, str]) -> None:
        text = "{function} may not {action} on {resource}, here as on AWS: {advice}"
        self._log.event("refused", "ERROR", text=text.format_map(refused), refused=refused)


def free_port(preferred: int | None = None) -> int:
    """A loopback port that nobody listens on: the preferred one where that is free."""
    for port in (preferred, 0) if preferred else (0,):
        with socket.socket() as probe:
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise LocalError("no loopback port is free")
