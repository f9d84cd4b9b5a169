"""Sessions on a running stack whose TTL deletes two days late, as AWS may."""

import json
import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
from mayfly.core.clock import system_clock

from mayfly_testing.stack import MAYFLY, Stack, wait_until

CURRENT = "/sessions/current"


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    return shared_stack


def call(
    stack: Stack, method: str, path: str, token: str | None = None, body: Any = None
) -> requests.Response:
    headers = {**stack.headers, **({"Session-Token": token} if token else {})}
    return requests.request(method, stack.url + path, headers=headers, json=body, timeout=60)


def make(stack: Stack, **body: Any) -> dict[str, Any]:
    reply = call(stack, "POST", "/sessions", body=body)
    assert reply.status_code == 201, reply.text
    found: dict[str, Any] = reply.json()
    return found


def test_expired_session_is_refused_by_every_route_while_its_item_exists(stack: Stack) -> None:
    made = make(stack, subject="ada", idle_seconds=1, data={"cart": [1]})
    deadline_ms = system_clock() + 1001
    wait_until(lambda: system_clock() > deadline_ms, 5)
    token, own = made["token"], f"/subjects/ada/sessions/{made['id']}"
    replies = [
        call(stack, "GET", CURRENT, token),
        call(stack, "PATCH", CURRENT, token, {"cart": [2]}),
        call(stack, "POST", f"{CURRENT}/rotate", token),
        call(stack, "POST", f"{CURRENT}/rotate", token, {"subject": "grace"}),
        call(stack, "DELETE", CURRENT, token),
        call(stack, "DELETE", own),
    ]
    assert [(each.status_code, each.json()["code"]) for each in replies] == [
        (404, "session-not-found")
    ] * 6
    assert call(stack, "GET", "/subjects/ada/sessions").json() == {"items": [], "next": None}
    (item,) = [
        each for each in stack.items("SessionsTable") if each["sk"]["S"] == f"session/{made['id']}"
    ]
    assert item["data"] == {"S": '{"cart":[1]}'}


def test_overlapping_patches_of_different_keys_all_survive(stack: Stack) -> None:
    token = make(stack, subject="grace")["token"]
    with ThreadPoolExecutor(8) as threads:
        replies = list(
            threads.map(lambda n: call(stack, "PATCH", CURRENT, token, {f"k{n}": n}), range(40))
        )
    assert {each.status_code for each in replies} == {200}
    found = call(stack, "GET", CURRENT, token)
    assert found.json()["data"] == {f"k{n}": n for n in range(40)}
    assert (found.json()["version"], found.headers["ETag"]) == (41, '"41"')
    assert sorted(each.json()["version"] for each in replies) == list(range(2, 42))


def test_new_process_for_every_request_makes_no_difference(stack: Stack) -> None:
    token = make(stack, data={"n": 0})["token"]
    for number in range(1, 4):
        stack.kill_environments("Sessions")
        assert call(stack, "PATCH", CURRENT, token, {"n": number}).json()["version"] == number + 1
    token = call(stack, "POST", f"{CURRENT}/rotate", token).json()["token"]
    stack.kill_environments("Sessions")
    assert call(stack, "GET", CURRENT, token).json()["data"] == {"n": 3}


@pytest.mark.parametrize("way", ["end", "end all", "rotate"])
def test_requests_that_start_after_an_acknowledged_end_are_refused(stack: Stack, way: str) -> None:
    subject = f"subject-{way.replace(' ', '-')}"
    token = make(stack, subject=subject)["token"]
    uses: list[tuple[float, int]] = []
    stop = time.monotonic() + 60

    def use() -> None:
        while time.monotonic() < stop:
            began = time.monotonic()
            status = call(stack, "GET", CURRENT, token).status_code
            uses.append((began, status))
            if status != 200:
                return

    with ThreadPoolExecutor(4) as threads:
        for _ in range(4):
            threads.submit(use)
        wait_until(lambda: len(uses) > 20, 60)
        reply = {
            "end": lambda: call(stack, "DELETE", CURRENT, token),
            "end all": lambda: call(stack, "DELETE", f"/subjects/{subject}/sessions"),
            "rotate": lambda: call(stack, "POST", f"{CURRENT}/rotate", token),
        }[way]()
        acknowledged = time.monotonic()
    assert reply.ok
    assert {status for began, status in uses} == {200, 404}
    assert {status for began, status in uses if began > acknowledged} <= {404}


def test_visitor_is_recognised_by_its_cookie_in_any_process(stack: Stack) -> None:
    visitor = requests.Session()
    visitor.headers["Accept"] = "application/json"
    for number in range(1, 4):
        assert visitor.get(stack.url, timeout=60).json()["yours"] == number
        for pid in stack.environments("Hello"):
            os.kill(pid, signal.SIGKILL)
    assert (
        requests.get(stack.url, headers={"Accept": "application/json"}, timeout=60).json()["yours"]
        == 1
    )


def test_operator_lists_and_ends_sessions(stack: Stack) -> None:
    def mayfly(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [str(MAYFLY), "sessions", *arguments, "--subject", "lovelace"]
        return subprocess.run(
            command, cwd=stack.work.parent, capture_output=True, text=True, check=False
        )

    first, second = make(stack, subject="lovelace"), make(stack, subject="lovelace")
    listed = mayfly("list", "--json")
    assert sorted(json.loads(line)["id"] for line in listed.stdout.splitlines()) == sorted(
        [first["id"], second["id"]]
    )
    assert mayfly("end", first["id"]).returncode == 0
    assert [call(stack, "GET", CURRENT, each["token"]).status_code for each in (first, second)] == [
        404,
        200,
    ]
    again = mayfly("end", first["id"])
    assert (again.returncode, "no such session" in again.stderr) == (1, True)
    assert mayfly("end", "--all").returncode == 0
    assert call(stack, "GET", CURRENT, second["token"]).status_code == 404
    assert "has no session" in mayfly("list").stderr
    assert "or --all" in mayfly("end").stderr


def test_no_table_log_line_or_metric_holds_a_token(stack: Stack) -> None:
    tokens = [make(stack, subject="secretive", data={"a": 1})["token"], make(stack)["token"]]
    for token in list(tokens):
        call(stack, "GET", CURRENT, token)
        call(stack, "PATCH", CURRENT, token, {"b": 2})
        tokens.append(
            call(stack, "POST", f"{CURRENT}/rotate", token, {"subject": "secretive"}).json()[
                "token"
            ]
        )
        call(stack, "GET", CURRENT, token)  # refused
    call(stack, "GET", CURRENT, tokens[-1] + "x")
    visitor = requests.get(stack.url, headers={"Accept": "application/json"}, timeout=60)
    tokens.append(visitor.cookies["visitor"])
    assert len({token.rpartition("_")[2] for token in tokens}) == 5

    places = {
        name: json.dumps(stack.items(name))
        for name in stack.facts["resources"]
        if name.endswith("Table")
    }
    places |= {path.name: path.read_text() for path in (stack.work / "logs").iterdir()}
    places["the terminal"] = stack.output
    assert {"SessionsTable", "TenantsTable", "Sessions.jsonl", "Hello.jsonl"} <= set(places)
    assert '"SessionRotated"' in places["Sessions.jsonl"]  # metrics are log lines
    for name, text in places.items():
        assert [
            token for token in tokens if token in text or token.rpartition("_")[2] in text
        ] == [], name
