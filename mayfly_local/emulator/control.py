"""Control requests of the runtime to the emulator's process, over the emulator's port."""

from typing import Any

import aiohttp

from mayfly_local.iam.credentials import Credentials
from mayfly_local.logs import Log

__all__ = ["Control"]


class Control:
    """Sends control requests with one access key."""

    def __init__(self, endpoint: str, key: Credentials, log: Log) -> None:
        self._url = f"{endpoint}/_mayfly"
        self._headers = {"Authorization": f"Bearer {key.id}"}
        self._log = log
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, what: str, arguments: Any) -> Any:
        """Sends a request and returns the reply. Raises aiohttp.ClientError."""
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers)
        async with self._session.post(f"{self._url}/{what}", json=arguments) as reply:
            reply.raise_for_status()
            return await reply.json()

    async def tell(self, what: str, arguments: Any) -> None:
        """Sends a request; a failure is only logged."""
        try:
            await self.ask(what, arguments)
        except (aiohttp.ClientError, OSError, TimeoutError) as problem:
            self._log.event("not kept", "WARNING", quiet=True, what=what, reason=str(problem))

    async def close(self) -> None:
        """Closes its connections."""
        if self._session is not None:
            await self._session.close()
