"""The environment of a function, at the edges where a laptop differs from Lambda."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mayfly_local.processes.folders import why_not
from mayfly_testing.stack import MAYFLY, ROOT, Stack, running, wait_until

APP = ROOT / "tests" / "apps" / "edges"
WHY_NOT = why_not()
has_own_folders = pytest.mark.skipif(
    WHY_NOT is not None and not os.environ.get("CI"),
    reason=f"no folders of their own: {WHY_NOT}",
)


@pytest.fixture(scope="module", params=["awslambdaric", "python"])
def stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("edges")
    with running(folder, "--runtime", request.param, template=APP / "template.yaml") as started:
        yield started


@pytest.mark.parametrize(
    ("wish", "kind", "message"),
    [
        pytest.param("long-message", "ValueError", "x" * 9000, id="message of 9,000 characters"),
        pytest.param("megabyte", "ValueError", "x" * 1_000_000, id="message of a megabyte"),
        pytest.param("deep", "ValueError", "the real reason", id="traceback of 500 frames"),
        pytest.param("endless", "RecursionError", "maximum recursion", id="RecursionError"),
        pytest.param("chained", "RuntimeError", "y" * 5000, id="raise from"),
    ],
)
def test_long_exception_keeps_its_type_and_its_process(
    stack: Stack, wish: str, kind: str, message: str
) -> None:
    before = stack.get("/first/facts").json()
    assert stack.get(f"/first/{wish}").status_code == 500
    failed = [entry for entry in stack.log("First") if entry["type"] == "invocation failed"][-1]
    assert failed["error"] == kind
    assert message in failed["reason"]
    after = stack.get("/first/facts").json()
    assert (after["pid"], after["calls"]) == (before["pid"], before["calls"] + 2)


LONG = {"pathParameters": {"wish": "long-message"}}


def by_command(stack: Stack, folder: Path) -> Any:
    (folder / "event.json").write_text(json.dumps(LONG))
    event = str(folder / "event.json")
    command = [str(MAYFLY), "invoke", "Third", "--event", event, "--work", str(stack.work)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"{done.stdout}{done.stderr}"


def by_sdk(stack: Stack, folder: Path) -> Any:
    reply = stack.client("lambda").invoke(FunctionName="Third", Payload=json.dumps(LONG))
    assert reply["FunctionError"] == "Unhandled"
    return reply["Payload"].read().decode()


def by_message(stack: Stack, folder: Path) -> Any:
    sqs = stack.client("sqs")
    url = sqs.list_queues()["QueueUrls"][0]
    before = len(failures(stack))
    sqs.send_message(QueueUrl=url, MessageBody="long-message")
    wait_until(lambda: len(failures(stack)) > before, 20)
    sqs.purge_queue(QueueUrl=url)
    return failures(stack)[-1]


def failures(stack: Stack) -> list[str]:
    return [
        f"{entry['error']}: {entry['reason']}"
        for entry in stack.log("Third")
        if entry["type"] == "invocation failed"
    ]


@pytest.mark.parametrize(
    ("fail", "calls"),
    [
        pytest.param(by_command, 0, id="mayfly invoke"),  # in a process of its own
        pytest.param(by_sdk, 1, id="Invoke"),
        pytest.param(by_message, 1, id="SQS"),
    ],
)
def test_every_way_to_a_function_tells_a_long_exception_and_keeps_its_process(
    stack: Stack, tmp_path: Path, fail: Callable[[Stack, Path], str], calls: int
) -> None:
    before = stack.get("/third/facts").json()
    told = fail(stack, tmp_path)
    assert "ValueError" in told
    assert "x" * 1000 in told
    after = stack.get("/third/facts").json()
    assert (after["pid"], after["calls"]) == (before["pid"], before["calls"] + calls + 1)


def test_exception_above_six_megabytes_is_one_failed_invocation(stack: Stack) -> None:
    assert stack.get("/second/above-the-limit").status_code == 500
    failed = [entry for entry in stack.log("Second") if entry["type"] == "invocation failed"][-1]
    assert failed["error"] == "Function.ResponseSizeTooLarge"
    assert stack.get("/second/facts").status_code == 200


@has_own_folders
@pytest.mark.parametrize(
    "path",
    [
        "cache.json", "/var/task/cache.json", str(APP / "code" / "cache.json"),
        str(APP / "words" / "python" / "cache.json"), "/opt/cache.json", "/var/cache.json",
        "/usr/cache.json",
    ],
)  # fmt: skip
def test_every_folder_but_tmp_is_read_only(stack: Stack, path: str) -> None:
    before = stack.get("/first/facts").json()
    reply = stack.get("/first/write", params={"path": path})
    assert reply.json() == {"error": "Read-only file system"}
    after = stack.get("/first/facts").json()
    assert (after["pid"], after["calls"]) == (before["pid"], before["calls"] + 2), "no reload"
    assert not Path(APP, "code", path).exists()


@has_own_folders
def test_functions_and_later_starts_do_not_share_tmp(tmp_path: Path) -> None:
    for start in range(2):
        with running(tmp_path / str(start), template=APP / "template.yaml") as stack:
            assert stack.get("/first/tmp").json()["left"] is None
            assert stack.get("/second/tmp").json()["left"] is None
            assert stack.get("/first/tmp").json()["left"] == "First"
    assert not Path("/tmp/edges-of-the-runtime").exists()


@has_own_folders
def test_environments_of_one_function_do_not_share_tmp(stack: Stack) -> None:
    first = stack.get("/second/tmp").json()
    os.kill(stack.get("/second/facts").json()["pid"], 9)
    assert stack.get("/second/tmp").json()["left"] is None
    assert "edges-of-the-runtime" in stack.get("/second/tmp").json()["entries"]
    assert first["left"] in (None, "Second")


@has_own_folders
@pytest.mark.parametrize(
    ("function", "megabytes"),
    [pytest.param("first", 600, id="EphemeralStorage"), pytest.param("second", 512, id="default")],
)
def test_tmp_has_the_size_of_the_template(stack: Stack, function: str, megabytes: int) -> None:
    assert stack.get(f"/{function}/tmp").json()["megabytes"] == megabytes


@has_own_folders
def test_code_is_at_var_task_and_layers_are_at_opt(stack: Stack) -> None:
    seen = stack.get("/first/folders").json()
    assert {"app.py", "data.txt"} <= set(seen["/var/task"])
    assert (seen["/opt"], seen["/opt/python"]) == (["bin", "python"], ["names.py", "words.py"])
    assert seen["data"] == seen["beside"] == "data beside the code\n"


def test_paths_of_code_are_those_of_the_sources(stack: Stack) -> None:
    code = str(APP / "code")
    assert stack.get("/first/place").json() == {
        "cwd": code, "file": f"{code}/app.py", "root": code,
    }  # fmt: skip


def test_programs_and_modules_of_layers_are_found(stack: Stack) -> None:
    assert stack.get("/first/layers").json() == {
        "word": "of a layer",
        "name": "of another layer",
        "tool": "a tool of a layer\n",
    }


def test_thread_that_outlives_the_answer_is_frozen_until_the_next_event(stack: Stack) -> None:
    assert stack.get("/second/start-ticks").text == "started"
    answered = time.time()
    pid = stack.environments("Second").pop()
    wait_until(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED, 5)
    frozen = time.time()
    wait_until(lambda: time.time() > frozen + 0.5, 5)
    asked = time.time()

    def later_ticks() -> list[float]:
        found: list[float] = stack.get("/second/read-ticks").json()
        return found if found and found[-1] > asked else []

    # Each event lets the thread run for a moment.
    ticks = wait_until(later_ticks, 10, what="a tick after the next event")
    assert not [tick for tick in ticks if frozen + 0.1 < tick < asked], (answered, ticks)


def test_threads_run_within_an_invocation(stack: Stack) -> None:
    assert stack.get("/first/tick-within").json()["ticks"] > 10


def test_environment_has_the_variables_of_lambda(stack: Stack) -> None:
    found = stack.get("/first/environment").json()
    assert found["TABLE"] == "items"
    assert found["LAMBDA_TASK_ROOT"] == str(APP / "code")
    assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", found["log stream"])
    documented = {
        "_HANDLER", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
        "AWS_LAMBDA_FUNCTION_VERSION", "AWS_LAMBDA_INITIALIZATION_TYPE",
        "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT",
        "LAMBDA_RUNTIME_DIR", "LANG", "PATH", "LD_LIBRARY_PATH", "PYTHONPATH", "TZ",
        "AWS_XRAY_CONTEXT_MISSING", "AWS_XRAY_DAEMON_ADDRESS", "_X_AMZN_TRACE_ID",
    }  # fmt: skip
    assert documented - set(found) == set()


@has_own_folders
def test_functions_run_with_a_note_if_the_system_allows_no_namespaces(tmp_path: Path) -> None:
    """A limit of none, in a namespace of users, refuses it as a system's settings do."""
    limited = ["unshare", "--user", "--map-root-user", "sh", "-c",
               'echo 0 > /proc/sys/user/max_mnt_namespaces; exec "$0" "$@"']  # fmt: skip
    # A copy, since functions then leave their byte-code next to the code.
    copy = shutil.copytree(APP, tmp_path / "app", ignore=shutil.ignore_patterns(".mayfly"))
    with running(tmp_path, template=copy / "template.yaml", through=limited) as stack:
        assert "functions can write to their code's folder here, and share /tmp" in stack.output
        assert stack.get("/first/layers").json()["tool"] == "a tool of a layer\n"
        folder = Path(stack.get("/first/environment").json()["TMPDIR"])
        assert folder.is_dir()
        assert stack.get("/second/environment").json()["TMPDIR"] != str(folder)
        assert stack.get("/first/folders").json() == {"/var/task": None, "/opt": False}
        for name in ("first", "second"):  # The sources, and a folder that all share.
            written = tmp_path / f"written-by-{name}"
            for path in (f"written-by-{name}", str(written)):
                reply = stack.get(f"/{name}/write", params={"path": path})
                assert reply.json() == {"error": None}
            assert written.exists()
            assert (copy / "code" / f"written-by-{name}").exists()
    assert not folder.exists()


