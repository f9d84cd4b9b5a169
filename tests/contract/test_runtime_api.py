"""The contract of the Runtime API, with both clients: `awslambdaric` unchanged, and our own loop.

Real processes; only the pool and the gateway are absent.
"""

import asyncio
import importlib.util
import io
import json
import os
import signal
import sys
import time
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import aiohttp
import psutil
import pytest

from mayfly_local.compute.environment import Environment
from mayfly_local.compute.invocation import PAYLOAD_LIMIT, Failure, Invocation, NotSent, Reply
from mayfly_local.compute.launch import Launch
from mayfly_local.compute.packages import runtime_folder
from mayfly_local.compute.runtime_api import RuntimeApi
from mayfly_local.logs import Logs
from mayfly_local.ports.peers import can_tell
from mayfly_local.processes.children import Child, Children
from mayfly_testing.stack import wait_until

ROOT = Path(__file__).parent.parent.parent
HANDLERS = ROOT / "tests" / "apps" / "misbehaving" / "handlers"
#: https://docs.aws.amazon.com/lambda/latest/dg/python-exceptions.html
ERROR_FIELDS = {"errorMessage", "errorType", "requestId", "stackTrace"}
LOOPS = {
    "awslambdaric": "awslambdaric",
    "our loop": str(ROOT / "mayfly_local" / "compute" / "python_runtime.py"),
}


@pytest.fixture(params=LOOPS)
def loop_name(request: pytest.FixtureRequest) -> str:
    if request.param == "awslambdaric" and importlib.util.find_spec("awslambdaric") is None:
        assert sys.platform != "linux", "awslambdaric has wheels for Linux and is locked for it"
        pytest.skip("awslambdaric has no wheels for this system")
    return str(request.param)


class Bench:
    """One event loop in which a test starts environments and calls them."""

    def __init__(self, folder: Path, loop_name: str) -> None:
        self.folder = folder
        self.loop_name = loop_name
        self.logs = Logs(folder / "logs", form="text", out=io.StringIO())
        self.children = Children()

    def launch(self, handler: str, **changes: Any) -> Launch:
        base = Launch(
            name="Test",
            arn="arn:aws:lambda:us-east-1:000000000000:function:Test",
            handler=handler,
            runtime=LOOPS[self.loop_name],
            variables={"PATH": os.environ["PATH"], "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
            "AWS_LAMBDA_FUNCTION_NAME": "Test", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "128",
            "LAMBDA_TASK_ROOT": str(HANDLERS)},
            folder=HANDLERS,
            path=[HANDLERS, runtime_folder(ROOT / ".mayfly" / "cache")],
            timeout_seconds=5,
            memory_mb=128,
        )  # fmt: skip
        return replace(base, **changes)

    async def started(
        self,
        handler: str = "behaviour.handler",
        *,
        tells_peers: bool | None = None,
        freezes: bool = True,
        **changes: Any,
    ) -> Environment:
        environment = Environment(
            self.launch(handler, **changes),
            self.logs.of("Test"),
            tells_peers=tells_peers,
            freezes=freezes,
        )
        assert await environment.start(self.children) is None
        return environment

    async def refused(self, handler: str, **changes: Any) -> Failure:
        failure = await Environment(self.launch(handler, **changes), self.logs.of("Test")).start(
            self.children
        )
        assert failure is not None
        return failure

    def entries(self) -> list[dict[str, Any]]:
        return [
            json.loads(line)
            for line in (self.folder / "logs" / "Test.jsonl").read_text().splitlines()
        ]


@pytest.fixture
def bench(tmp_path: Path, loop_name: str) -> Bench:
    return Bench(tmp_path, loop_name)


def run(bench: Bench, test: Coroutine[Any, Any, None]) -> None:
    """Runs a test's coroutine between the opening and the closing of its children."""

    before = {child.pid for child in psutil.Process().children()}  # servers of other fixtures

    async def whole() -> None:
        await bench.children.open()
        try:
            await asyncio.wait_for(test, 60)
        finally:
            watchdog = bench.children._watchdog
            assert watchdog is not None
            for child in psutil.Process().children():
                if child.pid not in before | {watchdog.pid}:
                    os.killpg(child.pid, signal.SIGKILL)
            await bench.children.close()

    asyncio.run(whole())
    bench.logs.close()


