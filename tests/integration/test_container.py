"""`make invoke`: a function in a container, by `sam local invoke`, against a running emulator.

Needs a container engine that answers and the runtime's image: AWS's own, or the stand-in of
tools/stand_in. Skips with the reason if one is missing, but not in CI, which makes the stand-in.
"""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mayfly_local.errors import LocalError
from mayfly_local.ports.containers import gateway
from mayfly_testing.stack import MAYFLY, ROOT, running

IMAGE = "public.ecr.aws/lambda/python:3.13-x86_64"
IN_CI = bool(os.environ.get("CI"))
SAM_PYTHON = ROOT / ".venv-sam" / "bin" / "python"


def why_not() -> str | None:
    """Returns the reason why a container cannot run here."""
    try:
        asyncio.run(gateway())
    except LocalError as problem:
        return str(problem)
    if not SAM_PYTHON.exists():
        return "there is no .venv-sam; make it with: make .venv-sam/ready"
    look = f"import docker; docker.from_env().images.get({IMAGE!r})"
    if subprocess.run([SAM_PYTHON, "-c", look], capture_output=True, check=False).returncode != 0:
        return f"the image {IMAGE} is not here"
    return None


WHY_NOT = why_not()

pytestmark = pytest.mark.timeout(600)


@pytest.mark.container
@pytest.mark.skipif(WHY_NOT is not None and not IN_CI, reason=f"no container: {WHY_NOT}")
def test_container_counts_in_the_emulator_of_the_running_stack(tmp_path: Path) -> None:
    assert WHY_NOT is None, "CI runs the tests beside `python -m tools.stand_in`"
    with running(tmp_path) as stack:
        command = [
            str(MAYFLY),
            "invoke",
            "hello",
            "--container",
            "--skip-pull-image",
            "--work",
            str(stack.work),
        ]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Hello World! 1 times." in done.stdout
        assert stack.counter("hits") == 1


@pytest.mark.parametrize(
    ("ci", "code", "outcome"), [("true", 1, "failed"), ("", 0, "skipped")], ids=["ci", "elsewhere"]
)
def test_test_of_a_container_without_an_engine_fails_in_ci_only(
    tmp_path: Path, ci: str, code: int, outcome: str
) -> None:
    name = test_container_counts_in_the_emulator_of_the_running_stack.__name__
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"{__file__}::{name}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
        env={**os.environ, "CI": ci, "DOCKER_HOST": f"unix://{tmp_path}/none.sock"},
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    assert f"make invoke in a container: 1 {outcome} ({name})\n" in done.stdout


def test_command_without_an_engine_names_the_alternative(tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    command = [str(MAYFLY), "invoke", "hello", "--container", "--work", "gone"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": str(bare), "HOME": str(tmp_path)},
    )
    assert done.returncode == 1
    assert "no container engine answers here" in done.stderr
    assert "mayfly invoke hello --event" in done.stderr


def test_template_for_the_container_declares_the_stacks_variables_and_has_the_library(
    tmp_path: Path,
) -> None:
    """`sam local` passes only variables that a template declares, and mounts folders unchanged."""
    from mayfly_local.invoke import _container_template, _variables
    from mayfly_local.stack_file import StackFile

    at = "http://10.88.0.1:5000"
    with running(tmp_path) as stack:
        stack_file = StackFile.read(stack.work)
        variables = {name: _variables(stack_file, name, at) for name in stack_file.launches}
        template = _container_template(stack_file, tmp_path, variables)
    hello = template["Resources"]["Hello"]["Properties"]
    assert hello["Environment"]["Variables"]["AWS_ENDPOINT_URL"] == at
    assert hello["Environment"]["Variables"]["COUNTERS_TABLE"]
    relay = template["Resources"]["RelayJobs"]["Properties"]
    assert relay["Environment"]["Variables"]["JOBS_QUEUE_URL"].startswith(f"{at}/")
    assert (Path(hello["CodeUri"]) / "hello" / "main.py").exists()
    (layer,) = hello["Layers"]
    layer = Path(template["Resources"][layer["Ref"]]["Properties"]["ContentUri"]) / "python"
    assert (layer / "mayfly" / "web" / "resolver.py").exists()
    assert (layer / "aws_lambda_powertools").exists()
