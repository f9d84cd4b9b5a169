"""The whole stack as a process: HTTP in, queue through, counter out, and nothing lost when processes die."""

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from local.harness import MAYFLY, ROOT, Stack, running, wait_until

pytestmark = pytest.mark.xdist_group("stack")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("stack")) as found:
        yield found


def _wait_for_success(stack: Stack, job_id: str) -> None:
    # A crash before a worker's first act costs the queue's own visibility timeout: 90 s.
    wait_until(lambda: stack.job(job_id, wait=20)["status"] == "succeeded", 170, what=f"job {job_id}")


def listening(process: psutil.Process) -> list[str]:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return [each.laddr.ip for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN]
    return []


def test_the_page_counts_and_health_answers(stack: Stack) -> None:
    before = stack.counter("hits")
    assert [stack.get("/").text for _ in range(2)] == [f"Hello World! {before + n} times." for n in (1, 2)]
    assert stack.get("/health").json() == {"status": "ok"}


def test_everything_listens_on_loopback_alone(stack: Stack) -> None:
    stack.get("/")
    found = [ip for process in stack.tree() for ip in listening(process)]
    assert len(found) >= 3  # the API, the store, an environment
    assert set(found) == {"127.0.0.1"}


def test_eight_clients_are_counted_exactly_over_several_processes(stack: Stack) -> None:
    before, sessions = stack.counter("hits"), [requests.Session() for _ in range(8)]

    def client(session: requests.Session) -> int:
        with session:
            return sum(session.get(stack.url, timeout=60).status_code == 200 for _ in range(500))

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(client, sessions)) == 4000
    assert stack.counter("hits") - before == 4000
    assert len(stack.environments("Hello")) >= 2


def test_jobs_by_http_and_from_a_plain_producer_are_each_done_once(stack: Stack) -> None:
    before, sqs = stack.counter("both"), stack.client("sqs")
    payload = {"name": "both", "by": 1}
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda _: stack.submit("counter.add", payload)["id"], range(200)))
    for _ in range(20):
        body = json.dumps({"task": "counter.add", "payload": payload})
        sqs.send_message_batch(
            QueueUrl=stack.facts["outputs"]["JobsQueueUrl"], Entries=[{"Id": str(n), "MessageBody": body} for n in range(10)]
        )
    wait_until(lambda: stack.counter("both") - before >= 400, 60, what="400 counts")
    assert {stack.job(job_id, wait=20)["status"] for job_id in ids} == {"succeeded"}
    jobs = [item for item in stack.items("JobsTable") if item["sk"]["S"] == "job" and '"both"' in item["payload"]["S"]]
    assert (len(jobs), {item["status"]["S"] for item in jobs}) == (400, {"COMPLETED"})
    assert stack.counter("both") - before == 400


def test_killing_all_workers_every_second_loses_and_doubles_nothing(stack: Stack) -> None:
    before, done = stack.counter("killed"), threading.Event()
    kills: list[int] = []

    def killer() -> None:
        while not done.wait(1):
            for pid in stack.environments("RunJobs"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    kills.append(pid)

    thread = threading.Thread(target=killer)
    thread.start()
    try:
        with ThreadPoolExecutor(4) as threads:
            ids = list(threads.map(lambda _: stack.submit("counter.add", {"name": "killed"}, max_attempts=20)["id"], range(200)))
        for job_id in ids:
            _wait_for_success(stack, job_id)
    finally:
        done.set()
        thread.join()
    assert kills
    assert stack.counter("killed") - before == 200


def test_a_message_that_is_no_job_ends_in_the_dead_letter_queue_with_its_body(stack: Stack) -> None:
    sqs, facts = stack.client("sqs"), stack.facts
    sqs.send_message(QueueUrl=facts["outputs"]["JobsQueueUrl"], MessageBody="not a job")

    def dead() -> list[Any]:
        return list(sqs.receive_message(QueueUrl=facts["resources"]["JobsDeadLetters"], WaitTimeSeconds=1).get("Messages", []))

    assert [each["Body"] for each in wait_until(dead, 30)] == ["not a job"]


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        ({}, 401, {"message": "Unauthorized"}),
        ({"Authorization": "Bearer mf_dev_nonsense"}, 401, "unauthenticated"),
    ],
)
def test_the_door_is_closed_without_a_key(stack: Stack, headers: dict[str, str], status: int, body: Any) -> None:
    reply = stack.get("/jobs/x", headers=headers)
    assert reply.status_code == status
    assert reply.json() == body if isinstance(body, dict) else reply.json()["code"] == body
    assert reply.headers["apigw-requestid"]


