"""A machine that lacks files, processes or time.

The stack keeps running, and its log names the problem.
"""

import http.client
import json
import select
import socket
import subprocess
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from mayfly_testing.stack import ROOT, Stack, running, wait_until


def job(stack: Stack) -> int:
    """Submits a job on a connection of its own; returns the status, or 0 without an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=40)
    try:
        connection.request(
            "POST",
            "/jobs",
            json.dumps({"task": "counter.add", "payload": {"name": "n"}}),
            stack.headers,
        )
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def until_end(connection: socket.socket) -> bytes:
    """Returns the bytes that arrive until the other side closes."""
    return b"".join(iter(lambda: connection.recv(4096), b""))


def test_three_hundred_idle_connections_leave_room_for_a_job(tmp_path: Path) -> None:
    with running(tmp_path, files=256) as stack, ExitStack() as held:
        for _ in range(300):
            held.enter_context(socket.create_connection(("127.0.0.1", stack.port), timeout=5))
        assert job(stack) == 202
        wait_until(lambda: stack.environments("RunJobs"), 30, what="a worker")
        stack.kill_environments("RunJobs", "Jobs")
        assert wait_until(lambda: job(stack) == 202, 30)
        assert stack.process.poll() is None


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="changes a running process's limits, by prlimit"
)
def test_process_that_cannot_be_started_is_a_failed_request_and_the_next_one_works(
    tmp_path: Path,
) -> None:
    with running(tmp_path) as stack:
        assert stack.get("/").status_code == 200
        process = psutil.Process(stack.process.pid)
        before = process.rlimit(psutil.RLIMIT_NOFILE)
        # One for a connection, none for a process.
        process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() + 2, before[1]))
        assert wait_until(lambda: (found := job(stack)) != 202 and (found or "none"), 30) in (
            500,
            "none",
        )
        process.rlimit(psutil.RLIMIT_NOFILE, before)
        assert wait_until(lambda: job(stack) == 202, 30)
        wait_until(lambda: stack.counter("n") >= 1, 60, what="the job's effect")
        assert stack.process.poll() is None
        assert "next=the next invocation tries again" in stack.output


def test_connections_without_a_complete_request_are_closed(tmp_path: Path) -> None:
    with (
        running(tmp_path, template=ROOT / "tests/apps/misbehaving/template.yaml") as stack,
        ExitStack() as held,
    ):
        silent = [
            held.enter_context(socket.create_connection(("127.0.0.1", stack.port), timeout=30))
            for _ in range(5)
        ]
        for each in silent[:3]:
            each.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-A: ")
        assert [each.recv(100) for each in silent] == [b""] * 5


def test_request_whose_body_stalls_is_closed(tmp_path: Path) -> None:
    with (
        running(tmp_path, template=ROOT / "tests/apps/misbehaving/template.yaml") as stack,
        ExitStack() as held,
    ):
        begun = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nx"
        ports = (stack.port, urlsplit(stack.facts["endpoint"]).port or 0)
        stalled = [
            held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=40))
            for port in ports
            for _ in range(3)
        ]
        for each in stalled:
            each.sendall(begun)
        for each in stalled[:3]:
            assert each.recv(100) == b""
        for each in stalled[3:]:  # refused before it is read: nothing is signed
            assert until_end(each).startswith(b"HTTP/1.1 403 ")
        assert stack.get("/fine").status_code == 200


@pytest.mark.parametrize("rest", [b"ZZ\r\nabc\r\n", b"2\r\n{}\r\n;"])
def test_unreadable_chunked_body_is_400_on_every_port(tmp_path: Path, rest: bytes) -> None:
    """The body is sent after the headers, when the request is already being handled."""
    with (
        running(tmp_path, template=ROOT / "tests/apps/misbehaving/template.yaml") as stack,
        ExitStack() as held,
    ):
        signed = (
            "Authorization: AWS4-HMAC-SHA256 "
            f"Credential={stack.credentials.id}/20260101/us-east-1/dynamodb/aws4_request, "
            "Signature=0"
        )
        for port in (stack.port, urlsplit(stack.facts["endpoint"]).port or 0):
            sender = held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
            sender.sendall(
                f"POST /fine HTTP/1.1\r\nHost: localhost\r\n{signed}\r\nTransfer-Encoding: "
                "chunked\r\n\r\n".encode()
            )
            assert select.select([sender], [], [], 0.5)[0] == []
            sender.sendall(rest)
            answer = until_end(sender)
            assert answer.startswith(b"HTTP/1.1 400 "), (port, answer)


def test_slow_body_that_continues_is_served(tmp_path: Path) -> None:
    template = ROOT / "tests/apps/misbehaving/template.yaml"
    with (
        running(tmp_path, template=template) as stack,
        socket.create_connection(("127.0.0.1", stack.port), timeout=40) as slow,
    ):
        slow.sendall(
            b"POST /fine HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Length: 5\r\n\r\n"
        )
        for _ in range(5):
            # Longer than a stall in all, shorter than one each time.
            assert select.select([slow], [], [], 4)[0] == []
            slow.sendall(b"x")
        assert slow.recv(100).startswith(b"HTTP/1.1 ")


def test_idle_connections_to_the_emulator_leave_room_for_functions(tmp_path: Path) -> None:
    with running(tmp_path, files=256) as stack, ExitStack() as held:
        port = urlsplit(stack.facts["endpoint"]).port or 0
        for _ in range(320):
            held.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        assert job(stack) == 202
        wait_until(lambda: stack.counter("n") >= 1, 60, what="the job's effect")


def test_connections_above_the_bound_close_those_that_are_idle_longest(tmp_path: Path) -> None:
    with (
        running(
            tmp_path, template=ROOT / "tests/apps/misbehaving/template.yaml", files=256
        ) as stack,
        ExitStack() as held,
    ):
        used = held.enter_context(
            closing(http.client.HTTPConnection("127.0.0.1", stack.port, timeout=30))
        )
        for _ in range(4):
            for _ in range(60):
                held.enter_context(socket.create_connection(("127.0.0.1", stack.port), timeout=5))
            used.request("GET", "/fine")
            assert used.getresponse().read()
        assert psutil.Process(stack.process.pid).num_fds() < 256


def test_stack_raises_its_own_limit_of_open_files(tmp_path: Path) -> None:
    hard = subprocess.run(
        ["sh", "-c", "ulimit -Hn"], capture_output=True, text=True, check=True
    ).stdout.strip()
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (128, "
        "resource.getrlimit(resource.RLIMIT_NOFILE)[1])); "
    )
    program += (
        "from mayfly_local.ports.file_limit import raise_file_limit; "
        "print(raise_file_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    assert printed[0] == printed[1]
    assert int(printed[0]) == (65_536 if hard == "unlimited" else min(65_536, int(hard)))
