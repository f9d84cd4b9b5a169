"""The whole stack as a process: HTTP requests, jobs and counters.

Nothing is lost when processes die.
"""

import http.client
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from mayfly.core.clock import system_clock

from mayfly_local.emulator.process import free_port
from mayfly_testing.stack import MAYFLY, ROOT, Stack, running, unbuffered, wait_until


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("stack")) as found:
        yield found


def listening(process: psutil.Process) -> list[str]:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        return [
            each.laddr.ip
            for each in process.net_connections("inet")
            if each.status == psutil.CONN_LISTEN
        ]
    return []


def test_page_counts_and_health_answers(stack: Stack) -> None:
    before = stack.counter("hits")
    assert [stack.get("/").text for _ in range(2)] == [
        f"Hello World! {before + n} times." for n in (1, 2)
    ]
    assert stack.get("/health").json() == {"status": "ok"}


def test_everything_listens_on_loopback_alone(stack: Stack) -> None:
    stack.get("/")
    found = [ip for process in stack.tree() for ip in listening(process)]
    assert len(found) >= 3  # the API, the emulator, an environment
    assert set(found) == {"127.0.0.1"}


def test_requests_of_eight_clients_are_counted_exactly_over_several_processes(
    stack: Stack, load_seconds: int
) -> None:
    each = 5 * load_seconds
    before, sessions = stack.counter("hits"), [requests.Session() for _ in range(8)]

    def client(session: requests.Session) -> int:
        with session:
            return sum(session.get(stack.url, timeout=60).status_code == 200 for _ in range(each))

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(client, sessions)) == 8 * each
    assert stack.counter("hits") - before == 8 * each
    assert len(stack.environments("Hello")) >= 2