def test_a_key_made_by_the_command_opens_the_door_with_its_scopes(stack: Stack) -> None:
    made = subprocess.run(
        [str(MAYFLY), "keys", "create", "--tenant", "acme", "--scope", "jobs:read", "--json", "--stack", stack.facts["name"], "--endpoint-url", stack.facts["endpoint"]],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    headers = {"Authorization": f"Bearer {json.loads(made.stdout)['key']}"}
    mine = stack.submit("counter.add", {"name": "x"})["id"]
    assert stack.get(f"/jobs/{mine}", headers=stack.headers).status_code == 200
    assert stack.get(f"/jobs/{mine}", headers=headers).status_code == 404
    assert requests.post(f"{stack.url}/jobs", json={"task": "counter.add"}, headers=headers, timeout=60).status_code == 403


def test_unknown_paths_and_wrong_methods_are_told_apart(stack: Stack) -> None:
    assert stack.get("/nothing/here").json()["code"] == "not-found"
    wrong = requests.delete(f"{stack.url}/jobs", timeout=60)
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "POST")


def test_a_key_is_nowhere_in_tables_and_logs(stack: Stack) -> None:
    secret = stack.key.rsplit("_", 1)[1]
    stack.get("/jobs/x", headers=stack.headers)
    stored = json.dumps([stack.items(table) for table in ("TenantsTable", "JobsTable", "CountersTable")])
    logged = "".join(path.read_text() for path in (stack.work / "logs").iterdir())
    assert secret not in stored + logged


def test_invoke_runs_a_function_against_the_running_stack(stack: Stack) -> None:
    before = stack.counter("hits")
    command = [str(MAYFLY), "invoke", "hello", "--event", str(ROOT / "events" / "hello.json"), "--work", str(stack.work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["body"] == f"Hello World! {before + 1} times."


@pytest.mark.parametrize("function", ["authorizer", "hello", "jobs", "relay_jobs", "run_jobs"])
def test_every_sample_event_is_taken_by_its_function(stack: Stack, function: str) -> None:
    done = subprocess.run([MAYFLY, "invoke", function, "--work", stack.work], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "batchItemFailures" not in done.stdout or json.loads(done.stdout) == {"batchItemFailures": []}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["invoke", "nothing"], "there is no event file events/nothing.json"),
        (["invoke", "nothing", "--event", "events/hello.json"], "there is no function 'nothing'; the stack has: Authorizer, Hello"),
        (["invoke", "hello", "--event", "README.md"], "README.md is not valid JSON"),
        (["invoke", "hello", "--work", "/nowhere"], "no local stack is running here"),
    ],
)
def test_a_call_of_invoke_that_is_off_says_what_is(stack: Stack, arguments: list[str], said: str) -> None:
    work = [] if "--work" in arguments else ["--work", str(stack.work)]
    done = subprocess.run([MAYFLY, *arguments, *work], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (1, True, False), done.stderr


def test_a_taken_port_is_named_with_who_has_it(stack: Stack, tmp_path: Path) -> None:
    done = subprocess.run(
        [MAYFLY, "up", "--template", ROOT / "template.yaml", "--port", str(stack.port), "--work", tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"port {stack.port} is taken by process {stack.process.pid}" in done.stderr
    assert f"make run PORT={stack.port + 1}" in done.stderr


def test_jobs_from_the_queue_are_read_only_by_the_queues_tenant(stack: Stack) -> None:
    stack.client("sqs").send_message(
        QueueUrl=stack.facts["outputs"]["JobsQueueUrl"],
        MessageBody=json.dumps({"task": "counter.add", "payload": {"name": "q"}, "idempotency_key": "one"}),
    )
    wait_until(lambda: stack.counter("q") == 1, 20)
    replay = requests.post(
        f"{stack.url}/jobs",
        json={"task": "counter.add", "payload": {"name": "q"}},
        headers={**stack.headers, "Idempotency-Key": "one"},
        timeout=60,
    )
    assert (replay.status_code, replay.json()["status"]) == (200, "succeeded")
    assert stack.counter("q") == 1


def test_the_log_of_a_request_can_be_found_by_its_id(stack: Stack) -> None:
    request_id = stack.get("/jobs/unknown", headers=stack.headers).headers["apigw-requestid"]
    (entry,) = [each for each in stack.log("mayfly") if each.get("request_id") == request_id]
    assert (entry["path"], entry["status"]) == ("/jobs/unknown", 404)


def test_recovery_after_a_kill_takes_no_longer_than_a_cold_start(stack: Stack) -> None:
    stack.get("/")
    for pid in stack.environments("Hello"):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not stack.environments("Hello"), 5)
    started = time.monotonic()
    assert stack.get("/").status_code == 200
    assert time.monotonic() - started < 5
