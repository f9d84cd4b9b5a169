"""Pages that add routes and tasks, followed word by word in a copy of the checkout."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import indent

import pytest
import requests

from mayfly_testing.stack import ROOT, Stack, running, unbuffered

INSERT = re.compile(
    r'<!-- insert: (?P<path>\S+) before: "?(?P<anchor>.*?)"? -->\n```\w+\n(?P<text>.*?)```',
    re.DOTALL,
)
FILE = re.compile(r"<!-- file: (?P<path>\S+) -->\n```\w+\n(?P<text>.*?)```", re.DOTALL)
ROUTE = (ROOT / "docs" / "add-a-route.md").read_text()
TASK = (ROOT / "docs" / "add-a-task.md").read_text()
JOBS = (ROOT / "docs" / "jobs.md").read_text()
PLACES = {
    "handler": "functions/counters/app.py",
    "event": "template.yaml",
    "entry": "tools/openapi/operations.yaml",
}
#: The tests that notice a place that is missing.
NOTICES = [
    f"tests/contract/{name}"
    for name in (
        "test_template.py::test_every_route_of_the_template_has_a_handler_in_its_function",
        "test_template.py::test_405_table_has_exactly_the_routes_of_the_template",
        "test_openapi.py::test_document_is_up_to_date_with_the_code",
        "test_openapi.py::test_document_has_exactly_the_routes_of_the_template_with_their_scopes",
    )
]


def copied(folder: Path) -> Path:
    """Returns a copy of what a route and a task belong to."""
    # With its byte-code, since each test would compile it again.
    ignored = shutil.ignore_patterns(".mayfly", ".aws-sam")
    for name in ("functions", "layers", "tools", "tests/contract", "tests/support"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    (folder / "docs").mkdir()
    for name in ("template.yaml", "pyproject.toml", "tests/conftest.py", "Makefile"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def insert(checkout: Path, *, without: str = "") -> None:
    """Adds the route of the page to its places, but one."""
    for step in INSERT.finditer(ROUTE):
        if step["path"] == without:
            continue
        path = checkout / step["path"]
        text = path.read_text()
        (line,) = [line for line in text.splitlines() if line.rstrip().endswith(step["anchor"])]
        block = step["text"]
        if path.suffix == ".py":  # pages show Python without its indentation
            block = indent(block, line[: len(line) - len(line.lstrip())]) + "\n"
        path.write_text(text.replace(f"{line}\n", f"{block}{line}\n", 1))


def run(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in a checkout, with the checkout's own library."""
    folders = (checkout, checkout / "layers" / "mayfly", ROOT)
    env = {**unbuffered(), "PYTHONPATH": os.pathsep.join(map(str, folders))}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=checkout, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with the route and the task of the pages."""
    folder = copied(tmp_path_factory.mktemp("guide"))
    insert(folder)
    for step in FILE.finditer(TASK + JOBS):
        (folder / step["path"]).write_text(step["text"])
    done = run(folder, "-m", "tools.openapi.build")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def stack(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    work = tmp_path_factory.mktemp("guide-stack")
    with running(work, template=checkout / "template.yaml") as stack:
        yield stack


def test_page_names_the_three_places_of_a_route() -> None:
    assert [step["path"] for step in INSERT.finditer(ROUTE)] == list(PLACES.values())


def test_route_of_the_page_is_served_and_described(stack: Stack) -> None:
    headers = {"Authorization": f"Bearer {stack.key}"}
    url = f"{stack.url}/counters/seats"
    requests.post(f"{url}/increment", headers=headers, json={"by": 5}, timeout=20)
    reply = requests.post(f"{url}/reset", headers=headers, timeout=20)
    assert (reply.status_code, reply.json()) == (200, {"name": "seats", "value": 0})
    assert requests.post(f"{url}/reset", timeout=20).status_code == 401
    wrong = requests.get(f"{url}/reset", headers=headers, timeout=20)
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "POST")
    described = requests.get(f"{stack.url}/openapi.json", timeout=20).json()["paths"]
    assert described["/counters/{name}/reset"]["post"]["x-scope"] == "counters:write"


def test_task_of_the_page_runs_and_refuses_other_payloads(stack: Stack) -> None:
    (body,) = re.findall(r"-d '(\{.*?\})'\n", TASK)
    request = json.loads(body)
    job = stack.job(stack.submit(request["task"], request["payload"])["id"], wait=20)
    assert (job["status"], job["result"]) == ("succeeded", {"items": 3})
    assert (stack.counter("parcels"), stack.counter("items")) == (1, 3)
    refused = stack.job(stack.submit(request["task"], {"items": 0})["id"], wait=20)
    assert (refused["status"], len(refused["attempts"])) == ("dead", 1)


def test_declared_payload_of_the_page_is_checked_and_described(stack: Stack) -> None:
    payload = {"number": "p-1", "grams": 700, "speed": "express"}
    job = stack.job(stack.submit("parcels.ship", payload)["id"], wait=20)
    assert (job["status"], job["result"], stack.counter("grams.express")) == (
        "succeeded",
        "p-1",
        700,
    )
    refused = requests.post(
        f"{stack.url}/jobs",
        json={"task": "parcels.ship", "payload": {**payload, "grams": "700"}},
        headers=stack.headers,
        timeout=20,
    )
    assert (refused.status_code, refused.headers["Content-Type"]) == (
        422, "application/problem+json",
    )  # fmt: skip
    assert (refused.json()["code"], refused.json()["field"]) == (
        "payload-mismatch", "payload.grams",
    )  # fmt: skip
    schemas = requests.get(f"{stack.url}/openapi.json", timeout=20).json()["components"]["schemas"]
    assert schemas["Payload.parcels.ship"]["properties"]["speed"] == {
        "enum": ["standard", "express"]
    }


def test_async_task_of_the_page_runs(stack: Stack) -> None:
    urls = [f"{stack.url}/health"] * 3
    jobs = [stack.submit("pages.measure", {"urls": urls}) for _ in range(4)]
    ended = [stack.job(job["id"], wait=20) for job in jobs]
    size = 3 * len(stack.get("/health").content)
    assert [(job["status"], job["result"]) for job in ended] == [
        ("succeeded", {"bytes": size})
    ] * len(jobs)
    assert stack.counter("bytes") == size * len(jobs)


def test_tests_accept_a_complete_route(checkout: Path) -> None:
    done = run(checkout, "-m", "pytest", "-q", "-p", "no:cacheprovider", *NOTICES)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("missing", PLACES)
def test_a_missing_place_of_a_route_is_noticed(tmp_path: Path, missing: str) -> None:
    folder = copied(tmp_path / "checkout")
    insert(folder, without=PLACES[missing])
    described = run(folder, "-m", "tools.openapi.build")
    done = run(folder, "-m", "pytest", "-q", "-p", "no:cacheprovider", *NOTICES)
    assert done.returncode == 1, done.stdout
    said = {
        "handler": ("no handler serves POST /counters/{name}/reset", described.stderr),
        "event": ("test_every_route_of_the_template_has_a_handler_in_its_function", done.stdout),
        "entry": (
            "operations.yaml has no entry for POST /counters/{}/reset",
            described.stderr,
        ),
    }
    fragment, text = said[missing]
    assert fragment in text


def test_unit_test_of_the_page_passes_on_moto(checkout: Path) -> None:
    page = (ROOT / "docs" / "testing.md").read_text()
    (text,) = re.findall(r"<!-- test -->\n```python\n(.*?)```", page, re.DOTALL)
    (checkout / "test_parcels.py").write_text(text)
    options = ["-q", "-p", "no:cacheprovider", "-o", "pythonpath=functions"]
    done = run(checkout, "-m", "pytest", *options, "test_parcels.py")
    assert "2 passed" in done.stdout, done.stdout
