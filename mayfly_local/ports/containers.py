"""The way of a container to the running stack's store.

A container has a network of its own, and the store listens on loopback, which no container reaches.
(`sam local` ignores `--docker-network host`.) So while a container runs, a server next to it passes
its requests on:

    container --> address of the engine's bridge (Linux), or host.docker.internal --> loopback: the store

It takes requests under that one host name, and none of web pages. The store then checks the access
key, as always.
"""

import contextlib
import os
import sys
from collections.abc import AsyncIterator
from ipaddress import ip_address
from typing import Any, Final

import aiohttp
from aiohttp import hdrs, web
from yarl import URL

from mayfly_local.errors import LocalError
from mayfly_local.ports.access import Access
from mayfly_local.ports.http_server import HttpServer, bridge_socket

__all__ = ["gateway", "way_to_store"]

_ENGINE: Final = "unix:///var/run/docker.sock"
#: The name that Docker Desktop, Podman's machine and others on macOS give this machine.
_DESKTOP: Final = "host.docker.internal"
#: Headers of one connection, and those that the client of aiohttp writes itself. RFC 9110, 7.6.1
_OWN_HEADERS: Final = {
    "connection",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
    "content-length",
}
_BODY_LIMIT: Final = 64 * 1024 * 1024


async def gateway() -> str:
    """Returns the address of this machine on the engine's default network. Raises LocalError if no
    engine answers.

    Asks the engine at `DOCKER_HOST`, as sam does. https://docs.docker.com/reference/api/engine/
    """
    where = os.environ.get("DOCKER_HOST") or _ENGINE
    is_socket = where.startswith("unix://")
    connector = (
        aiohttp.UnixConnector(where.removeprefix("unix://"))
        if is_socket
        else aiohttp.TCPConnector()
    )
    base = "http://engine" if is_socket else where.replace("tcp://", "http://", 1)
    timeout = aiohttp.ClientTimeout(total=10)
    try:
        async with (
            aiohttp.ClientSession(connector=connector, timeout=timeout) as session,
            session.get(f"{base}/networks/bridge") as reply,
        ):
            reply.raise_for_status()
            found: dict[str, Any] = await reply.json()
            address = str(ip_address(found["IPAM"]["Config"][0]["Gateway"]))
    except (aiohttp.ClientError, OSError, ValueError, LookupError, TypeError) as problem:
        raise LocalError(
            f"no container engine answers here ({where}: {problem or type(problem).__name__})"
        ) from None
    if (parsed := ip_address(address)).is_unspecified or not parsed.is_private:
        raise LocalError(
            f"the engine at {where} gives {address} as its bridge's address, which is not a "
            "private one"
        )
    return address


@contextlib.asynccontextmanager
async def way_to_store(store: str, bridge: str) -> AsyncIterator[str]:
    """Opens the way, and gives the store's URL for containers.

    `store` is its URL here, `bridge` this machine's address there.
    """
    is_linux = sys.platform == "linux"
    name = bridge if is_linux else _DESKTOP
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(auto_decompress=False, timeout=timeout) as session:

        async def forward(request: web.BaseRequest) -> web.StreamResponse:
            kept = [
                (key, value)
                for key, value in request.headers.items()
                if key.lower() not in _OWN_HEADERS
            ]
            target = URL(store + request.raw_path, encoded=True)
            skipped = [hdrs.USER_AGENT, hdrs.ACCEPT, hdrs.ACCEPT_ENCODING, hdrs.CONTENT_TYPE]
            body = await request.read()
            async with session.request(
                request.method,
                target,
                headers=kept,
                data=body,
                allow_redirects=False,
                skip_auto_headers=skipped,
            ) as reply:
                given = [
                    (key, value)
                    for key, value in reply.headers.items()
                    if key.lower() not in _OWN_HEADERS
                ]
                answer = web.Response(status=reply.status, body=await reply.read())
                answer.headers.extend(given)
                return answer

        server = HttpServer(forward, Access(frozenset({name})), body_limit=_BODY_LIMIT)
        await server.listen(bridge_socket(bridge) if is_linux else 0)
        try:
            yield f"http://{name}:{server.port}"
        finally:
            await server.close()