def facts(result: Reply | Failure) -> dict[str, Any]:
    assert isinstance(result, Reply), result
    body: dict[str, Any] = json.loads(json.loads(result.payload)["body"])
    return body


def wish(name: str, **facts: str) -> Invocation:
    return Invocation.of({"wish": name, **facts})


def test_one_process_serves_one_event_after_another(bench: Bench) -> None:
    async def test() -> None:
        environment = await bench.started()
        found = [facts(await environment.invoke(wish("fine"))) for _ in range(3)]
        assert [fact["calls"] for fact in found] == [1, 2, 3]
        assert {fact["pid"] for fact in found} == {environment.pid}
        await environment.stop(1)

    run(bench, test())


def test_handler_receives_its_context(bench: Bench) -> None:
    async def test() -> None:
        environment = await bench.started()
        invocation = wish("fine")
        found = facts(await environment.invoke(invocation))
        assert found["request_id"] == invocation.request_id
        assert found["trace"] == invocation.trace
        assert (found["arn"], found["memory"]) == (
            "arn:aws:lambda:us-east-1:000000000000:function:Test",
            "128",
        )
        assert 4000 < found["remaining_ms"] <= 5000
        await environment.stop(1)

    run(bench, test())


def test_handler_cannot_import_packages_of_this_environment(bench: Bench) -> None:
    async def test() -> None:
        environment = await bench.started()
        assert facts(await environment.invoke(wish("fine")))["path"] == []
        await environment.stop(1)

    run(bench, test())


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("crash", "RuntimeError", "crashed on purpose"),
        ("unmarshalled", "Runtime.MarshalError", "Unable to marshal response"),
    ],
)
def test_error_of_a_handler_has_its_type_and_the_process_continues(
    bench: Bench, name: str, kind: str, message: str
) -> None:
    async def test() -> None:
        environment = await bench.started()
        failed = await environment.invoke(wish(name))
        assert isinstance(failed, Failure)
        assert failed.kind == kind
        assert failed.message.startswith(message)
        assert set(json.loads(failed.payload)) == ERROR_FIELDS
        assert facts(await environment.invoke(wish("fine")))["calls"] == 2
        await environment.stop(1)

    run(bench, test())
    assert any(message in str(entry) for entry in bench.entries() if entry["type"] == "function")


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("exit", "Runtime.ExitError", "exit status 3"),
        ("kill", "Runtime.ExitError", "signal 9"),
        ("eat", "Runtime.OutOfMemory", "Memory Size: 128 MB exceeded"),
        ("hang", "Sandbox.Timedout", "Task timed out after 1.00 seconds"),
    ],
)
def test_end_of_a_process_has_its_type_and_leaves_nothing(
    bench: Bench, name: str, kind: str, message: str
) -> None:
    async def test() -> None:
        environment = await bench.started(timeout_seconds=1.0 if name == "hang" else 20.0)
        failed = await environment.invoke(wish(name))
        assert isinstance(failed, Failure)
        assert failed.kind == kind
        assert message in failed.message
        assert not environment.is_alive
        assert not psutil.pid_exists(environment.pid)
        with pytest.raises(NotSent):
            await environment.invoke(wish("fine"))

    run(bench, test())


def test_deadline_is_kept_to_the_tenth_of_a_second(bench: Bench) -> None:
    async def test() -> None:
        environment = await bench.started(timeout_seconds=1.0)
        started = time.monotonic()
        await environment.invoke(wish("hang"))
        assert 1.0 <= time.monotonic() - started < 1.5

    run(bench, test())


def test_response_above_six_megabytes_fails_its_invocation(bench: Bench) -> None:
    async def test() -> None:
        environment = await bench.started()
        failed = await environment.invoke(wish("huge"))
        assert isinstance(failed, Failure)
        assert failed.kind == "Function.ResponseSizeTooLarge"
        assert str(PAYLOAD_LIMIT) in failed.message
        await environment.kill()

    run(bench, test())


