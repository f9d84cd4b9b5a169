"""Access control on a whole local stack.

Tests every route with every kind of credential, and API keys through their whole life.
"""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from mayfly_local.stack_file import StackFile
from mayfly_testing.stack import MAYFLY, ROOT, Stack, running, wait_until
from tools.access import CREDENTIALS, MARK, Matrix, expected, is_shown

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("access")
    with running(folder, work=folder / ".mayfly") as found:
        yield found


@pytest.fixture(scope="module")
def matrix(stack: Stack) -> Matrix:
    return Matrix.of(StackFile.read(stack.work))


@pytest.mark.parametrize("credential", CREDENTIALS)
def test_every_route_answers_every_credential_as_it_must(matrix: Matrix, credential: str) -> None:
    cells = {route: matrix.ask(route, credential) for route in matrix.routes}
    wrong = {
        route: cell.status
        for route, cell in cells.items()
        if cell.status not in expected(route, matrix.routes[route], credential)
    }
    assert wrong == {}
    assert len(cells) >= 27
    if credential != "right":
        assert [route for route, cell in cells.items() if is_shown(cell)] == []
        assert [route for route, cell in cells.items() if not cell.is_untouched] == []
    else:
        assert {route for route, cell in cells.items() if not cell.is_untouched} >= {
            "DELETE /counters/{name}",
            "DELETE /schedules/{name}",
            "DELETE /subjects/{subject}/sessions",
            "POST /jobs/{id}/cancel",
            "POST /counters/{name}/increment",
        }


def test_owner_can_read_resources_that_are_hidden_from_other_callers(matrix: Matrix) -> None:
    shown = {route for route in matrix.routes if MARK in matrix.ask(route, "right").text}
    assert {
        "GET /jobs",
        "GET /jobs/{id}",
        "GET /sessions/current",
        "GET /subjects/{subject}/sessions",
        "GET /schedules",
    } <= shown


def test_command_prints_the_table_and_ends_with_1_without_a_stack(stack: Stack) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.access", "--work", "nowhere"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "no local stack is running here" in done.stderr) == (1, True)


def keys(stack: Stack, *arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [str(MAYFLY), "keys", *arguments],
        cwd=stack.work.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
    return done


def status(stack: Stack, key: str) -> Any:
    return stack.get("/jobs/x", headers={"Authorization": f"Bearer {key}"}).status_code


def test_key_works_from_its_creation_to_its_revocation(stack: Stack) -> None:
    made = json.loads(
        keys(stack, "create", "--tenant", "life", "--scope", "jobs:read", "--json").stdout
    )
    assert made["key"].startswith("mf_dev_")  # on the local stack
    assert status(stack, made["key"]) == 404  # authorized: there is no such job
    (listed,) = [
        json.loads(line)
        for line in keys(stack, "list", "--tenant", "life", "--json").stdout.splitlines()
    ]
    assert listed["last_used_at"] is not None
    assert "key" not in listed
    rotated = json.loads(
        keys(stack, "rotate", made["id"], "--tenant", "life", "--overlap", "1", "--json").stdout
    )
    assert (rotated["scopes"], status(stack, rotated["key"]), status(stack, made["key"])) == (
        ["jobs:read"],
        404,
        404,
    )
    # The gateway's cache admits a key for one minute after its last check: see docs/http.md.
    keys(stack, "revoke", rotated["id"], "--tenant", "life")
    assert status(stack, rotated["key"]) == 404
    again = json.loads(
        keys(stack, "create", "--tenant", "life", "--scope", "jobs:read", "--json").stdout
    )
    keys(stack, "revoke", again["id"], "--tenant", "life")
    assert status(stack, again["key"]) == 401
    assert "no keys" in keys(stack, "list", "--tenant", "nobody").stderr
    table = keys(stack, "list", "--tenant", "life").stdout
    assert made["id"] in table
    assert again["id"] not in table


def test_rotation_without_an_overlap_ends_the_old_key_now(stack: Stack) -> None:
    made = json.loads(keys(stack, "create", "--tenant", "now", "--json").stdout)
    keys(stack, "rotate", made["id"], "--tenant", "now", "--overlap", "0")
    reply = stack.get("/jobs/x", headers={"Authorization": f"Bearer {made['key']}"})
    assert (reply.status_code, "has expired" in reply.json()["detail"]) == (401, True)


def test_expired_key_has_no_successor(stack: Stack) -> None:
    made = json.loads(
        keys(stack, "create", "--tenant", "late", "--expires-in", "0.00001", "--json").stdout
    )
    wait_until(
        lambda: json.loads(keys(stack, "list", "--tenant", "late", "--json").stdout)["expired"], 10
    )
    said = keys(stack, "rotate", made["key"], "--tenant", "late", code=1).stderr
    assert "has expired and cannot be rotated" in said
    assert made["key"] not in said
    assert len(keys(stack, "list", "--tenant", "late", "--json").stdout.splitlines()) == 1


def test_roles_that_were_not_all_used_are_reported(stack: Stack) -> None:
    done = subprocess.run(
        [str(MAYFLY), "roles", "--check", "--unused"],
        cwd=stack.work.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (
        done.returncode,
        "DeliverWebhooks  ssm:GetParameter" in done.stdout,
        "Hello" in done.stdout,
    ) == (1, True, True)
    assert " unused, 0 refused" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["revoke", "nothing"], 1, "no key 'nothing'"),
        (["rotate", "nothing"], 1, "no key 'nothing'"),
        (["create", "--expires-in", "soon"], 2, "not a number of days"),
        (["create", "--expires-in", "0"], 2, "opens nothing"),
        (["create", "--scope", "everything"], 2, "'everything' is not one of"),
        (["list", "--tenant", "a b"], 2, "must match"),
    ],
)
def test_invalid_call_of_keys_names_the_problem(
    stack: Stack, arguments: list[str], code: int, said: str
) -> None:
    assert said in keys(stack, *arguments, code=code).stderr


def test_key_of_another_tenant_is_not_revoked(stack: Stack) -> None:
    made = json.loads(keys(stack, "create", "--tenant", "mine", "--json").stdout)
    keys(stack, "revoke", made["id"], "--tenant", "theirs", code=1)
    keys(stack, "rotate", made["id"], "--tenant", "theirs", code=1)
    assert status(stack, made["key"]) == 404
