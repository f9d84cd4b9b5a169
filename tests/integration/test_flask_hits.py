"""examples/flask_hits with two processes.

It runs as a Lambda function in the local runtime, and under gunicorn.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from mayfly_testing.stack import ROOT, Stack, running, unused_port, wait_until
from tests.conftest import make_tables

EXAMPLE = ROOT / "examples" / "flask_hits"


def browser() -> requests.Session:
    return requests.Session()


def hits(page: str, visitor: requests.Session) -> dict[str, Any]:
    reply = visitor.get(page, timeout=60)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def processes(page: str) -> set[int]:
    """Returns the processes that serve several concurrent visitors."""
    with ThreadPoolExecutor(8) as threads:
        return {
            each["process"]
            for each in threads.map(
                lambda visitor: hits(page, visitor), [browser() for _ in range(16)]
            )
        }


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("flask"), template=EXAMPLE / "template.yaml") as found:
        yield found


@pytest.fixture
def gunicorn(embedded: Any, endpoint: str, tmp_path: Path) -> Iterator[str]:
    make_tables(embedded, "flask-")
    port = unused_port()
    env = {
        **os.environ,
        "AWS_ENDPOINT_URL": endpoint,
        "SESSIONS_TABLE": "flask-SessionsTable",
        "SUBJECT_KEY": "test",
        "PYTHONPATH": str(ROOT / "layers" / "mayfly"),
    }
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--workers",
        "2",
        "--bind",
        f"127.0.0.1:{port}",
        "hits:app",
    ]
    with (tmp_path / "output").open("wb") as output:
        server = subprocess.Popen(
            command, cwd=EXAMPLE / "app", env=env, stdout=output, stderr=output
        )
    page = f"http://127.0.0.1:{port}/"
    try:
        wait_until(lambda: answers(page), 30)
        yield page
    finally:
        server.terminate()
        server.wait(20)


def answers(page: str) -> bool:
    try:
        return requests.get(page, timeout=10).status_code == 200
    except requests.ConnectionError:
        return False


def test_count_on_lambda_continues_in_any_process(stack: Stack) -> None:
    page = stack.url + "/"
    wait_until(lambda: len(processes(page)) >= 2, 60, what="a second process")
    visitor = browser()
    found = []
    for number in range(12):
        if number % 4 == 3:
            for pid in stack.environments("Hits"):
                os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not stack.environments("Hits"), 20)
        found.append(hits(page, visitor))
    assert [each["hits"] for each in found] == list(range(1, 13))
    assert len({each["process"] for each in found}) >= 4


def test_count_under_gunicorn_continues_in_any_process(gunicorn: str) -> None:
    visitor = browser()
    found: list[dict[str, Any]] = []

    def both_have_served() -> bool:
        visitor.headers["Connection"] = (
            "close"  # another connection, so that another process can take it
        )
        found.append(hits(gunicorn, visitor))
        return len({each["process"] for each in found}) == 2

    wait_until(both_have_served, 60)
    assert [each["hits"] for each in found] == list(range(1, len(found) + 1))


def test_login_changes_the_token_and_logout_ends_it(stack: Stack) -> None:
    visitor = browser()
    hits(stack.url + "/", visitor)
    before = visitor.cookies["session"]
    page = visitor.post(f"{stack.url}/login", data={"user": "ada"}, timeout=60).json()
    assert (page["hits"], page["user"], page["notes"]) == (2, "ada", ["Hello, ada!"])
    after = visitor.cookies["session"]
    assert before != after
    assert requests.get(stack.url, cookies={"session": before}, timeout=60).json()["hits"] == 1
    assert visitor.post(f"{stack.url}/logout", timeout=60).json()["hits"] == 1
    assert requests.get(stack.url, cookies={"session": after}, timeout=60).json()["hits"] == 1


def test_page_of_another_site_cannot_log_a_visitor_in(stack: Stack) -> None:
    reply = browser().post(
        f"{stack.url}/login",
        data={"user": "eve"},
        headers={"Origin": "https://evil.example"},
        timeout=60,
    )
    assert (reply.status_code, reply.cookies.get_dict()) == (403, {})
