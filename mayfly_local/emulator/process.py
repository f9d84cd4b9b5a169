"""The emulator: an AWS-compatible server for state only, as a child process on loopback.

Only this module starts, watches and stops it. Any other AWS-compatible endpoint can replace it
(`mayfly up --endpoint-url`). docs/decisions/0003 has the reasons for ministack, and
docs/decisions/0015 describes how it stores its state.
"""

import asyncio
import contextlib
import json
import os
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from mayfly_local.account import ACCOUNT, REGION
from mayfly_local.errors import LocalError
from mayfly_local.iam.credentials import Keys
from mayfly_local.logs import Log
from mayfly_local.processes.children import Child, Children

__all__ = ["SETTINGS", "Emulator", "free_port"]

#: Variable with the process's settings as JSON: `identities`, `hosts`, `socket`, `mark`,
#: `transaction_seconds`, and the place of the state.
SETTINGS: Final = "MAYFLY_STORE"

_SERVICES: Final = (
    "dynamodb,dynamodbstreams,sqs,s3,secretsmanager,ssm,cloudformation,iam,sts,sns,events,"
    "kinesis,kms,lambda"
)
#: Seconds without a line of output. Reading a large state prints its progress.
_START_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 10.0


class Emulator:
    """The emulator's process.

    It stores its state in the folder `state`, or only in memory if that is None. `hosts` are
    allowed host names next to the loopback names. Transactions hold their items for
    `transaction_seconds`. `say` prints a line on the terminal. `clock` is the file of a clock that
    a test can move.
    """

    def __init__(
        self,
        port: int,
        *,
        work: Path,
        state: Path | None,
        log: Log,
        keys: Keys,
        hosts: Iterable[str] = (),
        any_credentials: bool = False,
        transaction_seconds: float = 0.0,
        say: Callable[[str], None] = lambda text: None,
        clock: Path | None = None,
    ) -> None:
        self.endpoint = f"http://127.0.0.1:{port}"
        self._port = port
        self._work = work
        self._state = state
        self._log = log
        self._keys = keys
        # With any credentials, a page could send requests under such a name without a key.
        self._hosts = [] if any_credentials else list(hosts)
        self._any_credentials = any_credentials
        self._transaction_seconds = transaction_seconds
        self._say = say
        self._clock = clock
        #: Called with each request of a test that only the runtime can serve: `{what: arguments}`.
        self.requested: Callable[[dict[str, Any]], None] = lambda request: None
        self._child: Child | None = None
        self._reader: asyncio.Task[None] | None = None
        self._heard_at = 0.0
        self._problem: str | None = None
        self._mark = secrets.token_hex(16)
        self._socket: socket.socket | None = None

    @property
    def port(self) -> int:
        """The port that it serves."""
        return self._port

    @property
    def pid(self) -> int:
        """The process id."""
        assert self._child is not None
        return self._child.pid

    @property
    def is_kept(self) -> bool:
        """True if its state is in a folder."""
        return self._state is not None

    async def start(self, children: Children) -> None:
        """Starts the process, and returns when it answers.

        Raises LocalError if it does not come up.
        """
        await self.spawn(children)
        await self.answers()

    async def spawn(self, children: Children) -> None:
        """Starts the process. Raises LocalError if its port is taken."""
        temporary = self._work / "store"
        temporary.mkdir(parents=True, exist_ok=True)
        self._problem, self._heard_at = None, time.monotonic()
        # Opened here and kept open: no other process can take the port, and requests wait during a
        # restart.
        self._socket = self._socket or _listening(self._port)
        self._child = await children.spawn(
            "mayfly_local.emulator.main",
            env=self._variables(temporary, self._socket),
            folder=temporary,
            umask=0o077,
            files=[self._socket.fileno()],
        )
        self._reader = asyncio.ensure_future(self._read_output(self._child))

    async def answers(self) -> None:
        """Waits until the process answers. Raises LocalError if it does not come up."""
        assert self._child is not None
        await self._answering(self._child)

    async def ended(self) -> int:
        """Waits until the process ends, and returns its exit code."""
        assert self._child is not None
        return await asyncio.shield(self._child.ended)

    async def kill(self) -> None:
        """Kills the process immediately."""
        if self._child is not None:
            self._child.kill()
            await self._child.ended

    async def stop(self) -> None:
        """Stops the process. A large state does not delay this: it is already written."""
        if self._child is not None:
            await self._child.stop(_STOP_SECONDS)
        if self._socket is not None:
            self._socket.close()

    def _variables(self, temporary: Path, listener: socket.socket) -> dict[str, str]:
        keys = self._keys
        identities = {
            "people": keys.people.id,
            "runtime": keys.runtime.id,
            "any_credentials": self._any_credentials,
        }
        settings = {
            "identities": {
                **identities,
                "secrets": {
                    keys.people.id: keys.people.secret,
                    keys.runtime.id: keys.runtime.secret,
                },
            },
            "hosts": self._hosts,
            "state": str(self._state) if self._state else None,
            "port": self._port,
            "socket": listener.fileno(),
            "mark": self._mark,
            "clock": None if self._clock is None else str(self._clock),
            "transaction_seconds": self._transaction_seconds,
        }
        # Objects of buckets are files; everything else is in the journal.
        objects = {"S3_PERSIST": "1", "S3_DATA_DIR": f"{self._state}/s3"} if self._state else {}
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
            # It makes no TLS connections. aiohttp would read all certificates at its start.
            "SSL_CERT_FILE": os.devnull,
            # With a port here it would also listen on all interfaces.
            "IOT_MTLS_PORT": "0",
            "SFTP_ENABLED": "0",
            "LOG_LEVEL": "WARNING",
            "PERSIST_STATE": "0",
            **objects,
            SETTINGS: json.dumps(settings),
        }

    async def _answering(self, child: Child) -> None:
        asking = asyncio.ensure_future(self._ask_health())
        while (
            not asking.done()
            and not child.ended.done()
            and time.monotonic() < self._heard_at + _START_SECONDS
        ):
            await asyncio.wait(
                [asking, child.ended], timeout=1, return_when=asyncio.FIRST_COMPLETED
            )
        asking.cancel()
        if child.ended.done():
            await self._last_words()
            raise LocalError(
                self._problem
                or f"the emulator ended at start (exit code {child.ended.result()}); see "
                f"mayfly.jsonl in {self._work}/logs"
            )
        if asking.cancelled() or not asking.done():
            raise LocalError(
                f"the emulator did not answer at {self.endpoint} within "
                f"{_START_SECONDS:.0f} s; see mayfly.jsonl in {self._work}/logs"
            )

    async def _ask_health(self) -> None:
        """Returns when the process answers.

        Its port is open already, so the request waits for it.
        """
        import aiohttp  # It takes a tenth of a second to load; meanwhile the process starts.

        headers = {"Authorization": f"Bearer {self._keys.runtime.id}"}
        async with aiohttp.ClientSession(headers=headers) as session:
            while True:
                with contextlib.suppress(aiohttp.ClientError):  # The process has ended meanwhile.
                    async with session.get(f"{self.endpoint}/_mayfly/health") as response:
                        if response.status == 200:
                            return
                await asyncio.sleep(0.01)

    async def _last_words(self) -> None:
        if self._reader is not None:
            await asyncio.wait([self._reader], timeout=1)

    async def _read_output(self, child: Child) -> None:
        while True:
            try:
                line = await child.output.readline()
            except ValueError:
                continue
            if not line:
                return
            self._heard_at = time.monotonic()
            text = line.decode(errors="replace").rstrip()
            match (
                json.loads(text.removeprefix(self._mark)) if text.startswith(self._mark) else None
            ):
                case {"refused": refused}:
                    self._report_refusal(refused)
                case {"said": words}:
                    self._say(str(words))
                case {"warning": words}:
                    self._log.event("state", "ERROR", text=str(words))
                case {"requested": request}:
                    self.requested(request)
                case {"problem": words}:
                    self._problem = str(words)
                case _:
                    self._log.event("store", quiet=True, text=text)

    def _report_refusal(self, refused: dict[str, Any]) -> None:
        text = "{function} may not {action} on {resource}, here as on AWS: {advice}"
        self._log.event("refused", "ERROR", text=text.format_map(refused), refused=refused)


def _listening(port: int) -> socket.socket:
    """Opens the emulator's port on loopback. Raises LocalError if another process has it."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as problem:
        listener.close()
        raise LocalError(
            f"the emulator's port {port} cannot be opened: {problem.strerror}; choose another "
            "port with --port"
        ) from None
    listener.listen(256)
    return listener


def free_port(preferred: int | None = None) -> int:
    """Returns a free loopback port: the preferred one if that is free. Raises LocalError."""
    for port in (preferred, 0) if preferred else (0,):
        with socket.socket() as probe:
            if sys.platform != "win32":
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            port_number: int = probe.getsockname()[1]
            return port_number
    raise LocalError("no loopback port is free")