@pytest.mark.parametrize(
    ("handler", "kind", "message"),
    [
        ("unimportable.handler", "Runtime.ImportModuleError", "No module named 'no_such_module'"),
        (
            "behaviour.gone",
            "Runtime.HandlerNotFound",
            "Handler 'gone' missing on module 'behaviour'",
        ),
        ("behaviour", "Runtime.MalformedHandlerName", "Bad handler 'behaviour'"),
        ("raises.handler", "ValueError", "no configuration"),
        ("exits.handler", "Runtime.ExitError", "exit status 4"),
    ],
)
def test_failed_start_has_its_type_and_leaves_nothing(
    bench: Bench, handler: str, kind: str, message: str
) -> None:
    async def test() -> None:
        failed = await bench.refused(handler)
        assert failed.kind == kind
        assert message in failed.message

    run(bench, test())
    assert any(entry["type"] == "init failed" for entry in bench.entries())


def test_sigterm_reaches_an_idle_handler_and_the_rest_of_the_group_is_killed(bench: Bench) -> None:
    async def test() -> None:
        environment = await bench.started("polite.handler")
        await environment.invoke(wish("fine"))
        await environment.stop(2)
        assert not psutil.pid_exists(environment.pid)

    run(bench, test())
    assert "goodbye" in [entry.get("text") for entry in bench.entries()]


def test_process_is_frozen_from_its_start_and_between_events(bench: Bench) -> None:
    async def test() -> None:
        environment = await bench.started()
        await asyncio.to_thread(wait_until, lambda: _is_frozen(environment.pid), 5)
        for calls in (1, 2):
            assert facts(await environment.invoke(wish("fine")))["calls"] == calls
            await asyncio.to_thread(wait_until, lambda: _is_frozen(environment.pid), 5)
        await environment.stop(1)

    run(bench, test())


def test_process_that_leaves_its_session_is_neither_frozen_nor_found_again(bench: Bench) -> None:
    async def test() -> None:
        environment = await bench.started()
        left, stayed = (
            int(json.loads(reply.payload)["body"])
            for reply in [await environment.invoke(wish(name)) for name in ("daemon", "spawn")]
            if isinstance(reply, Reply)
        )
        await asyncio.to_thread(wait_until, lambda: _is_frozen(stayed), 5)
        assert not _is_frozen(left)
        os.kill(environment.pid, signal.SIGKILL)
        await environment.stop(1)
        await asyncio.to_thread(wait_until, lambda: not _runs(stayed), 5)
        assert _runs(left)
        os.kill(left, signal.SIGKILL)

    run(bench, test())


def test_process_that_gets_one_event_after_another_is_not_frozen(bench: Bench) -> None:
    async def test() -> None:
        environment = await bench.started()
        await asyncio.to_thread(wait_until, lambda: _is_frozen(environment.pid), 5)
        slow = asyncio.ensure_future(environment.invoke(wish("slow")))
        await asyncio.to_thread(wait_until, lambda: not _is_frozen(environment.pid), 5)
        assert isinstance(await slow, Reply)
        await environment.stop(1)

    run(bench, test())


def test_frozen_process_gets_its_grace_to_handle_sigterm(bench: Bench) -> None:
    async def test() -> None:
        environment = await bench.started("polite.handler")
        await environment.invoke(wish("fine"))
        await asyncio.to_thread(wait_until, lambda: _is_frozen(environment.pid), 5)
        await environment.stop(20)

    run(bench, test())
    assert "goodbye" in [entry.get("text") for entry in bench.entries()]


def test_process_that_is_asked_to_stop_may_answer_and_end_by_itself(bench: Bench) -> None:
    async def test() -> None:
        environment = await bench.started("leaves_later.handler")
        answering = asyncio.ensure_future(environment.invoke(wish("fine")))
        await asyncio.to_thread(wait_until, lambda: environment._api.request_id is not None, 5)
        await asyncio.gather(environment.stop(10), answering)
        assert isinstance(answering.result(), Reply)

    run(bench, test())
    assert "left by itself" in [entry.get("text") for entry in bench.entries()]


