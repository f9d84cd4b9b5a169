"""Control requests of the runtime to the embedded store's process, over the store's port."""

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

    async def ask(self, what: str, asked: Any) -> Any:
        """Sends a request and returns the answer. Raises aiohttp.ClientError."""
        if self._session is None:
            self._session = aiohttp.ClientSession(headers=self._headers)
        async with self._session.post(f"{self._url}/{what}", json=asked) as reply:
            reply.raise_for_status()
            return await reply.json()

    async def tell(self, what: str, told: Any) -> None:
        """Sends a request whose failure is only logged."""
        try:
            await self.ask(what, told)
        except (aiohttp.ClientError, OSError, TimeoutError) as problem:
            self._log.event("not kept", "WARNING", quiet=True, what=what, reason=str(problem))

    async def close(self) -> None:
        """Ends its connections."""
        if self._session is not None:
            await self._session.close()