def test_code_and_layers_run_from_zip_archives(tmp_path: Path) -> None:
    text = (APP / "template.yaml").read_text()
    for name in ("code", "words", "tools"):
        shutil.make_archive(str(tmp_path / name), "zip", APP / name)
        text = text.replace(f"Uri: {name}", f"Uri: {name}.zip")
    assert text.count(".zip") == 3
    (tmp_path / "template.yaml").write_text(text)
    with running(tmp_path / "work", "--strict", template=tmp_path / "template.yaml") as stack:
        assert stack.get("/first/layers").json() == {
            "word": "of a layer",
            "name": "of another layer",
            "tool": "a tool of a layer\n",
        }
        if WHY_NOT is None:
            assert "app.py" in stack.get("/first/folders").json()["/var/task"]


@has_own_folders
def test_sources_below_tmp_stay_visible(tmp_path: Path) -> None:
    copy = shutil.copytree(APP, tmp_path / "app", ignore=shutil.ignore_patterns(".mayfly"))
    assert tmp_path.parts[1] == "tmp"
    with running(tmp_path, template=copy / "template.yaml") as stack:
        assert stack.get("/first/place").json()["root"] == str(copy / "code")
        visible = set(stack.get("/first/tmp").json()["entries"])
    # This repository and its Python may be below /tmp, too.
    below = {path.parts[2] for path in (copy, ROOT, Path(sys.prefix)) if path.parts[1] == "tmp"}
    assert below <= visible <= below | {"edges-of-the-runtime"}


def test_source_tree_gets_no_files_of_the_runtime(stack: Stack) -> None:
    assert stack.get("/first/facts").status_code == 200
    if WHY_NOT is None:
        assert not list((APP / "code").rglob("*.pyc"))