def test_processes_that_a_handler_started_die_with_its_environment(bench: Bench) -> None:
    async def test() -> None:
        environment = await bench.started()
        reply = await environment.invoke(wish("spawn"))
        assert isinstance(reply, Reply)
        grandchild = int(json.loads(reply.payload)["body"])
        assert psutil.pid_exists(grandchild)
        await environment.stop(1)
        await asyncio.to_thread(
            wait_until, lambda: not _runs(grandchild), 2, what="the end of the grandchild"
        )

    run(bench, test())


def test_output_is_logged_line_by_line_with_its_request(bench: Bench) -> None:
    invocation = wish("shout")

    async def test() -> None:
        environment = await bench.started()
        await environment.invoke(invocation)
        await environment.stop(1)

    run(bench, test())
    lines = [entry for entry in bench.entries() if entry["type"] == "function"]
    assert [entry.get("text") or entry["record"]["message"] for entry in lines] == [
        "a line of text",
        "a line of JSON",
        "to the error stream",
    ]
    assert {entry["request_id"] for entry in lines} == {invocation.request_id}


def test_answer_to_another_invocation_is_refused(bench: Bench) -> None:
    async def test() -> None:
        environment = await bench.started()
        asked = facts(
            await environment.invoke(
                wish("ask", method="POST", path="/invocation/forged/response", body="1")
            )
        )["asked"]
        assert (asked["status"], asked["body"]["errorType"]) == (400, "InvalidRequestID")
        assert (
            facts(await environment.invoke(wish("ask", path="/nonsense")))["asked"]["status"] == 404
        )
        assert facts(await environment.invoke(wish("fine")))["calls"] == 3
        await environment.stop(1)

    run(bench, test())


@pytest.mark.parametrize(
    "tells_peers", [None, False], ids=["by the peer's process", "by a token in the path"]
)
def test_runtime_api_answers_its_own_process_only(bench: Bench, tells_peers: bool | None) -> None:
    if tells_peers is False and bench.loop_name == "awslambdaric":
        pytest.skip("AWS's client sends no token; our loop does, if the system does not name peers")

    async def test() -> None:
        environment = await bench.started(tells_peers=tells_peers)
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{environment._api._server.port}/2018-06-01/runtime"
            for method, path in (
                ("GET", "/invocation/next"),
                ("POST", "/invocation/x/response"),
                ("POST", "/init/error"),
            ):
                async with session.request(
                    method, url + path, data=b"{}" if method == "POST" else None
                ) as refused:
                    assert (refused.status, "another process" in await refused.text()) == (
                        403,
                        True,
                    )
        assert facts(await environment.invoke(wish("fine")))["calls"] == 1
        await environment.stop(1)

    run(bench, test())
    assert len([entry for entry in bench.entries() if entry["type"] == "refused"]) == 3


@pytest.mark.skipif(not can_tell(), reason="this system does not name peers")
def test_first_request_may_come_before_its_process_is_known() -> None:
    """A busy supervisor may read the request before the call that started the process returns."""
    refused: list[str] = []

    async def test() -> int:
        api = RuntimeApi("arn", lambda path, why: refused.append(why))
        await api.listen()
        url = f"http://{api.address}/2018-06-01/runtime/invocation/next"
        async with aiohttp.ClientSession() as session:
            asking = asyncio.ensure_future(session.get(url))
            await asyncio.wait([asking], timeout=0.2)
            assert not asking.done()
            api.serve_only(cast(Child, SimpleNamespace(pid=os.getpid())))
            api.send(await api.next_poll(), wish("fine"), 0)
            async with await asking as reply:
                status = reply.status
        await api.close()
        return status

    assert (asyncio.run(test()), refused) == (200, [])


