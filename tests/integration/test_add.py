"""`mayfly add` in an application as SAM's starter makes it.

Its handler submits a job in its own transaction, with an item of its own table. The handler, the
task and all lines of the template are those of docs/add-to-a-project.md. The code of the wheel is a
copy of the sources.
"""

import difflib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from mayfly_testing.stack import MAYFLY, ROOT, Stack, running, wait_until
from tests.docs.test_guides import FILE, INSERT
from tests.support.installed import install

STARTER = ROOT / "tests" / "apps" / "sam_init"
PAGE = (ROOT / "docs" / "add-to-a-project.md").read_text()
#: The number of times that the client of the page sends a request.
ATTEMPTS = 3


def add(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [MAYFLY, "add", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def added(before: str, after: str) -> list[str]:
    """Returns the lines that a text has more than another; no line may be changed or absent."""
    changes = list(difflib.ndiff(before.splitlines(), after.splitlines()))
    assert {line[0] for line in changes} == {" ", "+"}
    return [line[2:] for line in changes if line[0] == "+"]


def with_insertions(template: str, printed: str) -> str:
    """Returns the template with the lines of the page.

    They are those that the command has printed, and those of the function's own table.
    """
    table, properties = INSERT.finditer(PAGE)
    own = added(properties_in(printed), properties["text"])
    assert len(own) == 4
    assert "GREETINGS_TABLE: !Ref GreetingsTable" in own[0]
    for step in (table, properties):
        anchor = step["anchor"] + "\n"
        assert template.count(anchor) == 1
        template = template.replace(anchor, step["text"] + anchor)
    return template


def properties_in(printed: str) -> str:
    """Returns the printed properties of a function."""
    begin = printed.index("      Environment:")
    return printed[begin : printed.index("\n\n", begin)] + "\n"


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("added") / "hello"
    shutil.copytree(STARTER, folder)
    printed = add(folder, "jobs", "sessions")
    assert 'capabilities = "CAPABILITY_IAM CAPABILITY_AUTO_EXPAND"' in printed
    before = (STARTER / "template.yaml").read_text()
    after = (folder / "template.yaml").read_text()
    assert len(added(before, after)) == 7
    whole = with_insertions(after, printed)
    assert len(added(before, whole)) == 7 + 6 + 17
    (folder / "template.yaml").write_text(whole)
    files = {step["path"]: step["text"] for step in FILE.finditer(PAGE)}
    assert set(files) == {"hello_world/app.py", "mayfly_code/tasks/greetings.py"}
    for name, text in files.items():
        (folder / name).write_text(text)
    install(folder / "mayfly_code")
    install(folder / "hello_world")
    return folder


@pytest.fixture(scope="module")
def stack(application: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("added-stack")
    with running(folder, "--strict", template=application / "template.yaml") as stack:
        yield stack


def greet(stack: Stack, name: str) -> requests.Response:
    address = str(stack.facts["apis"]["ServerlessRestApi"])
    return requests.get(f"{address}/hello?name={name}", timeout=60)


def greetings(stack: Stack, name: str) -> int:
    """Returns how many greetings of a name there are."""
    return sum(item["name"] == {"S": name} for item in stack.items("GreetingsTable"))


def jobs(stack: Stack, name: str) -> dict[str, str]:
    """Returns the states of the jobs of a name, by their ids."""
    text = f'{{"name":"{name}"}}'
    items = stack.items(f"{stack.nesting}JobsTable")
    return {
        item["id"]["S"]: item["status"]["S"] for item in items if item.get("payload") == {"S": text}
    }


def count_at_end(stack: Stack, job: str, name: str) -> int:
    """Returns the counter when the only job of a name has ended."""
    wait_until(lambda: jobs(stack, name) == {job: "COMPLETED"}, 20)
    return stack.counter("greetings")


def test_handler_of_the_starter_submits_a_job_that_runs_once(stack: Stack) -> None:
    before = stack.counter("greetings")
    replies = [greet(stack, "ada") for _ in range(3)]
    assert [reply.status_code for reply in replies] == [200] * 3, replies[0].text
    bodies = [reply.json() for reply in replies]
    assert {body["subject"] for body in bodies} == {"ada"}
    assert [body["is_new"] for body in bodies] == [True, False, False]
    (job,) = {body["job"] for body in bodies}
    assert (greetings(stack, "ada"), count_at_end(stack, job, "ada")) == (1, before + 1)


@pytest.mark.parametrize(("kind", "stored", "is_new"), [("lose", 1, False), ("refuse", 0, True)])
def test_repeat_after_a_lost_answer_leaves_one_greeting_and_one_job(
    stack: Stack, kind: str, stored: int, is_new: bool
) -> None:
    before = stack.counter("greetings")
    fault = {
        "function": "HelloWorldFunction", "action": "dynamodb:PutItem", "kind": kind,
        "times": ATTEMPTS, "containing": "greetings.count",
    }  # fmt: skip
    assert stack.control("faults", fault).ok
    assert greet(stack, kind).status_code == 502
    # The function may have been stopped before its client had sent the last try.
    stack.missed_strikes()
    assert (greetings(stack, kind), len(jobs(stack, kind))) == (stored, stored)
    reply = greet(stack, kind)
    assert reply.status_code == 200, reply.text
    assert reply.json()["is_new"] is is_new
    count = count_at_end(stack, reply.json()["job"], kind)
    assert (greetings(stack, kind), count) == (1, before + 1)
