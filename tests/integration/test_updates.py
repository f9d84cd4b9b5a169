"""A stack of an earlier release is updated to this one, and back, without losing anything.

The release's own code runs on its own template and makes the state, in real processes. Then this
checkout's code and template start on that state. Time passes by moving due times in the tables.
"""

import json
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from mayfly_testing.stack import MAYFLY, ROOT, Stack, await_start, launch, unused_port, wait_until

RELEASES = sorted(path.parent.name for path in (ROOT / "tests/releases").glob("*/code.tar.xz"))
THIS = "this checkout"
#: Seconds after which a message of a killed worker comes back, in place of 90.
SOON = 10
#: Checks of `mayfly doctor` that have something to say about each earlier release.
TO_DO = {
    (check, place)
    for check in ("release", "missing part", "variables", "dead letters")
    for place in ("template", "stack")
} | {("mapping", "template")}
IGNORED = shutil.ignore_patterns("__pycache__")
WORKERS = ("RunJobs", "DeliverWebhooks", "RelayJobs", "SweepJobs", "BuryJobs", "StartImports")
APIS = ("Authorizer", "Hello", "Counters", "Sessions", "Jobs", "Schedules", "AwaitJob")


class Application:
    """A folder with the code of one version, and the state that outlives a change of the code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.code = folder / "shop"
        self.port = unused_port()

    def install(self, version: str) -> None:
        """Replaces code and template by those of a version."""
        shutil.rmtree(self.code, ignore_errors=True)
        self.code.mkdir(parents=True)
        if version == THIS:
            for name in ("functions", "layers"):
                shutil.copytree(ROOT / name, self.code / name, ignore=IGNORED)
            shutil.copy(ROOT / "template.yaml", self.code)
        else:
            with tarfile.open(ROOT / "tests/releases" / version / "code.tar.xz") as archive:
                archive.extractall(self.code, filter="data")
        template = self.code / "template.yaml"
        text = template.read_text().replace("Timeout: 90\n", f"Timeout: {SOON}\n")
        # The module of 0.1.0 that made the development key is a command now.
        template.write_text(text.replace("python -m mayfly.operate", "mayfly"))

    def install_beside(self, version: str, functions: Sequence[str]) -> None:
        """Installs this checkout's template, in which some functions have an earlier release.

        Each folder of code has its own library, as on AWS, and the packages of this checkout.
        """
        self.install(version)
        for name, root in (("old", self.code), ("new", ROOT)):
            folder = self.code / name
            shutil.copytree(root / "functions", folder, ignore=IGNORED)
            shutil.copytree(root / "layers/mayfly/mayfly", folder / "mayfly", ignore=IGNORED)
            shutil.copy(ROOT / "layers/mayfly/requirements.txt", folder)
        text = (ROOT / "template.yaml").read_text().replace("Timeout: 90\n", f"Timeout: {SOON}\n")
        text = text.replace("      - layers/mayfly\n", "      []\n")
        text = text.replace("    Metadata:\n      BuildMethod: makefile\n", "")
        text = text.replace("      CodeUri: functions\n", "      CodeUri: new\n")
        for function in functions:
            text, count = re.subn(
                rf"(?ms)^(  {function}:\n.*?CodeUri: )new\n", r"\1old\n", text, count=1
            )
            assert count == 1
        (self.code / "template.yaml").write_text(text)

    @contextmanager
    def running(self) -> Iterator[Stack]:
        """Yields its stack on the state; kills what still runs at the end."""
        stack = launch(
            [str(MAYFLY)], self.folder, "--state", str(self.folder / "state"), "--no-reload",
            "--parameter", "LeaseSeconds=2",
            template=self.code / "template.yaml", port=self.port,
        )  # fmt: skip
        try:
            await_start(stack)
            yield stack
        finally:
            kill(stack)


def kill(stack: Stack) -> None:
    """Kills all processes of a stack, as the end of a machine does."""
    if stack.process.poll() is None:
        for process in reversed(stack.tree()):
            process.kill()
        stack.process.wait(30)


@dataclass
class Promises:
    """Requests that a release has acknowledged, with their values."""

    #: Tokens of sessions, with their data.
    sessions: dict[str, Any] = field(default_factory=dict)
    ended: list[str] = field(default_factory=list)
    #: Ids of jobs by what was to become of them.
    jobs: dict[str, list[str]] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)
    keyed: dict[str, Any] = field(default_factory=dict)
    key: str = ""


def session(stack: Stack, token: str, **request: Any) -> requests.Response:
    headers = {**stack.headers, "Session-Token": token}
    return stack.http("GET", "/sessions/current", headers=headers, **request)


def counter(stack: Stack, name: str) -> int:
    reply = stack.http("GET", f"/counters/{name}")
    assert reply.status_code == 200, reply.text
    return int(reply.json()["value"])


def promise(stack: Stack) -> Promises:
    """Lets a release make sessions, counters, schedules, and jobs that end before the update."""
    promises = Promises(key=stack.key)
    for number in range(5):
        body = {"data": {"cart": [number]}, **({"subject": "ada"} if number % 2 else {})}
        reply = stack.http("POST", "/sessions", json=body)
        assert reply.status_code == 201, reply.text
        promises.sessions[reply.json()["token"]] = {"cart": [number]}
    token = stack.http("POST", "/sessions", json={}).json()["token"]
    headers = {**stack.headers, "Session-Token": token}
    assert stack.http("DELETE", "/sessions/current", headers=headers).status_code == 204
    promises.ended.append(token)
    for name, by, shards in (("plain", 7, 0), ("sharded", 11, 3)):
        if shards:
            assert stack.http("PUT", f"/counters/{name}", json={"shards": shards}).status_code < 300
        for _ in range(3):
            stack.http("POST", f"/counters/{name}/increment", json={"by": by})
        promises.counters[name] = counter(stack, name)
        assert promises.counters[name] == 3 * by
    schedule = {"every_seconds": 3600, "task": "counter.add", "payload": {"name": "ticks"}}
    for name in ("hourly", "paused"):
        assert stack.http("PUT", f"/schedules/{name}", json=schedule).status_code == 201
    assert stack.http("POST", "/schedules/paused/pause").status_code == 200
    done = stack.submit("counter.add", {"name": "done"})["id"]
    assert stack.wait(done)["status"] == "succeeded"
    dead = stack.submit("fail", {"times": 9, "permanent": True})["id"]
    assert stack.wait(dead)["status"] == "dead"
    key = {**stack.headers, "Idempotency-Key": "order-1"}
    body = {"task": "counter.add", "payload": {"name": "keyed"}}
    promises.keyed = stack.http("POST", "/jobs", json=body, headers=key).json()
    stack.wait(promises.keyed)
    promises.jobs = {"succeeded": [done], "dead": [dead]}
    return promises


def leave_work(stack: Stack, promises: Promises) -> None:
    """Lets a release accept jobs that have not ended when it is killed."""
    due = [stack.submit("counter.add", {"name": "late"}, delay_seconds=3600) for _ in range(3)]
    soon = stack.submit("counter.add", {"name": "late"}, delay_seconds=20)
    retried = stack.submit("fail", {"times": 3})
    wait_until(lambda: stack.job(retried["id"])["attempts"], 30, what="an attempt")
    running = [stack.submit("sleep", {"seconds": 4}) for _ in range(3)]
    wait_until(
        lambda: any(stack.job(job["id"])["status"] == "running" for job in running),
        30,
        what="a running job",
    )
    queued = [stack.submit("counter.add", {"name": "late"}) for _ in range(20)]
    promises.jobs["due"] = [job["id"] for job in due]
    promises.jobs["left"] = [job["id"] for job in (soon, retried, *running, *queued)]
    promises.counters["late"] = len([*due, soon, *queued])


def pass_time(stack: Stack, seconds: int) -> None:
    """Moves all due times of the jobs table to `seconds` before; then a sweep does its work."""
    table = stack.facts["resources"]["JobsTable"]
    client = stack.client("dynamodb")
    for item in stack.items("JobsTable"):
        if "due" not in item:
            continue
        names = [name for name in ("attention_at", "not_before") if name in item]
        client.update_item(
            TableName=table,
            Key={name: item[name] for name in ("pk", "sk")},
            UpdateExpression="SET " + ", ".join(f"{name} = {name} - :ms" for name in names),
            ExpressionAttributeValues={":ms": {"N": str(seconds * 1000)}},
        )
    invoke(stack, "SweepJobs")


def invoke(stack: Stack, function: str) -> None:
    command = [str(MAYFLY), "invoke", function, "--work", str(stack.work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def doctor(application: Application, stack: Stack) -> tuple[int, list[dict[str, str]]]:
    """Runs `mayfly doctor` on the project and its stack; returns its exit code and findings."""
    template = ["--template", str(application.code / "template.yaml")]
    command = [str(MAYFLY), "doctor", "--json", *template, "--work", str(stack.work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, [json.loads(line) for line in done.stdout.splitlines()]


def problems(findings: Sequence[dict[str, str]]) -> set[tuple[str, str]]:
    """Returns the checks that found a problem, with the place that has it."""
    return {
        (each["check"], "stack" if each["thing"].startswith("stack ") else "template")
        for each in findings
        if each["weight"] == "problem"
    }


def check(stack: Stack, promises: Promises) -> None:
    """Checks what needs no waiting: sessions, counters, keys, and jobs that have ended."""
    for token, data in promises.sessions.items():
        reply = session(stack, token)
        assert (reply.status_code, reply.json().get("data")) == (200, data)
    for token in promises.ended:
        assert session(stack, token).status_code == 404
    for name in ("plain", "sharded"):
        assert counter(stack, name) == promises.counters[name]
    old_key = {"Authorization": f"Bearer {promises.key}"}
    assert stack.http("GET", "/counters/plain", headers=old_key).status_code == 200
    for status in ("succeeded", "dead"):
        assert [stack.job(job_id)["status"] for job_id in promises.jobs[status]] == [
            status for _ in promises.jobs[status]
        ]
    body = {"task": "counter.add", "payload": {"name": "keyed"}}
    again = stack.http(
        "POST", "/jobs", json=body, headers={**stack.headers, "Idempotency-Key": "order-1"}
    )
    assert again.json()["id"] == promises.keyed["id"]
    assert counter(stack, "keyed") == 1


def finish(stack: Stack, promises: Promises) -> None:
    """Lets an hour pass, and checks that every job ends, each with its effects once."""
    pass_time(stack, 3600)
    for job_id in [*promises.jobs["left"], *promises.jobs["due"]]:
        job = stack.wait(job_id, 120)
        assert (job["status"], job["error"]) == ("succeeded", None), job
    assert counter(stack, "late") == promises.counters["late"]


def ticks(stack: Stack) -> int:
    """Returns the ticks of the hourly schedule that have run; each has one job."""
    jobs = [
        stack.job(item["id"]["S"])
        for item in stack.items("JobsTable")
        if item["sk"]["S"] == "job" and "tick" in item
    ]
    ended = [stack.wait(job) for job in jobs]
    assert {job["status"] for job in ended} == {"succeeded"}
    assert {job["schedule"]["name"] for job in ended} == {"hourly"}
    moments = [job["schedule"]["tick"] for job in ended]
    assert len(moments) == len(set(moments))
    assert counter(stack, "ticks") == len(ended)
    return len(ended)


# The functions of 0.1.0 have other handlers, so its code does not fit into this template.
@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", [version for version in RELEASES if version != "0.1.0"])
@pytest.mark.parametrize("functions", [WORKERS, APIS], ids=["old workers", "old APIs"])
def test_functions_of_two_releases_work_side_by_side(
    tmp_path: Path, version: str, functions: Sequence[str]
) -> None:
    application = Application(tmp_path)
    application.install_beside(version, functions)
    with application.running() as stack:
        folders = {name: Path(one["folder"]).name for name, one in stack.facts["launches"].items()}
        assert {name for name, folder in folders.items() if folder == "old"} == set(functions)
        promises = promise(stack)
        leave_work(stack, promises)
        check(stack, promises)
        finish(stack, promises)
        assert ticks(stack) == 1


@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", RELEASES)
def test_stack_of_a_release_is_updated_without_losing_a_job_or_a_session(
    tmp_path: Path, version: str
) -> None:
    application = Application(tmp_path)
    application.install(version)
    with application.running() as stack:
        promises = promise(stack)
        leave_work(stack, promises)
        code, findings = doctor(application, stack)
        assert (code, problems(findings)) == (1, TO_DO)
        kill(stack)
    application.install(THIS)
    with application.running() as stack:
        check(stack, promises)
        finish(stack, promises)
        code, findings = doctor(application, stack)
        assert (code, problems(findings)) == (0, set())
        said = [each["what"] for each in findings if each["check"] == "items"]
        assert "1 API key of formats up to 1" in said
        jobs = r"\d+ jobs of formats up to 1, \d+ of them without a number"
        assert any(re.match(jobs, text) for text in said)
        assert ticks(stack) == 1
        pass_time(stack, 3599)  # another moment than that of the tick before
        assert ticks(stack) == 2
        check(stack, promises)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("version", RELEASES)
def test_update_is_rolled_back_without_losing_a_job_or_a_session(
    tmp_path: Path, version: str
) -> None:
    application = Application(tmp_path)
    application.install(version)
    with application.running() as stack:
        kill(stack)
    application.install(THIS)
    with application.running() as stack:
        promises = promise(stack)
        leave_work(stack, promises)
        kill(stack)
    application.install(version)
    with application.running() as stack:
        check(stack, promises)
        finish(stack, promises)
        assert ticks(stack) == 1