@pytest.mark.parametrize("header", ["Origin", "Sec-Fetch-Site", "Sec-Fetch-Mode"])
def test_browser_is_refused_even_with_the_token(bench: Bench, header: str) -> None:
    if bench.loop_name == "awslambdaric":
        pytest.skip("AWS's client takes no token")

    async def test() -> None:
        environment = await bench.started(tells_peers=False)
        async with aiohttp.ClientSession() as session:
            url = f"http://127.0.0.1:{environment._api._server.port}"
            value = url if header == "Origin" else "same-origin"
            async with session.get(
                f"{url}{environment._api._token}/2018-06-01/runtime/invocation/next",
                headers={header: value},
            ) as refused:
                assert (refused.status, "browser" in await refused.text()) == (403, True)
        await environment.stop(1)

    run(bench, test())


def test_second_poller_gets_no_event_and_the_first_one_keeps_its_turn(bench: Bench) -> None:
    if bench.loop_name == "awslambdaric":
        pytest.skip(
            "AWS's client takes no token, by which this test plays the function's own process"
        )

    async def test() -> None:
        environment = await bench.started(tells_peers=False)
        async with aiohttp.ClientSession() as session:
            server = f"http://{environment._api.address}"
            async with session.get(f"{server}/2018-06-01/runtime/invocation/next") as refused:
                assert (refused.status, "second poller" in await refused.text()) == (403, True)
        assert facts(await environment.invoke(wish("fine")))["calls"] == 1
        await environment.stop(1)

    run(bench, test())
    assert [
        entry["path"].endswith("/invocation/next")
        for entry in bench.entries()
        if entry["type"] == "refused"
    ] == [True]


def test_process_that_cannot_be_started_is_one_failed_start(bench: Bench) -> None:
    async def test() -> None:
        failure = await bench.refused("behaviour.handler", folder=HANDLERS / "is not there")
        assert failure.kind == "Sandbox.StartFailed"
        assert "no process could be started" in failure.message

    run(bench, test())


def test_event_that_a_dead_process_never_read_may_be_given_to_another(bench: Bench) -> None:
    """Kills the process at the moment of dispatch.

    The kernel resets a connection whose owner died with data unread.
    """

    async def test() -> None:
        environment = await bench.started(freezes=False)
        await environment.invoke(wish("fine"))
        await asyncio.to_thread(wait_until, lambda: environment._api._polls.qsize() == 1, 5)
        os.kill(environment.pid, signal.SIGSTOP)
        await asyncio.to_thread(
            wait_until, lambda: psutil.Process(environment.pid).status() == psutil.STATUS_STOPPED, 5
        )
        invoking = asyncio.ensure_future(environment.invoke(wish("fine")))
        await asyncio.to_thread(wait_until, lambda: environment._api.request_id is not None, 5)
        await asyncio.sleep(0.1)  # the event is in the buffer of the stopped process
        os.kill(environment.pid, signal.SIGKILL)
        with pytest.raises(NotSent):
            await invoking

    run(bench, test())


def test_environment_killed_while_idle_is_noticed_before_anything_is_sent(bench: Bench) -> None:
    async def test() -> None:
        environment = await bench.started()
        await environment.invoke(wish("fine"))
        os.kill(environment.pid, signal.SIGKILL)
        if sys.platform == "linux":
            assert not environment.is_alive, (
                "the process has not died yet, but the kill has been sent"
            )
        with pytest.raises(NotSent):
            await environment.invoke(wish("fine"))
        await environment.kill()

    run(bench, test())


@pytest.mark.parametrize("turns", [1, 2, 3, 5, 8, 20, 100])
def test_cancelled_start_ends_immediately_and_leaves_no_process(bench: Bench, turns: int) -> None:
    async def test() -> None:
        environment = Environment(bench.launch("behaviour.handler"), bench.logs.of("Test"))
        before = set(psutil.Process().children())
        starting = asyncio.ensure_future(environment.start(bench.children))
        # Turns of the event loop, up to listen, fork, pipes or the wait for the first poll.
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting], timeout=5)
        assert starting.cancelled()
        assert not [
            process
            for process in psutil.Process().children()
            if process not in before and _runs(process.pid)
        ]

    run(bench, test())


def _is_frozen(pid: int) -> bool:
    return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
