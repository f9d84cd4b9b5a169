"""A container's connection to the running stack's emulator.

A container has a network of its own. The emulator listens on loopback, which containers cannot
reach. (`sam local` ignores `--docker-network host`.) While a container runs, a server next to it
forwards its requests:

    container --> address of the engine's bridge (Linux), or host.docker.internal
              --> loopback: the emulator

The server accepts requests under that one host name, and none from web pages. The emulator then
checks the access key, as always.
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

__all__ = ["gateway", "way_to_emulator"]

_ENGINE: Final = "unix:///var/run/docker.sock"
#: The name of this machine for Docker Desktop, Podman's machine and others on macOS.
_DESKTOP: Final = "host.docker.internal"
#: Headers of one connection, and those that the client of aiohttp writes itself. RFC 9110, 7.6.1
_OWN_HEADERS: Final = {
    "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "host",
    "content-length",
}  # fmt: skip
_BODY_LIMIT: Final = 64 * 1024 * 1024


async def gateway() -> str:
    """Returns the address of this machine on the engine's default network.

    Asks the engine at `DOCKER_HOST`, as sam does. Raises LocalError if no engine answers.
    https://docs.docker.com/reference/api/engine/
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
            network: dict[str, Any] = await reply.json()
            address = str(ip_address(network["IPAM"]["Config"][0]["Gateway"]))
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
async def way_to_emulator(emulator: str, bridge: str) -> AsyncIterator[str]:
    """Forwards requests of containers, and yields the emulator's URL for them.

    `emulator` is its URL here. `bridge` is this machine's address on the engine's network.
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
            target = URL(emulator + request.raw_path, encoded=True)
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
                headers = [
                    (key, value)
                    for key, value in reply.headers.items()
                    if key.lower() not in _OWN_HEADERS
                ]
                answer = web.Response(status=reply.status, body=await reply.read())
                answer.headers.extend(headers)
                return answer

        server = HttpServer(forward, Access(frozenset({name})), body_limit=_BODY_LIMIT)
        await server.listen(bridge_socket(bridge) if is_linux else 0)
        try:
            yield f"http://{name}:{server.port}"
        finally:
            await server.close()
