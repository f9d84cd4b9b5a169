"""`mayfly up --debug FUNCTION`: a function waits for a debugger, which attaches as editors do."""

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from mayfly_testing.stack import MAYFLY, Stack, running, unbuffered, wait_until
from tests.support.debug_adapter import Debugger

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {Runtime: python3.11, CodeUri: code, Timeout: 1, MemorySize: 128}
Resources:
  SayHello:
    Type: AWS::Serverless::Function
    Properties:
      Handler: app.hello
      Events:
        Get: {Type: HttpApi, Properties: {Path: /hello, Method: GET}}
  SayBye:
    Type: AWS::Serverless::Function
    Properties:
      Handler: app.bye
      Events:
        Get: {Type: HttpApi, Properties: {Path: /bye, Method: GET}}
"""
CODE = """\
loaded = True


def hello(event, context):
    name = "ada"
    return {"statusCode": 200, "body": name}


def bye(event, context):
    return {"statusCode": 200, "body": "bye"}
"""
LOADED, NAMED = 1, 6


def application(folder: Path) -> Path:
    """Makes an application in a folder, and returns its template."""
    (folder / "code").mkdir()
    (folder / "code" / "app.py").write_text(CODE)
    (folder / "template.yaml").write_text(TEMPLATE)
    return folder / "template.yaml"


@pytest.fixture
def template(tmp_path: Path) -> Path:
    return application(tmp_path)


@pytest.fixture
def stack(tmp_path: Path, template: Path) -> Iterator[Stack]:
    with running(tmp_path / "run", "--debug", "say_hello", template=template) as stack:
        yield stack


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A stack for several tests, of which the first ones attach no debugger."""
    folder = tmp_path_factory.mktemp("waiting")
    template = application(folder)
    with running(folder / "run", "--debug", "say_hello", template=template) as stack:
        yield stack


def port(stack: Stack) -> int:
    """Returns the port that the start has printed, as soon as the process listens there."""
    found = re.search(r"debug     SayHello at 127\.0\.0\.1:(\d+)", stack.output)
    assert found, stack.output
    line = f"waiting for a debugger at 127.0.0.1:{found[1]}"
    wait_until(lambda: line in stack.output, 60, what="the debugger's port")
    return int(found[1])


def test_debugger_attaches_and_stops_at_a_breakpoint(stack: Stack, template: Path) -> None:
    app = template.parent / "code" / "app.py"
    with Debugger(port(stack)) as debugger, ThreadPoolExecutor() as callers:
        debugger.attach({app: [LOADED, NAMED]})
        # The module is loaded after the debugger is there, so its first line can be looked at.
        thread = debugger.event("stopped")["threadId"]
        assert debugger.line(thread) == ("app.py", LOADED)
        debugger.call("continue", threadId=thread)
        reply = callers.submit(stack.get, "/hello")
        thread = debugger.event("stopped")["threadId"]
        assert debugger.line(thread) == ("app.py", NAMED)
        assert debugger.local(thread, "name") == "'ada'"
        assert stack.get("/bye").text == "bye"  # other functions run as usual
        assert float(debugger.local(thread, "context.get_remaining_time_in_millis()")) > 3_600_000
        # The call waits for longer than the function's timeout, and nothing ends it.
        stopped = time.monotonic()
        wait_until(lambda: time.monotonic() - stopped > 1.5, 10)
        assert not reply.done()
        debugger.call("continue", threadId=thread)
        assert reply.result(60).text == "ada"
        debugger.set_breakpoints(app, [])
        # The process is not frozen between two invocations, so it answers.
        assert stack.get("/hello").text == "ada"
        debugger.set_breakpoints(app, [NAMED])
        assert debugger.call("threads")["threads"]
        debugger.call("disconnect")
    assert stack.get("/hello").text == "ada"


def test_debugger_listens_on_loopback_only(waiting: Stack) -> None:
    where = port(waiting)
    listening = {
        connection.laddr.ip
        for process in waiting.tree()
        for connection in process.net_connections(kind="tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == where
    }
    assert listening == {"127.0.0.1"}


def test_call_waits_until_a_debugger_has_attached(waiting: Stack) -> None:
    where = port(waiting)
    with ThreadPoolExecutor() as callers:
        reply = callers.submit(waiting.get, "/hello")
        assert waiting.get("/bye").text == "bye"
        assert not reply.done()
        with Debugger(where) as debugger:
            debugger.attach({})
            assert reply.result(60).text == "ada"


def test_page_in_a_browser_cannot_talk_to_the_debugger(waiting: Stack) -> None:
    """debugpy itself skips the lines of an HTTP header, and takes the body as a message."""
    where = port(waiting)
    message = {"seq": 1, "type": "request", "command": "initialize", "arguments": {}}
    body = json.dumps(message).encode()
    header = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    with socket.create_connection(("127.0.0.1", where), timeout=10) as page:
        page.sendall(header + body)
        answer = b""
        with suppress(ConnectionResetError):
            answer = page.recv(1000)
    assert answer == b""
    with Debugger(where) as debugger:
        debugger.attach({})
        assert waiting.get("/hello").text == "ada"


def test_saved_change_waits_for_a_debugger_at_the_same_port(stack: Stack, template: Path) -> None:
    where = port(stack)
    with Debugger(where) as debugger:
        debugger.attach({})
        assert stack.get("/hello").text == "ada"
    app = template.parent / "code" / "app.py"
    app.write_text(CODE.replace('"ada"', '"bob"'))
    with ThreadPoolExecutor() as callers:
        reply = callers.submit(stack.get, "/hello")
        line = f"waiting for a debugger at 127.0.0.1:{where}"
        wait_until(lambda: stack.output.count(line) == 2, 60, what="the second process")
        with Debugger(where) as debugger:
            debugger.attach({})
            assert reply.result(60).text == "bob"


def test_stop_does_not_wait_for_a_debugger(stack: Stack) -> None:
    port(stack)
    stack.process.terminate()
    assert stack.process.wait(8) == 0
    assert "stopped; work that was still running was killed" not in stack.output


def test_unknown_function_ends_the_start_with_the_names_of_the_others(
    tmp_path: Path, template: Path
) -> None:
    done = subprocess.run(
        [MAYFLY, "up", "--template", template, "--work", tmp_path / "work", "--debug", "SayHi"],
        env=unbuffered(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "mayfly: --debug: there is no function 'SayHi'; the template has: SayBye, SayHello"
    )
