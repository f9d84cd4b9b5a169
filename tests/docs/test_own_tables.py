"""docs/own-tables.md, followed word by word in a copy of the checkout, under lost answers."""

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from mayfly.core.ids import new_secret
from mayfly.jobs.model import Status
from mayfly.tenants import ALL_SCOPES, mint

from mayfly_testing.stack import ROOT, Stack, running, wait_until
from tests.docs.test_guides import FILE, INSERT

PAGE = (ROOT / "docs" / "own-tables.md").read_text()
#: The number of times that the client of the page sends a request.
ATTEMPTS = 3
UNKNOWN, _ = mint("dev", "acme", ALL_SCOPES, now_ms=1, new_secret=new_secret)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("own-tables")
    for name in ("functions", "layers"):
        shutil.copytree(ROOT / name, folder / name)
    for step in FILE.finditer(PAGE):
        (folder / step["path"]).write_text(step["text"])
    template = (ROOT / "template.yaml").read_text()
    for step in INSERT.finditer(PAGE):
        assert template.count(step["anchor"]) == 1
        template = template.replace(step["anchor"], step["text"] + step["anchor"])
    (folder / "template.yaml").write_text(template)
    with running(folder / "run", template=folder / "template.yaml") as stack:
        yield stack


def place(stack: Stack, number: str) -> requests.Response:
    return requests.post(
        f"{stack.url}/orders", json={"order": number}, headers=stack.headers, timeout=60
    )


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ({}, (401, {"message": "Unauthorized"})),
        ({"Authorization": "Bearer nonsense"}, (403, {"message": "Forbidden"})),
        ({"Authorization": f"Bearer {UNKNOWN}"}, (403, {"message": "Forbidden"})),
    ],
    ids=["none", "no key", "an unknown key"],
)
def test_request_without_a_valid_key_never_reaches_the_function(
    stack: Stack, headers: dict[str, str], answer: tuple[int, dict[str, str]]
) -> None:
    before = invocations(stack)
    reply = requests.post(f"{stack.url}/orders", json={"order": "9"}, headers=headers, timeout=60)
    assert (reply.status_code, reply.json()) == answer
    assert place(stack, "10").status_code == 202
    assert invocations(stack) == before + 1
    assert orders(stack, "9") == (0, 0)


def invocations(stack: Stack) -> int:
    """Returns how often the function was invoked."""
    return len([line for line in stack.log("PlaceOrder") if line["type"] == "start"])


def fail_next(stack: Stack, kind: str, times: int) -> None:
    """Makes the next transactions of the function fail in the emulator."""
    fault = {"function": "PlaceOrder", "action": "dynamodb:PutItem", "kind": kind, "times": times}
    assert stack.control("faults", fault).ok


def counted(stack: Stack) -> int:
    """Returns the counter when every job has ended; jobs of earlier tests may still run."""
    wait_until(lambda: {job["status"]["S"] for job in jobs(stack)} <= {Status.COMPLETED}, 20)
    return stack.counter("orders")


def jobs(stack: Stack) -> list[dict[str, Any]]:
    return [item for item in stack.items("JobsTable") if item["sk"] == {"S": "job"}]


def orders(stack: Stack, number: str) -> tuple[int, int]:
    """Returns how many orders and how many jobs of a number there are."""
    stored = [item for item in stack.items("OrdersTable") if item["id"]["S"].endswith(f"/{number}")]
    text = f'{{"order":"{number}"}}'
    jobs = [item for item in stack.items("JobsTable") if item.get("payload") == {"S": text}]
    return len(stored), len(jobs)


def test_order_and_its_job_are_stored_and_the_job_runs(stack: Stack) -> None:
    before = counted(stack)
    reply = place(stack, "7")
    assert reply.status_code == 202, reply.text
    job = stack.job(reply.json()["job"], wait=20)
    assert (job["status"], job["payload"]) == ("succeeded", {"order": "7"})
    assert (orders(stack, "7"), stack.counter("orders")) == ((1, 1), before + 1)


def test_repeat_of_the_request_answers_with_the_same_job(stack: Stack) -> None:
    replies = [place(stack, "8") for _ in range(3)]
    assert {(reply.status_code, reply.json()["job"]) for reply in replies} == {
        (202, replies[0].json()["job"])
    }
    assert orders(stack, "8") == (1, 1)


@pytest.mark.parametrize("kind", ["lose", "refuse"])
def test_lost_answer_within_one_call_is_repeated_by_the_sdk(stack: Stack, kind: str) -> None:
    fail_next(stack, kind, ATTEMPTS - 1)
    assert place(stack, f"sdk-{kind}").status_code == 202
    assert orders(stack, f"sdk-{kind}") == (1, 1)


@pytest.mark.parametrize(("kind", "stored"), [("lose", (1, 1)), ("refuse", (0, 0))])
def test_lost_answer_of_every_try_is_a_503_that_the_caller_repeats(
    stack: Stack, kind: str, stored: tuple[int, int]
) -> None:
    before, number = counted(stack), f"all-{kind}"
    fail_next(stack, kind, ATTEMPTS)
    lost = place(stack, number)
    assert (lost.status_code, lost.json()["code"]) == (503, "store-unavailable")
    assert orders(stack, number) == stored
    reply = place(stack, number)
    assert reply.status_code == 202, reply.text
    assert stack.job(reply.json()["job"], wait=20)["status"] == "succeeded"
    assert orders(stack, number) == (1, 1)
    assert counted(stack) == before + 1


def test_role_of_the_page_has_what_the_function_uses_and_no_more(stack: Stack) -> None:
    place(stack, "roles")
    roles = stack.control("roles").json()
    grants = [grant for grant in roles["grants"] if grant["function"] == "PlaceOrder"]
    of_tables = [grant for grant in grants if grant["action"].startswith("dynamodb:")]
    assert [(grant["action"], grant["used"] > 0) for grant in of_tables] == [
        ("dynamodb:PutItem", True)
    ] * 2
    assert [refused for refused in roles["refused"] if refused["function"] == "PlaceOrder"] == []
