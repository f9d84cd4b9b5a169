"""Handlers that crash, hang, exit, use too much memory or cannot be imported.

Their callers get an error, and the next request works.
"""

import base64
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import requests

from mayfly_testing.stack import ROOT, Stack, running, wait_until

TEMPLATE = ROOT / "tests" / "apps" / "misbehaving" / "template.yaml"


@pytest.fixture(scope="module", params=["awslambdaric", "python"])
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    with running(
        tmp_path_factory.mktemp("misbehaving"),
        "--runtime",
        request.param,
        "--idle",
        "2",
        template=TEMPLATE,
    ) as found:
        yield found


@pytest.mark.parametrize(
    ("path", "kind", "reason"),
    [
        ("/crash", "RuntimeError", "crashed on purpose"),
        ("/hang", "Sandbox.Timedout", "Task timed out after 2.00 seconds"),
        ("/exit", "Runtime.ExitError", "exit status 3"),
        ("/kill", "Runtime.ExitError", "signal 9"),
        ("/eat", "Runtime.OutOfMemory", "Memory Size: 128 MB exceeded"),
        ("/huge", "Function.ResponseSizeTooLarge", "exceeded maximum allowed payload size"),
        ("/unmarshalled", "Runtime.MarshalError", "Unable to marshal response"),
        ("/broken-header", "bad response", "X-B"),
        ("/unimportable", "Runtime.ImportModuleError", "no_such_module"),
    ],
)
def test_caller_gets_a_5xx_with_a_request_id_and_the_log_has_the_reason(
    stack: Stack, path: str, kind: str, reason: str
) -> None:
    reply = stack.get(path)
    assert (reply.status_code, reply.json()) == (500, {"message": "Internal Server Error"})
    assert len(reply.headers["apigw-requestid"]) == 36
    entries = stack.log("Unimportable" if path == "/unimportable" else "Misbehaving")
    if kind == "bad response":
        entries = stack.log("mayfly")
    failed = [
        each
        for each in entries
        if each["type"] in ("invocation failed", "init failed", "bad response")
    ][-1]
    assert failed.get("error", failed["type"]) == kind
    assert reason in str(failed)
    assert stack.get("/fine").status_code == 200


def test_end_of_a_process_is_noticed_while_a_daemon_holds_the_output(stack: Stack) -> None:
    daemon = int(stack.get("/daemon").text)
    started = time.monotonic()
    assert stack.get("/exit").status_code == 500
    assert time.monotonic() - started < 1.5
    assert stack.get("/fine").status_code == 200
    with suppress(ProcessLookupError):
        os.kill(daemon, signal.SIGKILL)


def test_no_printed_line_can_stop_the_log(stack: Stack) -> None:
    for _ in range(3):
        assert stack.get("/garble").status_code == 200
    wait_until(
        lambda: (
            [each.get("text") for each in stack.log("Misbehaving")].count("after all that") == 3
        ),
        5,
    )


def test_bytes_of_every_kind_reach_the_function(stack: Stack) -> None:
    with socket.create_connection(("127.0.0.1", stack.port)) as raw:
        raw.sendall(
            b"GET /echo HTTP/1.1\r\nHost: localhost\r\nX-Odd: a\xff\r\nConnection: close\r\n\r\n"
        )
        reply = b"".join(iter(lambda: raw.recv(65536), b""))
    assert reply.startswith(b"HTTP/1.1 200")
    assert json.loads(reply.split(b"\r\n\r\n", 1)[1])["headers"]["x-odd"] == "a\xff"
    packed = requests.post(
        f"{stack.url}/echo",
        data=b"no gzip",
        headers={"Content-Encoding": "gzip", "Content-Type": "application/gzip"},
        timeout=60,
    )
    assert base64.b64decode(packed.json()["body"]) == b"no gzip"
    assert "aiohttp" not in stack.output


def test_request_above_the_limits_is_413(stack: Stack) -> None:
    assert (
        requests.post(f"{stack.url}/fine", data=b"x" * (7 * 1024 * 1024), timeout=60).status_code
        == 413
    )
    assert (
        requests.post(f"{stack.url}/fine", data=b"x" * (11 * 1024 * 1024), timeout=60).status_code
        == 413
    )
    assert (
        requests.post(f"{stack.url}/fine", data=b"x" * (2 * 1024 * 1024), timeout=60).status_code
        == 200
    )


def test_one_environment_takes_one_event_at_a_time_and_the_rest_wait(stack: Stack) -> None:
    replies: list[requests.Response] = []
    threads = [
        threading.Thread(target=lambda: replies.append(stack.get("/alone"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [reply.status_code for reply in replies] == [200] * 4
    assert len({reply.json()["pid"] for reply in replies}) == 1


def test_kill_of_an_idle_environment_between_requests_fails_no_request(stack: Stack) -> None:
    for _ in range(20):
        os.kill(stack.get("/fine").json()["pid"], signal.SIGKILL)
        assert stack.get("/fine").status_code == 200


def test_idle_environment_is_stopped_and_the_next_request_starts_one(stack: Stack) -> None:
    pid = stack.get("/fine").json()["pid"]
    wait_until(
        lambda: not stack.environments("Misbehaving"), 10, what="the reaping of idle environments"
    )
    assert stack.get("/fine").json()["pid"] != pid


def test_environments_are_restarted_when_their_code_is_saved(tmp_path: Path) -> None:
    """A library of the function is its code as well."""
    folder = tmp_path / "app"
    (folder / "code").mkdir(parents=True)
    (folder / "library").mkdir()
    source, library = folder / "code" / "app.py", folder / "library" / "words.py"
    library.write_text("word = 'old'\n")
    source.write_text("import words\ndef handler(event, context):\n    return words.word\n")
    (folder / "template.yaml").write_text(
        "Transform: AWS::Serverless-2016-10-31\nMetadata: {Mayfly: {Libraries: [library]}}\n"
        "Resources:\n  F:\n    Type: AWS::Serverless::Function\n"
        "    Metadata: {BuildMethod: makefile}\n    Properties:\n"
        "      {CodeUri: code, Handler: app.handler, Runtime: python3.13, Events: {A: {Type: "
        "HttpApi, Properties: {Path: /, Method: GET}}}}\n"
    )
    with running(tmp_path, template=folder / "template.yaml") as stack:
        assert stack.get("/").text == "old"
        if sys.platform == "linux":  # elsewhere a change is noticed a moment later
            for word in ("one", "two", "three"):
                source.write_text(f"def handler(event, context):\n    return {word!r}\n")
                assert stack.get("/").text == word, "the next request has the new code"
        source.write_text("def handler(event, context):\n    return 'new'\n")
        wait_until(lambda: stack.get("/").text == "new", 10, what="the reload")
        assert "reloaded F" in stack.output
        source.write_text("import words\ndef handler(event, context):\n    return words.word\n")
        wait_until(lambda: stack.get("/").text == "old", 10, what="the reload")
        library.write_text("word = 'newer'\n")
        wait_until(lambda: stack.get("/").text == "newer", 10, what="the reload of the library")


def test_environment_killed_at_the_moment_of_dispatch_gives_a_5xx_at_most(stack: Stack) -> None:
    """Kills at random under load: every answer is a 200 or a typed failure, and none hangs."""
    stop = threading.Event()

    def killer() -> None:
        while not stop.wait(0.05):
            for pid in stack.environments("Misbehaving"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        statuses = [stack.get("/fine").status_code for _ in range(30)]
    finally:
        stop.set()
        thread.join()
    assert set(statuses) <= {200, 500}
    assert stack.get("/fine").status_code == 200
