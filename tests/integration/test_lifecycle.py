"""Start and stop: no process is left behind, and no data is lost."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from mayfly_local.emulator.process import free_port
from mayfly_testing.stack import MAYFLY, ROOT, Stack, running, wait_until

MISBEHAVING = ROOT / "tests" / "apps" / "misbehaving" / "template.yaml"


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [
        each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE
    ]


def test_kill_9_of_the_supervisor_leaves_no_process_and_the_next_start_works(
    tmp_path: Path,
) -> None:
    with running(tmp_path / "first", template=MISBEHAVING) as stack:
        grandchild = int(stack.get("/spawn").text)
        threading.Thread(target=ask_in_vain, args=[stack]).start()
        wait_until(lambda: stack.environments("Slow"), 10)
        tree = [*stack.tree(), psutil.Process(grandchild)]
        # Supervisor, guard, emulator, two environments, and a process that one of them started.
        assert len(tree) >= 5
        os.kill(stack.process.pid, signal.SIGKILL)
        stack.process.wait()
        started = time.monotonic()
        wait_until(lambda: not alive(tree), 10)
        assert time.monotonic() - started < 2
    with running(tmp_path / "second", template=MISBEHAVING) as stack:
        assert stack.get("/fine").status_code == 200


def test_sigterm_finishes_the_request_in_flight_and_exits_0(tmp_path: Path) -> None:
    with running(tmp_path, template=MISBEHAVING) as stack:
        replies: list[requests.Response] = []
        thread = threading.Thread(target=lambda: replies.append(stack.get("/slow?seconds=3")))
        thread.start()
        wait_until(lambda: [each for each in stack.log("Slow") if each["type"] == "start"], 10)
        tree = stack.tree()
        stack.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in stack.output, 5)
        with pytest.raises(requests.ConnectionError):
            stack.get("/fine")
        thread.join()
        assert [reply.status_code for reply in replies] == [200]
        assert stack.process.wait(10) == 0
        assert alive(tree) == []
        assert "stopped" in stack.output
        assert not (stack.work / "stack.json").exists()


def test_stop_takes_no_further_request_on_a_connection_that_was_kept_alive(
    tmp_path: Path,
) -> None:
    with running(tmp_path, template=MISBEHAVING) as stack:
        stack.get("/fine")
        late: list[int] = []

        def client() -> None:
            with suppress(requests.ConnectionError), requests.Session() as session:
                while True:
                    asked = time.monotonic()
                    reply = session.get(f"{stack.url}/fine", timeout=60)
                    assert reply.status_code == 200
                    if stopped and asked > stopped[0] + 0.5:
                        late.append(reply.status_code)

        stopped: list[float] = []
        clients = [threading.Thread(target=client) for _ in range(4)]
        for each in clients:
            each.start()
        wait_until(
            lambda: len([each for each in stack.log("Misbehaving") if each["type"] == "end"]) > 50,
            20,
        )
        stack.process.send_signal(signal.SIGTERM)
        stopped.append(time.monotonic())
        assert stack.process.wait(20) == 0
        for each in clients:
            each.join(20)
        assert late == []
        assert "Traceback" not in stack.output


def test_clean_stop_with_kept_state_strands_no_acknowledged_job(tmp_path: Path) -> None:
    options = ["--state", str(tmp_path / "state")]
    answered: list[str] = []

    def client(stack: Stack) -> None:
        with suppress(requests.ConnectionError, AssertionError):
            while True:
                answered.append(stack.submit("counter.add", {"name": "kept"})["id"])

    with running(tmp_path / "run", *options) as stack:
        clients = [threading.Thread(target=client, args=[stack]) for _ in range(3)]
        for each in clients:
            each.start()
        wait_until(lambda: len(answered) > 60, 30)
        assert stack.stop() == 0
        for each in clients:
            each.join(20)
    with running(tmp_path / "run", *options) as stack:
        for job_id in answered:
            assert stack.job(job_id, wait=20)["status"] == "succeeded"
        assert stack.counter("kept") == len(answered)


def test_second_stack_does_not_affect_the_first(tmp_path: Path) -> None:
    app = worker_app(tmp_path / "app", seconds=0).parent
    command = [str(MAYFLY), "up", "--template", str(app / "template.yaml")]
    with running(tmp_path / "first", template=app / "template.yaml") as stack:
        taken = subprocess.run(
            [*command, "--port", str(stack.port), "--work", str(stack.work)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (taken.returncode, "is taken by process" in taken.stderr) == (1, True)
        shared = subprocess.run(
            [*command, "--port", str(free_port()), "--work", str(stack.work)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert (
            shared.returncode,
            f"a stack runs here already, at {stack.url}" in shared.stderr,
        ) == (1, True)
        assert stack.facts["pid"] == stack.process.pid
        assert stack.log("mayfly")


def test_schedule_without_further_times_does_not_end_the_stack(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "app.py").write_text("def handler(event, context):\n    return 'ok'\n")
    template = tmp_path / "template.yaml"
    template.write_text(
        "Transform: AWS::Serverless-2016-10-31\nResources:\n  F:\n    Type: "
        "AWS::Serverless::Function\n    Properties:\n"
        "      CodeUri: code\n      Handler: app.handler\n      Runtime: python3.13\n      "
        "Events:\n"
        "        Past: {Type: ScheduleV2, Properties: {ScheduleExpression: "
        "at(2020-01-01T00:00:00)}}\n"
        "        Page: {Type: HttpApi, Properties: {Path: /, Method: GET}}\n"
    )
    with running(tmp_path / "run", template=template) as stack:
        assert stack.get("/").text == "ok"
        assert stack.stop() == 0


def test_mapping_runs_no_more_batches_at_once_than_its_maximum_concurrency(
    tmp_path: Path,
) -> None:
    template = worker_app(tmp_path / "app", seconds=1)
    source = "{Queue: !GetAtt Q.Arn, BatchSize: 1, ScalingConfig: {MaximumConcurrency: 2}}"
    template.write_text(template.read_text().replace("{Queue: !GetAtt Q.Arn}", source))
    with running(tmp_path / "run", template=template) as stack:
        entries = [{"Id": str(number), "MessageBody": "m"} for number in range(8)]
        stack.client("sqs").send_message_batch(
            QueueUrl=stack.facts["resources"]["Q"], Entries=entries
        )
        wait_until(lambda: [each["type"] for each in stack.log("F")].count("end") == 8, 30)
        running_now, most = 0, 0
        for each in stack.log("F"):
            running_now += {"start": 1, "end": -1}.get(each["type"], 0)
            most = max(most, running_now)
        assert most == 2


@pytest.mark.parametrize("how", ["a second signal", "the end of the grace"])
def test_stop_that_takes_too_long_kills_the_processes(tmp_path: Path, how: str) -> None:
    grace = "1" if how == "the end of the grace" else "60"
    with running(tmp_path, "--grace", grace, template=MISBEHAVING) as stack:
        threading.Thread(target=ask_in_vain, args=[stack]).start()
        wait_until(lambda: [each for each in stack.log("Slow") if each["type"] == "start"], 10)
        tree = stack.tree()
        stack.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in stack.output, 5)
        if how == "a second signal":
            stack.process.send_signal(signal.SIGTERM)
        started = time.monotonic()
        assert stack.process.wait(10) == 1
        assert time.monotonic() - started < 6
        assert alive(tree) == []


def ask_in_vain(stack: Stack) -> None:
    with suppress(requests.ConnectionError):
        stack.get("/slow?seconds=50")


def wait_for_count(stack: Stack, name: str, count: int) -> None:
    wait_until(lambda: stack.counter(name) == count, 20)


def worker_app(folder: Path, seconds: int) -> Path:
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "app.py").write_text(
        "import time\ndef handler(event, context):\n    print('got it', flush=True)\n    "
        f"time.sleep({seconds})\n"
    )
    template = folder / "template.yaml"
    template.write_text(
        "Transform: AWS::Serverless-2016-10-31\nResources:\n  Q: {Type: AWS::SQS::Queue, "
        "Properties: {VisibilityTimeout: 300}}\n"
        "  F:\n    Type: AWS::Serverless::Function\n    Properties:\n      CodeUri: code\n     "
        " Handler: app.handler\n"
        "      Runtime: python3.13\n      Timeout: 60\n      Events: {M: {Type: SQS, "
        "Properties: {Queue: !GetAtt Q.Arn}}}\n"
    )
    return template


def test_unfinished_message_is_visible_again_immediately_and_kept_for_the_next_start(
    tmp_path: Path,
) -> None:
    template, state = worker_app(tmp_path / "app", seconds=50), str(tmp_path / "state")
    with running(tmp_path / "first", "--grace", "1", "--state", state, template=template) as stack:
        stack.client("sqs").send_message(QueueUrl=stack.facts["resources"]["Q"], MessageBody="m")
        wait_until(lambda: [each for each in stack.log("F") if each.get("text") == "got it"], 20)
        assert stack.stop() == 1
        assert "1 unfinished messages are back on their queues" in stack.output
    with running(tmp_path / "second", "--grace", "1", "--state", state, template=template) as stack:
        # Long before its visibility timeout of five minutes.
        wait_until(lambda: [each for each in stack.log("F") if each.get("text") == "got it"], 20)


def test_state_is_kept_across_clean_restarts_if_requested(tmp_path: Path) -> None:
    options = ["--state", str(tmp_path / "state")]
    keys = []
    for expected in (1, 2):
        with running(tmp_path / "run", *options) as stack:
            assert stack.get("/").text == f"Hello World! {expected} times."
            keys.append(stack.key)
            stack.submit("counter.add", {"name": "kept"})
            wait_for_count(stack, "kept", expected)
            assert stack.stop() == 0
    assert keys[0] == keys[1]


def test_development_key_is_the_same_at_every_start_and_only_its_owner_can_read_it(
    tmp_path: Path,
) -> None:
    keys = []
    for _ in range(2):
        with running(tmp_path) as stack:
            assert stack.get("/jobs/x", headers=stack.headers).json()["code"] == "job-not-found"
            keys.append(stack.key)
            assert (stack.work / "development-key").stat().st_mode & 0o077 == 0
            assert (stack.work / "stack.json").stat().st_mode & 0o077 == 0
    assert keys[0] == keys[1]


def test_json_logs_are_json_to_the_last_line(tmp_path: Path) -> None:
    said: list[dict[str, Any]] = []
    command = [
        str(MAYFLY),
        "up",
        "--template",
        str(MISBEHAVING),
        "--port",
        str(free_port()),
        "--work",
        str(tmp_path / "work"),
        "--log",
        "json",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(json.loads(line))
            if "stop with Ctrl-C" in str(said[-1]):
                process.terminate()
    assert process.returncode == 0
    assert said[-1]["text"] == "stopped"


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["up", "--template", "gone.yaml"], 1, "it cannot be read: No such file or directory"),
        (["up", "--port", "zero"], 2, "'zero' is not a port from 1 to 65535"),
        (["up", "--grace", "-1"], 2, "'-1' is not a number of seconds"),
        (["up", "--parameter", "x"], 2, "'x' is not NAME=VALUE"),
        (
            ["up", "--parameter", "Nope=1", "--template", str(ROOT / "template.yaml")],
            1,
            "there is no parameter Nope",
        ),
        (["unknown"], 2, "No such command 'unknown'"),
        ([], 2, "Usage: mayfly [OPTIONS] COMMAND"),
        (["keys", "create"], 1, "no local stack is running here"),
        (
            ["keys", "create", "--endpoint-url", "http://127.0.0.1:1"],
            2,
            "--endpoint-url needs --stack",
        ),
        (
            ["keys", "create", "--endpoint-url", "http://127.0.0.1:1", "--stack", "x"],
            1,
            "cannot be used",
        ),
        (
            ["up", "--template", str(ROOT / "template.yaml"), "--parameter", "LogLevel=SILLY"],
            1,
            "LogLevel is 'SILLY'; it may be DEBUG, INFO",
        ),
        (
            ["up", "--template", str(ROOT / "template.yaml"), "--parameter", "WorkerConcurrency=1"],
            1,
            "WorkerConcurrency is 1; it must be at least 2",
        ),
        (
            [
                "up",
                "--template",
                str(ROOT / "template.yaml"),
                "--endpoint-url",
                "http://127.0.0.1:1",
            ],
            1,
            "the endpoint http://127.0.0.1:1 cannot be used",
        ),
        (
            ["up", "--template", str(ROOT / "template.yaml"), "--endpoint-url", "nonsense"],
            1,
            "the endpoint nonsense cannot be used",
        ),
        (
            ["up", "--template", str(ROOT / "template.yaml"), "--work", "/proc/x"],
            1,
            "the folder /proc/x cannot be written to",
        ),
    ],
)
def test_invalid_call_names_the_problem_without_a_stack_trace(
    tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    done = subprocess.run(
        [MAYFLY, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, said in done.stderr, "Traceback" in done.stderr) == (
        code,
        True,
        False,
    ), done.stderr


def with_after_deploy(folder: Path, command: str) -> Path:
    """Returns a small template whose AfterDeploy runs `command`."""
    template = worker_app(folder, seconds=0)
    metadata = {"Mayfly": {"AfterDeploy": [command]}}
    template.write_text(f"Metadata: {json.dumps(metadata)}\n{template.read_text()}")
    return template


def test_failed_command_after_the_deployment_ends_the_start_with_its_output(tmp_path: Path) -> None:
    template = with_after_deploy(tmp_path / "app", "echo no seeds today; exit 3")
    done = subprocess.run(
        [
            MAYFLY,
            "up",
            "--template",
            template,
            "--port",
            str(free_port(0)),
            "--work",
            tmp_path / "w",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert "AfterDeploy command failed: echo no seeds today; exit 3" in done.stderr
    assert "no seeds today\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_commands_after_the_deployment_run_with_the_interpreter_of_the_command_line(
    tmp_path: Path,
) -> None:
    command = "python -c 'import sys, mayfly_cli; print(sys.prefix)'"
    with running(tmp_path, template=with_after_deploy(tmp_path / "app", command)) as stack:
        assert f"  {sys.prefix}\n" in stack.output


def test_death_of_the_emulator_ends_the_stack_with_the_reason(tmp_path: Path) -> None:
    with running(tmp_path, template=ROOT / "tests" / "apps" / "orders" / "template.yaml") as stack:
        (store,) = [
            each
            for each in stack.tree()
            if "mayfly_local.emulator.main" in " ".join(each.cmdline())
        ]
        store.kill()
        assert stack.process.wait(20) == 1
        assert "the emulator ended" in stack.output


def test_api_times_out_after_thirty_seconds_and_the_function_continues(tmp_path: Path) -> None:
    with running(tmp_path, template=MISBEHAVING) as stack:
        started = time.monotonic()
        reply = stack.get("/slow?seconds=31")
        assert (reply.status_code, reply.json()) == (503, {"message": "Service Unavailable"})
        assert 29.5 < time.monotonic() - started < 31
        wait_until(lambda: [each for each in stack.log("Slow") if each["type"] == "end"], 5)


def test_start_that_takes_long_says_what_it_does(tmp_path: Path) -> None:
    slow = with_after_deploy(tmp_path / "app", "sleep 3")
    with running(tmp_path / "run", template=slow) as stack:
        lines = stack.output.splitlines()
        assert lines.index("running the commands of AfterDeploy ...") < next(
            place for place, line in enumerate(lines) if "is up after" in line
        )
