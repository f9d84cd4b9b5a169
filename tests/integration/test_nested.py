"""An application that nests all parts of Mayfly and has tasks of its own, in real processes.

It is the one of `mayfly init`. The code of the wheel is a copy of the sources.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from mayfly_cli.new_application import PART, rendered, runtime_here
from mayfly_cli.parts import FEATURES, Wanted, nested
from mayfly_testing.stack import MAYFLY, Stack, running, wait_until
from tests.support.installed import install

TASK = """
from mayfly import Effects, Job, task


@task("orders.second")
def second(job: Job, effects: Effects) -> str:
    effects.increment("seconds")
    return "done"
"""


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nested") / "shop"
    for path, text in rendered("shop", runtime_here()):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    wanted = Wanted((*FEATURES,), code="src", runtime=runtime_here(), tasks="shop.tasks")
    (folder / PART).write_text(nested(wanted))
    install(folder / "src")
    return folder


@pytest.fixture(scope="module")
def stack(application: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("nested-stack")
    with running(folder, "--strict", template=application / "template.yaml") as stack:
        yield stack


def command(stack: Stack, *arguments: str) -> str:
    """Runs an operator's command on the stack; returns what it prints as JSON."""
    done = subprocess.run(
        [MAYFLY, *arguments, "--work", str(stack.work), "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_doctor_compares_the_nested_part_of_project_and_running_stack(
    application: Path, stack: Stack
) -> None:
    printed = command(stack, "doctor", "--template", str(application / "template.yaml"))
    findings = [json.loads(line) for line in printed.splitlines()]
    assert [each for each in findings if each["weight"] != "note"] == []
    compared = [each["thing"] for each in findings if each["check"] == "parts"]
    assert compared == [str(application / "template.yaml"), f"stack {stack.facts['name']}"]


def test_page_and_api_have_addresses_of_their_own(stack: Stack) -> None:
    assert stack.get("/").text == "shop: visits 1, orders 0"
    assert stack.api != stack.url
    assert stack.get("/jobs").status_code == 404


def test_job_of_the_applications_own_task_is_counted_once(stack: Stack) -> None:
    key = {**stack.headers, "Idempotency-Key": "order-1"}
    body = {"task": "orders.tally", "payload": {"items": 3}}
    ids = {
        requests.post(f"{stack.api}/jobs", json=body, headers=key, timeout=60).json()["id"]
        for _ in range(3)
    }
    assert len(ids) == 1
    job = stack.job(ids.pop(), wait=20)
    assert (job["status"], job["result"]) == ("succeeded", {"items": 3})
    assert stack.counter("items") == 3


def test_built_in_tasks_are_there_as_well(stack: Stack) -> None:
    job = stack.job(stack.submit("counter.add", {"name": "own", "by": 2})["id"], wait=20)
    assert job["status"] == "succeeded"
    assert stack.counter("own") == 2


def test_saved_task_is_known_without_a_restart(stack: Stack, application: Path) -> None:
    (application / "src" / "shop" / "tasks" / "second.py").write_text(TASK)
    wait_until(lambda: stack.knows("orders.second"), 20)
    job = stack.job(stack.submit("orders.second")["id"], wait=20)
    assert (job["status"], job["result"]) == ("succeeded", "done")


def test_sessions_limits_and_schedules_answer(stack: Stack) -> None:
    def ask(method: str, path: str, body: object) -> requests.Response:
        return requests.request(
            method, f"{stack.api}{path}", json=body, headers=stack.headers, timeout=60
        )

    assert ask("POST", "/sessions", {"subject": "ada"}).status_code == 201
    limit = {"key": "ada", "algorithm": "fixed", "limit": 1, "period_seconds": 3600}
    assert ask("POST", "/limits/mails/take", limit).json()["allowed"] is True
    schedule = {"every_seconds": 3600, "task": "orders.tally", "payload": {"items": 1}}
    assert ask("PUT", "/schedules/hourly", schedule).status_code == 201
    unknown = ask("PUT", "/schedules/hourly", {**schedule, "task": "orders.gone"})
    assert unknown.json()["code"] == "unknown-task"


def test_uploaded_file_is_imported(stack: Stack) -> None:
    bucket = stack.facts["resources"][f"{stack.nesting}ImportsBucket"]
    stack.client("s3").put_object(Bucket=bucket, Key="default/a.csv", Body=b"n\n1\n2\n")
    wait_until(lambda: stack.counter("csv.import.rows") == 2, 30)


def test_message_of_the_schedule_is_one_job_however_often_it_is_sent(stack: Stack) -> None:
    """The queue gets the input of the template's schedule, with a key of its time."""
    client, url = stack.client("sqs"), stack.facts["resources"][f"{stack.nesting}JobsQueue"]
    body = {
        "task": "orders.tally",
        "payload": {"items": 12},
        "idempotency_key": "standing-order-2026-01-01T06:00:00Z",
    }
    before = stack.counter("items")
    for _ in range(3):
        client.send_message(QueueUrl=url, MessageBody=json.dumps(body))
    wait_until(lambda: stack.counter("items") > before, 30)
    job = stack.job(stack.submit("counter.add", {"name": "after"})["id"], wait=20)
    assert job["status"] == "succeeded"
    assert stack.counter("items") == before + 12


def test_operators_commands_find_the_nested_part(stack: Stack) -> None:
    (key,) = command(stack, "keys", "list").splitlines()
    assert json.loads(key)["tenant"] == "default"
    assert json.loads(command(stack, "counters", "show", "items"))["value"] >= 3
    assert json.loads(command(stack, "sessions", "list", "--subject", "ada"))["subject"] == "ada"