def test_jobs_by_http_and_from_a_plain_producer_are_each_done_once(
    stack: Stack, load_seconds: int
) -> None:
    each = 10 * load_seconds
    before, sqs = stack.counter("both"), stack.client("sqs")
    payload = {"name": "both", "by": 1}
    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(lambda _: stack.submit("counter.add", payload)["id"], range(each)))
    for _ in range(each // 10):
        body = json.dumps({"task": "counter.add", "payload": payload})
        sqs.send_message_batch(
            QueueUrl=stack.facts["outputs"]["JobsQueueUrl"],
            Entries=[{"Id": str(n), "MessageBody": body} for n in range(10)],
        )
    wait_until(lambda: stack.counter("both") - before >= 2 * each, 60, what="all counts")
    assert {stack.job(job_id, wait=20)["status"] for job_id in ids} == {"succeeded"}
    jobs = [
        item
        for item in stack.items("JobsTable")
        if item["sk"]["S"] == "job" and '"both"' in item["payload"]["S"]
    ]
    assert (len(jobs), {item["status"]["S"] for item in jobs}) == (2 * each, {"COMPLETED"})
    assert stack.counter("both") - before == 2 * each


def test_visits_and_jobs_on_one_counter_are_counted_while_transactions_hold_it(
    stack: Stack,
) -> None:
    """A job commits by a transaction, which a visit's plain increment meets."""
    before, jobs, visits = stack.counter("hits"), 0, 0
    assert stack.control("transactions", {"milliseconds": 50}).ok
    try:
        with ThreadPoolExecutor(4) as threads:
            while not (met := stack.control("transactions").json()["met"].get("UpdateItem")):
                jobs += 1
                assert jobs < 60, "no visit has met a transaction"
                job = threads.submit(stack.submit, "counter.add", {"name": "hits", "by": 40})
                answers = list(threads.map(stack.get, ["/"] * 8))
                assert [answer.status_code for answer in answers] == [200] * 8
                visits += 8
                assert stack.job(job.result()["id"], wait=20)["status"] == "succeeded"
    finally:
        assert stack.control("transactions", {"milliseconds": 0}).ok
    print(f"{jobs} jobs, {visits} visits; {met} visits met a transaction")  # noqa: T201
    assert stack.counter("hits") == before + 40 * jobs + visits


def test_message_that_is_not_a_valid_job_is_stored_with_its_body_and_listed(stack: Stack) -> None:
    body = "not a job, but ü" * 50_000
    sent = stack.client("sqs").send_message(
        QueueUrl=stack.facts["outputs"]["JobsQueueUrl"], MessageBody=body
    )

    def listed() -> list[Any]:
        return [
            each
            for each in jobs_command(stack, "unreadable")
            if each["message_id"] == sent["MessageId"]
        ]

    (kept,) = wait_until(listed, 60)
    assert (kept["body"], "not valid JSON" in kept["problem"]) == (body, True)
    assert run_jobs_command(stack, "unreadable", "--show", sent["MessageId"]).stdout == body + "\n"
    assert run_jobs_command(stack, "unreadable", "--forget", sent["MessageId"]).returncode == 0
    assert listed() == []


def run_jobs_command(stack: Stack, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Runs `mayfly jobs ...` on the stack, as its operator does."""
    folder = stack.work.parent
    with suppress(FileExistsError):
        (folder / ".mayfly").symlink_to(stack.work)
    return subprocess.run(
        [MAYFLY, "jobs", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def jobs_command(stack: Stack, *arguments: str) -> list[dict[str, Any]]:
    done = run_jobs_command(stack, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_operator_lists_cancels_and_redrives_jobs(stack: Stack) -> None:
    dead = stack.submit("fail", {"times": 9, "permanent": True})["id"]
    later = stack.submit("counter.add", {"name": "later"}, delay_seconds=3000)["id"]
    assert stack.job(dead, wait=20)["status"] == "dead"
    assert [job["id"] for job in jobs_command(stack, "list", "--task", "fail")] == [dead]
    assert later in [job["id"] for job in jobs_command(stack, "list", "--status", "scheduled")]
    (redriven,) = jobs_command(stack, "redrive", dead)
    assert (redriven["status"], len(redriven["attempts"])) == ("queued", 1)
    wait_until(lambda: len(stack.job(dead, wait=20)["attempts"]) == 2, 30)
    (cancelled,) = jobs_command(stack, "cancel", later)
    assert cancelled["status"] == "cancelled"
    (shown,) = jobs_command(stack, "show", later)
    assert shown["status"] == "cancelled"
    assert jobs_command(stack, "list", "--tenant", "other") == []


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["show", "nothing"], 1, "no job 'nothing'"),
        (["redrive", "nothing"], 1, "no job 'nothing'"),
        (["redrive"], 1, "give the ids of jobs, or --all"),
        (["resend"], 1, "give the ids of jobs, or --stranded"),
        (["resend", "--older-than", "soon"], 2, "not a whole number of seconds"),
        (["show", "a b"], 2, "must match"),
        (["unreadable", "--show", "nothing"], 1, "no job 'nothing'"),
        (["nothing"], 2, "No such command 'nothing'"),
    ],
)
def test_invalid_call_of_jobs_names_the_problem(
    stack: Stack, arguments: list[str], code: int, said: str
) -> None:
    done = run_jobs_command(stack, *arguments)
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (
        code,
        True,
        False,
    ), done.stderr


def test_job_whose_message_is_lost_is_found_and_sent_again(stack: Stack) -> None:
    """The message vanishes from the queue, as if it had been kept for too long.

    For this, the test writes the job so that the relay does not announce it.
    """
    client, table = stack.client("dynamodb"), stack.facts["resources"]["JobsTable"]
    job_id = stack.submit("counter.add", {"name": "stranded"}, delay_seconds=4000)["id"]
    (item,) = [each for each in stack.items("JobsTable") if each.get("id") == {"S": job_id}]
    for name in ("due", "attention", "attention_at"):
        item.pop(name)
    item |= {"status": {"S": "RETRY"}, "created_at": {"N": "1"}, "not_before": {"N": "1"}}
    client.put_item(TableName=table, Item=item)
    found = jobs_command(stack, "resend", "--stranded", "--older-than", "60")
    assert [(job["id"], job["status"]) for job in found] == [(job_id, "queued")]
    assert stack.job(job_id, wait=20)["status"] == "succeeded"


@pytest.mark.parametrize(
    ("headers", "status", "body"),
    [
        ({}, 401, {"message": "Unauthorized"}),
        ({"Authorization": "Bearer mf_dev_nonsense"}, 401, "unauthenticated"),
    ],
)
def test_request_without_a_key_is_refused(
    stack: Stack, headers: dict[str, str], status: int, body: Any
) -> None:
    reply = stack.get("/jobs/x", headers=headers)
    assert reply.status_code == status
    assert reply.json() == body if isinstance(body, dict) else reply.json()["code"] == body
    assert reply.headers["apigw-requestid"]


def test_key_made_by_the_command_is_authorized_for_its_scopes(stack: Stack) -> None:
    made = subprocess.run(
        [str(MAYFLY), "keys", "create", "--tenant", "acme", "--scope", "jobs:read", "--json",
        "--stack", stack.facts["name"], "--endpoint-url", stack.facts["endpoint"]],
        capture_output=True, text=True, check=True, env={**unbuffered(),
        **stack.credentials.variables},
    )  # fmt: skip
    headers = {"Authorization": f"Bearer {json.loads(made.stdout)['key']}"}
    mine = stack.submit("counter.add", {"name": "x"})["id"]
    assert stack.get(f"/jobs/{mine}", headers=stack.headers).status_code == 200
    assert stack.get(f"/jobs/{mine}", headers=headers).status_code == 404
    assert (
        requests.post(
            f"{stack.url}/jobs", json={"task": "counter.add"}, headers=headers, timeout=60
        ).status_code
        == 403
    )


def test_unknown_path_is_404_and_wrong_method_is_405(stack: Stack) -> None:
    assert stack.get("/nothing/here").json()["code"] == "not-found"
    wrong = requests.delete(f"{stack.url}/jobs", timeout=60)
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "GET, POST")


@pytest.mark.parametrize("path", ["/", "/health", "/openapi.json"])
def test_head_of_a_public_page_has_the_headers_of_get_and_no_body(stack: Stack, path: str) -> None:
    connection = http.client.HTTPConnection(stack.url.removeprefix("http://"), timeout=60)
    connection.request("HEAD", path)
    head = connection.getresponse()
    assert (head.status, head.read()) == (200, b"")
    connection.request("GET", path)  # on the same connection, which shows that no body was sent
    got = connection.getresponse()
    assert (got.status, head.headers["Content-Type"]) == (200, got.headers["Content-Type"])
    assert int(head.headers["Content-Length"]) > 0
    connection.close()


def test_key_is_in_no_table_and_no_log(stack: Stack) -> None:
    secret = stack.key.rsplit("_", 1)[1]
    stack.get("/jobs/x", headers=stack.headers)
    stored = json.dumps(
        [stack.items(table) for table in ("TenantsTable", "JobsTable", "CountersTable")]
    )
    logged = "".join(path.read_text() for path in (stack.work / "logs").iterdir())
    assert secret not in stored + logged


def test_invoke_runs_a_function_against_the_running_stack(stack: Stack) -> None:
    before = stack.counter("hits")
    command = [
        str(MAYFLY),
        "invoke",
        "hello",
        "--event",
        str(ROOT / "events" / "hello.json"),
        "--work",
        str(stack.work),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["body"] == f"Hello World! {before + 1} times."


@pytest.mark.parametrize(
    "function", sorted(path.parent.name for path in (ROOT / "functions").glob("*/main.py"))
)
def test_every_sample_event_is_accepted_by_its_function(stack: Stack, function: str) -> None:
    done = subprocess.run(
        [MAYFLY, "invoke", function, "--work", stack.work],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    reply = json.loads(done.stdout)
    expected = {
        "await_job": 404,
        "hello": 200,
        "jobs": 202,
        "schedules": 201,
        "sessions": 201,
        "counters": 200,
    }
    assert reply.get("statusCode") == expected.get(function)
    assert not reply.get("batchItemFailures")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["invoke", "hello", "--event", "gone.json"], "there is no event file gone.json"),
        (
            ["invoke", "nothing"],
            "there is no function 'nothing'; the stack has: Authorizer, AwaitJob, BuryJobs, "
            "Counters, DeliverWebhooks",
        ),
        (["invoke", "hello", "--event", "README.md"], "README.md is not valid JSON"),
        (["invoke", "hello", "--work", "/nowhere"], "no local stack is running here"),
    ],
)
def test_invalid_call_of_invoke_names_the_problem(
    stack: Stack, arguments: list[str], said: str
) -> None:
    work = [] if "--work" in arguments else ["--work", str(stack.work)]
    done = subprocess.run(
        [MAYFLY, *arguments, *work], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (1, True, False), (
        done.stderr
    )


def test_taken_port_is_named_with_its_process(stack: Stack, tmp_path: Path) -> None:
    done = subprocess.run(
        [
            MAYFLY,
            "up",
            "--template",
            ROOT / "template.yaml",
            "--port",
            str(stack.port),
            "--work",
            tmp_path,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"port {stack.port} is taken by process {stack.process.pid}" in done.stderr
    suggested = int(done.stderr.rsplit("PORT=", 1)[1])
    assert free_port(suggested) == suggested


def test_jobs_from_the_queue_are_read_only_by_the_queues_tenant(stack: Stack) -> None:
    stack.client("sqs").send_message(
        QueueUrl=stack.facts["outputs"]["JobsQueueUrl"],
        MessageBody=json.dumps(
            {"task": "counter.add", "payload": {"name": "q"}, "idempotency_key": "one"}
        ),
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


# ---------------------------------------------------------------- long and scheduled jobs


def started(stack: Stack, job_id: str) -> float:
    """Returns when a job's last attempt started, in seconds since the epoch."""
    return datetime.fromisoformat(stack.job(job_id)["attempts"][-1]["started_at"]).timestamp()


def test_long_job_that_is_killed_runs_again_within_its_lease(stack: Stack) -> None:
    job_id = stack.submit("sleep", {"seconds": 12})["id"]
    wait_until(lambda: stack.job(job_id)["status"] == "running", 20)
    # Past the first renewal of its lease.
    wait_until(lambda: stack.job(job_id, wait=7)["status"] == "running", 10)
    stack.kill_environments("RunJobs")
    killed = system_clock() / 1000
    wait_until(lambda: stack.job(job_id)["status"] == "interrupted", 30)
    wait_until(lambda: stack.job(job_id)["status"] == "running", 60)
    assert started(stack, job_id) - killed <= 17 + stack.slowness()
    done = wait_until(
        lambda: (job := stack.job(job_id, wait=20))["status"] == "succeeded" and job, 60
    )
    assert [attempt["outcome"] for attempt in done["attempts"]] == ["interrupted", "succeeded"]


def test_scheduled_job_starts_at_its_time(stack: Stack) -> None:
    # The queue delays by the real clock.
    asked = datetime.now(UTC) + timedelta(seconds=4)  # noqa: TID251
    job = stack.submit("counter.add", {"name": "later"}, run_at=asked.isoformat())
    assert job["status"] == "scheduled"
    wait_until(lambda: stack.job(job["id"], wait=20)["status"] == "succeeded", 30)
    assert 0 <= started(stack, job["id"]) - asked.timestamp() < 2 + stack.slowness()


def test_job_beyond_the_queues_delay_is_announced_by_the_sweep(stack: Stack) -> None:
    job_id = stack.submit("counter.add", {"name": "far"}, delay_seconds=1000)["id"]
    assert [
        item["id"]
        for item in stack.get("/jobs?status=scheduled", headers=stack.headers).json()["items"]
    ] == [job_id]
    client, table = stack.client("dynamodb"), stack.facts["resources"]["JobsTable"]
    # Simulates that all but 6 s of the delay have passed.
    soon = str(int((datetime.now(UTC).timestamp() + 6) * 1000))  # noqa: TID251
    client.update_item(
        TableName=table, Key={"pk": {"S": f"default/{job_id}"}, "sk": {"S": "job"}},
        UpdateExpression="SET not_before = :soon, attention_at = :soon",
        ExpressionAttributeValues={":soon": {"N": soon}},
    )  # fmt: skip
    subprocess.run(
        [MAYFLY, "invoke", "sweep_jobs", "--work", stack.work],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    wait_until(lambda: stack.job(job_id, wait=20)["status"] == "succeeded", 30)
    assert 0 <= started(stack, job_id) - int(soon) / 1000 < 2 + stack.slowness()


def test_running_job_that_is_cancelled_stops_and_applies_nothing(stack: Stack) -> None:
    job_id = stack.submit("sleep", {"seconds": 60})["id"]
    wait_until(lambda: stack.job(job_id)["status"] == "running", 20)
    reply = requests.post(f"{stack.url}/jobs/{job_id}/cancel", headers=stack.headers, timeout=60)
    assert (reply.status_code, reply.json()["status"]) == (200, "cancelled")
    # The worker notices the cancellation at its next heartbeat, and its invocation ends long before
    # the minute.
    wait_until(
        lambda: [
            each for each in stack.log("RunJobs") if "another worker has the job" in str(each)
        ],
        15,
    )


def test_dead_job_is_listed_and_runs_again_when_it_is_redriven(stack: Stack) -> None:
    job_id = stack.submit("fail", {"times": 1}, max_attempts=1)["id"]
    wait_until(lambda: stack.job(job_id, wait=20)["status"] == "dead", 30)
    assert job_id in [
        item["id"]
        for item in stack.get("/jobs?status=dead&task=fail", headers=stack.headers).json()["items"]
    ]
    assert (
        requests.post(
            f"{stack.url}/jobs/{job_id}/redrive", headers=stack.headers, timeout=60
        ).status_code
        == 202
    )
    wait_until(lambda: stack.job(job_id, wait=20)["attempts"][-1]["number"] == 2, 30)


def test_long_poll_is_answered_early_when_its_process_stops_and_can_be_repeated(
    stack: Stack,
) -> None:
    job_id = stack.submit("sleep", {"seconds": 4})["id"]
    wait_until(lambda: stack.job(job_id)["status"] == "running", 20)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(stack.job, job_id, 20)
        wait_until(
            lambda: (
                [each for each in stack.log("AwaitJob") if each["type"] == "start"][-1][
                    "request_id"
                ]
                not in str([each for each in stack.log("AwaitJob") if each["type"] == "end"])
            ),
            10,
        )
        stack.kill_environments("AwaitJob", number=signal.SIGTERM)
        assert waiting.result(3)["status"] == "running"

    def has_ended() -> bool:
        # The runtime froze it after its answer, since it did not ask it to stop.
        stack.kill_environments("AwaitJob", number=signal.SIGCONT)
        return not stack.environments("AwaitJob")

    wait_until(has_ended, 5, what="the end of the process that was asked to stop")
    assert stack.job(job_id, 20)["status"] == "succeeded"


def test_log_of_a_request_can_be_found_by_its_id(stack: Stack) -> None:
    request_id = stack.get("/jobs/unknown", headers=stack.headers).headers["apigw-requestid"]
    (entry,) = [each for each in stack.log("mayfly") if each.get("request_id") == request_id]
    assert (entry["path"], entry["status"]) == ("/jobs/unknown", 404)


def test_recovery_after_a_kill_takes_no_longer_than_a_cold_start(stack: Stack) -> None:
    stack.get("/")
    stack.kill_environments("Hello")
    wait_until(lambda: not stack.environments("Hello"), 5)
    started = time.monotonic()
    assert stack.get("/").status_code == 200
    assert time.monotonic() - started < 5
