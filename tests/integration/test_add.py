"""`mayfly add` in an application as SAM's starter makes it: its handler submits a job.

Its handler and its task are those of docs/add-to-a-project.md. The code of the wheel is a copy of
the sources.
"""

import difflib
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from mayfly_testing.stack import MAYFLY, ROOT, Stack, running, wait_until
from tests.support.installed import install

STARTER = ROOT / "tests" / "apps" / "sam_init"
PAGE = (ROOT / "docs" / "add-to-a-project.md").read_text()
#: The files of the page, by their paths.
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```python\n(.*?)```", PAGE, re.DOTALL))


def add(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [MAYFLY, "add", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def with_properties(template: str, printed: str) -> str:
    """Returns the template with the printed properties at its function."""
    begin = printed.index("      Environment:")
    properties = printed[begin : printed.index("\n\n", begin)] + "\n"
    before, handler, after = template.partition("      Handler: app.lambda_handler\n")
    return before + handler + properties + after


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("added") / "hello"
    shutil.copytree(STARTER, folder)
    printed = add(folder, "jobs", "sessions")
    assert 'capabilities = "CAPABILITY_IAM CAPABILITY_AUTO_EXPAND"' in printed
    before = (STARTER / "template.yaml").read_text()
    after = (folder / "template.yaml").read_text()
    changes = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    assert {line[0] for line in changes} == {" ", "+"}
    assert len([line for line in changes if line[0] == "+"]) == 7
    (folder / "template.yaml").write_text(with_properties(after, printed))
    assert set(FILES) == {"hello_world/app.py", "mayfly_code/tasks/greetings.py"}
    for name, text in FILES.items():
        (folder / name).write_text(text)
    install(folder / "mayfly_code")
    install(folder / "hello_world")
    return folder


@pytest.fixture(scope="module")
def stack(application: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("added-stack")
    with running(folder, "--strict", template=application / "template.yaml") as stack:
        yield stack


def test_handler_of_the_starter_submits_a_job_that_runs_once(stack: Stack) -> None:
    address = str(stack.facts["apis"]["ServerlessRestApi"])
    replies = [requests.get(f"{address}/hello?name=ada", timeout=60) for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200] * 3, replies[0].text
    bodies = [reply.json() for reply in replies]
    assert {body["subject"] for body in bodies} == {"ada"}
    assert [body["is_new"] for body in bodies] == [True, False, False]
    assert len({body["job"] for body in bodies}) == 1
    jobs = f"{stack.nesting}JobsTable"
    wait_until(lambda: [item["status"]["S"] for item in stack.items(jobs)] == ["COMPLETED"], 20)
    assert stack.counter("greetings") == 1
