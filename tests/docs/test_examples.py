"""The examples of README and docs, run unchanged."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mayfly.core.errors import InvalidRequest
from mayfly.jobs import wire

from mayfly_testing.stack import ROOT, Stack, running, wait_until
from tools.framework_tests.__main__ import DIFFERENCES

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("docs")) as found:
        yield found


def shell_examples() -> str:
    """Returns every marked shell block of README, in order, as one script."""
    blocks = re.findall(
        r"<!-- example: \w+ -->\n```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    assert len(blocks) == 4
    return "\n".join(blocks)


def test_shell_examples_of_the_readme_work_as_described(stack: Stack) -> None:
    script = (
        shell_examples()
        .replace("http://127.0.0.1:3000", stack.url)
        .replace(".mayfly/development-key", str(stack.work / "development-key"))
    )
    done = subprocess.run(["sh", "-ec", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert '"status":"succeeded"' in done.stdout
    assert "Hello World! 41 times." in done.stdout
    assert '"data":{"cart":["tea"],"theme":"dark"}' in done.stdout
    assert '"code": "session-not-found"' in done.stdout
    assert done.stdout.count('{"name":"orders","value":3}') == 2
    assert '"allowed":true,"remaining":9' in done.stdout.splitlines()[-1]


def test_example_of_a_producer_is_a_job(stack: Stack) -> None:
    (program,) = [
        each
        for each in re.findall(
            r"```python\n(.*?)```", (ROOT / "docs" / "jobs.md").read_text(), re.DOTALL
        )
        if "send_message" in each
    ]
    (stack.work.parent / ".mayfly").symlink_to(stack.work)
    before = stack.counter("hits")
    (exports,) = [
        each
        for each in re.findall(
            r"```sh\n(.*?)```", (ROOT / "docs" / "jobs.md").read_text(), re.DOTALL
        )
        if "mayfly env" in each
    ]
    (stack.work.parent / ".venv").symlink_to(ROOT / ".venv")
    script = f"{exports}\n{sys.executable} - <<'PYTHON'\n{program}\nPYTHON"
    subprocess.run(
        ["sh", "-ec", script], cwd=stack.work.parent, check=True, env={"PATH": os.defpath}
    )
    wait_until(lambda: stack.counter("hits") == before + 1, 20)


def test_job_in_the_documents_has_the_fields_of_a_real_one(stack: Stack) -> None:
    (shown,) = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "http.md").read_text(), re.DOTALL)
    job = stack.job(stack.submit("counter.add", {"name": "hits", "by": 5})["id"], wait=20)
    documented = json.loads(shown)
    assert set(documented) == set(job)
    assert set(documented["attempts"][0]) == set(job["attempts"][0])
    assert (documented["result"], documented["status"]) == (job["result"], job["status"])


def test_verifier_for_receivers_accepts_only_signed_requests() -> None:
    from mayfly.webhooks.rules import headers, read_webhook

    (program,) = re.findall(
        r"<!-- verifier -->\n```python\n(.*?)```",
        (ROOT / "docs" / "webhooks.md").read_text(),
        re.DOTALL,
    )
    scope: dict[str, Any] = {}
    exec(program, scope)
    verify, secret, now_s, body = (
        scope["verify"],
        f"whsec_{base64.b64encode(b'k' * 32).decode()}",
        int(scope["time"].time()),
        b'{"a":1}',
    )
    signed = headers(
        read_webhook({"url": "https://example.org/"}),
        [b"o" * 32, b"k" * 32],
        "msg_1",
        body,
        at_s=now_s,
    )
    assert verify(secret, signed, body)
    assert not verify(secret, signed, b'{"a":2}')
    assert not verify(secret, {**signed, "webhook-id": "msg_2"}, body)
    assert not verify(secret, {**signed, "webhook-timestamp": "x"}, body)
    assert not verify(f"whsec_{base64.b64encode(b'x' * 32).decode()}", signed, body)
    old = headers(
        read_webhook({"url": "https://example.org/"}), [b"k" * 32], "msg_1", body, at_s=now_s - 301
    )
    assert not verify(secret, old, body)
    assert verify(secret, old, body, tolerance_seconds=400)


def test_schema_of_queue_messages_accepts_the_same_messages_as_the_worker() -> None:
    from jsonschema import Draft202012Validator

    schema = Draft202012Validator(
        json.loads((ROOT / "docs" / "queue-message.schema.json").read_text())
    )
    for message, is_good in [
        ({"task": "t"}, True),
        ({"task": "t", "payload": [1], "idempotency_key": "k"}, True),
        ({"task": "a b"}, False),
        ({"task": "t", "tenant": "x"}, False),
        ({"task": "t", "idempotency_key": ""}, False),
        ({"task": "t", "idempotency_key": "a b"}, False),
        ({"payload": 1}, False),
    ]:
        assert schema.is_valid(message) is is_good, message
        try:
            wire.read_message(json.dumps(message))
            accepted = True
        except InvalidRequest:
            accepted = False
        assert accepted is is_good, message


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_page_leads_to_a_file(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_test_that_a_document_names_exists() -> None:
    written = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", path.read_text(), re.MULTILINE)
    }
    named = {
        (page.name, name)
        for page in PAGES
        for name in re.findall(r"`(test_\w+)`", page.read_text())
    }
    assert len(named) > 20
    of_frameworks = set(DIFFERENCES)
    assert sorted(name for name in named if name[1] not in written | of_frameworks) == []
