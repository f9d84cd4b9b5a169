"""The examples of docs/pytest.md, run by pytest with the plugin, in an application of their own."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from mayfly_testing.stack import ROOT, unbuffered, wait_until

PAGE = (ROOT / "docs" / "pytest.md").read_text()
BLOCK = re.compile(
    r"<!-- (?P<kind>file|direct): (?P<path>\S+) -->\n```python\n(?P<text>.*?)```", re.DOTALL
)
FAILS = """
def test_fails(mayfly_stack):
    assert mayfly_stack.http("GET", "/health").status_code == 500
"""
STRIKES_NOTHING = """
def test_strikes_nothing(mayfly_stack):
    mayfly_stack.kill_worker(at="commit")
"""
KILLS_PYTEST = """
import os, signal
from pathlib import Path

def test_kills_pytest(mayfly_stack):
    Path("pid").write_text(str(mayfly_stack.process.pid))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def application(folder: Path, *, kind: str = "file") -> Path:
    """Returns an application with the files of the page, or with those of another kind instead."""
    for name in ("functions", "layers"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "template.yaml", folder)
    # Packages that are installed for this repository are used again.
    (ROOT / ".mayfly" / "cache").mkdir(parents=True, exist_ok=True)
    (folder / ".mayfly").mkdir()
    (folder / ".mayfly" / "cache").symlink_to(ROOT / ".mayfly" / "cache")
    (folder / "tests").mkdir()
    (settings,) = re.findall(r"```ini\n(.*?)```", PAGE, re.DOTALL)
    (folder / "pytest.ini").write_text(settings)
    for each in ("file", kind):
        for block in BLOCK.finditer(PAGE):
            if block["kind"] == each:
                (folder / block["path"]).write_text(block["text"])
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs pytest in a folder, as a user does."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:schemathesis"]
    environ = {name: value for name, value in unbuffered().items() if "PYTEST" not in name}
    return subprocess.run(
        [*command, "-rA", *arguments],
        cwd=folder, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.soak
@pytest.mark.timeout(600)  # One example is a day: 15 s on two free cores.
def test_examples_of_the_page_pass(tmp_path: Path) -> None:
    done = run(application(tmp_path / "app"))
    assert "9 passed" in done.stdout, done.stdout[-5000:]


def test_kill_of_a_worker_takes_fewer_than_15_lines() -> None:
    (text,) = [block["text"] for block in BLOCK.finditer(PAGE) if "test_kill" in block["path"]]
    assert len(text.splitlines()) < 15


def test_task_that_writes_by_itself_fails_the_kill_of_its_worker(tmp_path: Path) -> None:
    done = run(application(tmp_path / "app", kind="direct"), "tests/test_kill.py")
    assert "1 failed, 3 passed" in done.stdout, done.stdout[-5000:]
    assert "FAILED tests/test_kill.py::test_order_is_counted_once[effect-staged]" in done.stdout
    (said,) = re.findall(r"says `(assert .*?)`", PAGE)
    assert said in done.stdout


def test_strike_that_meets_no_job_fails_its_test_and_the_stack_of_failed_tests_is_stopped(
    tmp_path: Path,
) -> None:
    folder = application(tmp_path / "app")
    (folder / "tests" / "test_nothing.py").write_text(STRIKES_NOTHING)
    (folder / "tests" / "test_fails.py").write_text(FAILS)
    done = run(folder, "tests/test_nothing.py", "tests/test_fails.py")
    assert "2 failed" in done.stdout, done.stdout[-5000:]
    assert "kill_worker has struck no job (1 left)" in done.stdout
    assert "stop with Ctrl-C" in done.stdout  # what the stack has printed
    assert "it stays up" not in done.stdout


def test_stack_of_a_failed_test_stays_up_if_it_is_kept(tmp_path: Path) -> None:
    folder = application(tmp_path / "app")
    (folder / "tests" / "test_fails.py").write_text(FAILS)
    done = run(folder, "tests/test_fails.py", "--mayfly-keep")
    assert "1 failed" in done.stdout, done.stdout[-5000:]
    assert "stop with Ctrl-C" in done.stdout  # what the stack has printed
    (kept,) = re.findall(r"it stays up; stop it with: kill (\d+)", done.stdout)
    process = psutil.Process(int(kept))
    assert "--movable-clock" in process.cmdline()
    process.send_signal(signal.SIGTERM)
    wait_until(lambda: not process.is_running(), 60, what="the end of the kept stack")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to another one")
def test_stack_ends_with_pytest_however_that_ends(tmp_path: Path) -> None:
    folder = application(tmp_path / "app")
    (folder / "tests" / "test_kills.py").write_text(KILLS_PYTEST)
    assert run(folder, "tests/test_kills.py").returncode == -signal.SIGKILL
    pid = int((folder / "pid").read_text())
    wait_until(lambda: not psutil.pid_exists(pid), 60, what="the end of the stack")


def test_template_that_does_not_exist_is_named(tmp_path: Path) -> None:
    folder = application(tmp_path / "app")
    (folder / "template.yaml").unlink()
    done = run(folder, "tests/test_stack.py")
    assert f"there is no template {folder / 'template.yaml'}; set mayfly_template" in done.stdout
