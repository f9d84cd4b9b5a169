"""The proxy from a container to the emulator: an HTTP server on the engine's bridge."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from mayfly_local.errors import LocalError
from mayfly_local.ports.containers import gateway, way_to_emulator

#: An address that only this machine has, in place of an engine's bridge.
BRIDGE = "127.0.0.77"


@asynccontextmanager
async def store() -> AsyncIterator[str]:
    """Serves in place of the emulator, and answers with the request that it received."""

    async def answer(request: web.Request) -> web.Response:
        echo = {
            "host": request.host,
            "path": request.raw_path,
            "body": (await request.read()).hex(),
            "headers": dict(request.headers),
        }
        return web.json_response(echo, status=418, headers={"x-amz-crc32": "7"})

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def test_container_reaches_the_emulator_under_the_bridges_address() -> None:
    async def ask() -> None:
        async with (
            store() as here,
            way_to_emulator(here, BRIDGE) as there,
            aiohttp.ClientSession() as session,
        ):
            assert there.startswith(f"http://{BRIDGE}:")
            headers = {
                "Authorization": "AWS4-HMAC-SHA256 Credential=a",
                "X-Amz-Target": "Some.Call",
                "Content-Type": "application/x-amz-json-1.0",
            }
            async with session.post(
                f"{there}/a%2Fb?c=%20d", data=b"\x00\xff", headers=headers
            ) as reply:
                assert (reply.status, reply.headers["x-amz-crc32"]) == (418, "7")
                echo = await reply.json()
            assert echo["host"] == here.removeprefix("http://")
            assert (echo["path"], echo["body"]) == ("/a%2Fb?c=%20d", "00ff")
            assert headers.items() <= echo["headers"].items()

    asyncio.run(ask())


@pytest.mark.parametrize(
    "headers",
    [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "same-site"}],
)
def test_no_web_page_gets_through(headers: dict[str, str]) -> None:
    async def ask() -> None:
        async with (
            store() as here,
            way_to_emulator(here, BRIDGE) as there,
            aiohttp.ClientSession(headers=headers) as session,
        ):
            reply = await session.post(there)
            assert reply.status == 403

    asyncio.run(ask())


def test_proxy_is_closed_when_the_container_has_ended() -> None:
    async def ask() -> None:
        async with store() as here, aiohttp.ClientSession() as session:
            async with way_to_emulator(here, BRIDGE) as there:
                pass
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(there)

    asyncio.run(ask())


async def ask_engine(monkeypatch: pytest.MonkeyPatch, folder: Path, answer: web.Response) -> str:
    """Returns the gateway that an engine with this answer names."""

    async def answers(request: web.Request) -> web.Response:
        assert request.path == "/networks/bridge"
        return answer

    application = web.Application()
    application.router.add_get("/{path:.*}", answers)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.UnixSite(runner, str(folder / "engine.sock")).start()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/engine.sock")
    try:
        return await gateway()
    finally:
        await runner.cleanup()


def test_engine_names_the_address_of_its_bridge(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    answer = web.json_response(
        {"IPAM": {"Config": [{"Subnet": "10.88.0.0/16", "Gateway": "10.88.0.1"}]}}
    )
    assert asyncio.run(ask_engine(monkeypatch, tmp_path, answer)) == "10.88.0.1"


@pytest.mark.parametrize("body", ['{"IPAM": {"Config": []}}', '{"IPAM": null}', "no JSON", "[]"])
def test_engine_without_a_bridge_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, body: str
) -> None:
    with pytest.raises(LocalError, match="no container engine answers here"):
        asyncio.run(
            ask_engine(
                monkeypatch, tmp_path, web.Response(text=body, content_type="application/json")
            )
        )


@pytest.mark.parametrize("address", ["0.0.0.0", "8.8.8.8"])
def test_bridge_that_others_can_reach_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, address: str
) -> None:
    answer = web.json_response({"IPAM": {"Config": [{"Gateway": address}]}})
    with pytest.raises(LocalError, match="is not a private one"):
        asyncio.run(ask_engine(monkeypatch, tmp_path, answer))


@pytest.mark.parametrize(
    "where",
    [
        "unix:///gone/engine.sock",
        "tcp://127.0.0.1:1",
        "npipe:////./pipe/docker_engine",
        "ssh://host",
    ],
)
def test_engine_that_does_not_answer_is_an_error_that_names_it(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setenv("DOCKER_HOST", where)
    with pytest.raises(LocalError, match=f"no container engine answers here \\({where}"):
        asyncio.run(gateway())
