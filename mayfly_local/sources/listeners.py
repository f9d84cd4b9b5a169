"""The servers of an application's APIs: each API has a port of its own."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final
from urllib.parse import urlsplit

from mayfly_local.application.apis import Api, ApiKind, Stage
from mayfly_local.logs import Log
from mayfly_local.ports.access import Access
from mayfly_local.ports.http_server import HttpServer
from mayfly_local.sources.authorizations import Guests, Invoke
from mayfly_local.sources.gateway import BODY_LIMIT, Gateway
from mayfly_local.sources.shares import Shares

__all__ = ["Listeners", "main_api"]


#: The limit plus one byte, so that a body above the limit can be detected.
_BODY_LIMIT: Final = BODY_LIMIT + 1
#: Most bytes of one header or of the request line. The APIs' own limit, which is for all of them
#: together, is below it.
_FIELD_LIMIT: Final = 64 * 1024


def main_api(url: str) -> Api:
    """Returns the API of a template that has none: it knows no route."""
    return Api("", "local", ApiKind.HTTP, url, (), (Stage("$default"),))


class Listeners:
    """Serves all APIs of an application."""

    def __init__(
        self,
        apis: Iterable[Api],
        invoke: Invoke,
        guests: Guests,
        log: Log,
        limit_of: Callable[[str], int],
    ) -> None:
        shares = Shares(limit_of=limit_of)
        self._gateways = {api.url: Gateway(api, invoke, guests, log, shares) for api in apis}
        self._log = log
        self._servers: list[HttpServer] = []

    @property
    def is_busy(self) -> bool:
        """True while a request is being answered."""
        return any(gateway.running for gateway in self._gateways.values())

    async def listen(
        self,
        access: Access,
        *,
        most_connections: int,
        taken: Callable[[int], Exception],
    ) -> None:
        """Starts all servers. Raises the exception that `taken` makes for a port in use."""
        for url, gateway in self._gateways.items():
            server = HttpServer(
                gateway.serve, access,
                body_limit=_BODY_LIMIT, most_connections=most_connections,
                field_limit=_FIELD_LIMIT, refused=self._note_refusal,
            )  # fmt: skip
            port = urlsplit(url).port or 80
            try:
                await server.listen(port)
            except OSError:
                raise taken(port) from None
            self._servers.append(server)

    def refuse(self) -> None:
        """Accepts no new requests."""
        for server in self._servers:
            server.refuse()

    async def close(self) -> None:
        """Ends every connection."""
        await asyncio.gather(*(server.close() for server in self._servers))

    def _note_refusal(self, path: str, why: str) -> None:
        self._log.event("refused", "WARNING", path=path, reason=why)
