"""`make invoke`: a function in a container, by `sam local invoke`, against the running stack's store.

Needs a container engine that answers and AWS's runtime image; skips with the reason where there is none. (No machine of this
project has had one yet; docs/local.md says so.)
"""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from local.harness import MAYFLY, ROOT, running

IMAGE = "public.ecr.aws/lambda/python:3.13"


def why_not() -> str | None:
    """The reason why a container cannot run here."""
    if shutil.which("docker") is None:
        return "there is no docker command"
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode != 0:
        return "no container engine answers"
    if subprocess.run(["docker", "image", "inspect", IMAGE], capture_output=True, check=False).returncode != 0:
        return f"the image {IMAGE} is not here"
    return None


@pytest.mark.skipif(why_not() is not None, reason=f"no container: {why_not()}")
def test_a_container_counts_in_the_running_stacks_store(tmp_path: Path) -> None:
    with running(tmp_path) as stack:
        command = [str(MAYFLY), "invoke", "hello", "--container", "--event", str(ROOT / "events" / "hello.json"), "--work", str(stack.work)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert "Hello World! 1 times." in done.stdout
        assert stack.counter("hits") == 1


def test_without_an_engine_the_command_says_so_and_names_the_other_way(tmp_path: Path) -> None:
    bare = tmp_path / "bin"
    bare.mkdir()
    command = [str(MAYFLY), "invoke", "hello", "--container", "--work", "gone"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env={"PATH": str(bare), "HOME": str(tmp_path)})
    assert done.returncode == 1
    assert "no container engine answers here" in done.stderr
    assert "mayfly invoke hello --event" in done.stderr


def test_the_template_for_the_container_declares_the_running_stacks_variables_and_has_its_layer(tmp_path: Path) -> None:
    """`sam local` passes on only the variables that a template declares, and mounts folders as they are."""
    from local.invoke import _container_template
    from local.stack_file import StackFile

    with running(tmp_path) as stack:
        stack_file = StackFile.read(stack.work)
        template = json.loads(_container_template(stack_file, tmp_path).read_text())
    hello = template["Resources"]["Hello"]["Properties"]
    assert hello["Environment"]["Variables"]["AWS_ENDPOINT_URL"] == stack_file.endpoint
    assert hello["Environment"]["Variables"]["COUNTERS_TABLE"]
    assert (Path(hello["CodeUri"]) / "main.py").exists()
    layer = Path(template["Resources"]["MayflyLayer"]["Properties"]["ContentUri"]) / "python"
    assert (layer / "mayfly" / "http.py").exists()
    assert (layer / "aws_lambda_powertools").exists()
