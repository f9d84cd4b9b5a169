"""The pytest plugin of the distribution. It loads nothing until a test asks for a fixture."""

import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from mayfly_testing.one_task import RunTask
    from mayfly_testing.stack import Stack

__all__ = [
    "mayfly_stack",
    "mayfly_task",
    "pytest_addoption",
    "pytest_runtest_call",
    "pytest_runtest_makereport",
]

_STACK: Final = "mayfly_stack"
_STOP_SECONDS: Final = 20.0
#: Characters of the stack's output that the report of a failed test shows.
_SHOWN: Final = 3000


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the settings, and the option that leaves the stack up."""
    parser.addini(
        "mayfly_template", "the SAM template of mayfly_stack, from the root folder of the tests",
        default="template.yaml",
    )  # fmt: skip
    parser.addini("mayfly_up", "more options of mayfly up for mayfly_stack", type="args")
    parser.getgroup("mayfly").addoption(
        "--mayfly-keep", action="store_true", help="leave the stack up if a test has failed"
    )


@pytest.fixture(scope="session")
def mayfly_stack(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["Stack"]:
    """Starts the whole application as `mayfly up` does, once for all tests, on free ports."""
    from mayfly_testing.stack import await_start, launch

    config = request.config
    template = config.rootpath / str(config.getini("mayfly_template"))
    if not template.is_file():
        raise pytest.UsageError(
            f"there is no template {template}; set mayfly_template in the settings of pytest"
        )
    is_kept = bool(config.getoption("--mayfly-keep"))
    stack = launch(
        _command(outlives=is_kept), tmp_path_factory.mktemp("mayfly"),
        "--movable-clock", "--no-reload", *config.getini("mayfly_up"),
        template=template, has_own_session=True,
    )  # fmt: skip
    try:
        await_start(stack)
        yield stack
    finally:
        if not (is_kept and request.session.testsfailed):
            _stop(stack)


@pytest.fixture
def mayfly_task() -> "RunTask":
    """Returns a function that runs a task in this process, without a store."""
    from mayfly_testing.one_task import run_task

    return run_task


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fails a test whose `kill_worker` struck nothing: it has not shown what it says."""
    try:
        outcome = yield
    except BaseException:
        if (stack := _stack_of(item)) is not None:
            with suppress(OSError):
                stack.missed_strikes()
        raise
    if (stack := _stack_of(item)) is not None and (missed := stack.missed_strikes()):
        pytest.fail(
            f"kill_worker has struck no job ({missed} left): submit the job after it, and advance "
            "the stack so that the job runs",
            pytrace=False,
        )
    return outcome


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Adds what the stack has printed to the report of a failed test."""
    report = yield
    if report.failed and (stack := _stack_of(item)) is not None:
        lines = [f"{stack.url}, logs in {stack.work / 'logs'}", stack.output[-_SHOWN:]]
        if item.config.getoption("--mayfly-keep"):
            lines.append(f"it stays up; stop it with: kill {stack.process.pid}")
        report.sections.append(("mayfly stack", "\n".join(lines)))
    return report


def _stack_of(item: pytest.Item) -> "Stack | None":
    """Returns the stack of a test that uses it and has got it."""
    arguments: dict[str, Any] = getattr(item, "funcargs", {})
    return arguments.get(_STACK)


def _command(*, outlives: bool) -> list[str]:
    """Returns the command `mayfly`. Its process ends with this one unless it outlives it."""
    from mayfly_local.processes import bootstrap

    if outlives:
        return [sys.executable, "-P", "-m", "mayfly_cli"]
    own = Path(bootstrap.__file__)
    return [sys.executable, "-P", str(own), str(os.getpid()), "", "mayfly_cli"]


def _stop(stack: "Stack") -> None:
    process = stack.process
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
