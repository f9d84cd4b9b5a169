"""The remains of a full run of the stack.

Each permission is used, none is missing, and no secret is left.
"""

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from mayfly_testing.stack import MAYFLY
from tests.support.tour import Tour, touring

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    with touring(tmp_path_factory.mktemp("tour")) as found:
        yield found


def roles(tour: Tour, *options: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(MAYFLY), "roles", *options],
        cwd=tour.stack.work.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_function_uses_every_permission_of_its_role_and_lacks_none(
    tour: Tour,
) -> None:
    found: dict[str, Any] = json.loads(roles(tour, "--json").stdout)
    assert found["refused"] == []
    assert found["unchecked"] == []
    assert [
        (each["function"], each["action"], each["resource"])
        for each in found["grants"]
        if not each["used"]
    ] == []
    assert len(found["grants"]) > 100
    assert {each["function"] for each in found["grants"]} == set(tour.stack.facts["launches"])
    print(roles(tour).stdout)  # noqa: T201 - the requested table; pytest -rP shows it


def test_command_ends_with_1_if_a_permission_is_unused_or_refused(tour: Tour) -> None:
    assert roles(tour, "--check").returncode == 0
    refused = {
        "function": "Hello",
        "action": "dynamodb:Scan",
        "resource": "arn:aws:dynamodb:::table/x",
        "note": True,
    }
    assert tour.stack.control("check", refused).json() == {"allowed": False}
    done = roles(tour, "--check")
    assert (done.returncode, "refused 1x: Hello dynamodb:Scan" in done.stdout) == (1, True)


def everything_left(tour: Tour) -> dict[str, str]:
    """Returns all that an outsider could obtain, by place.

    The places are logs with metrics and traces, tables, refusals, and the terminal.
    """
    found = {path.name: path.read_text() for path in (tour.stack.work / "logs").iterdir()}
    tables = [name for name in tour.stack.facts["resources"] if name.endswith("Table")]
    found |= {name: json.dumps(tour.stack.items(name), default=repr) for name in tables}
    found["errors"] = "".join(reply.text for reply in tour.replies if reply.status_code >= 400)
    # The development key is printed once, at the start, for its user.
    found["terminal"] = tour.stack.output.replace(tour.stack.key, "")
    return found


def test_no_secret_is_anywhere(tour: Tour) -> None:
    left = everything_left(tour)
    assert len(tour.secrets) >= 8
    assert all(len(secret) >= 20 for secret in tour.secrets)
    assert [
        (where, secret) for where, text in left.items() for secret in tour.secrets if secret in text
    ] == []
    assert all(left.values()), [where for where, text in left.items() if not text]


def test_no_answer_shows_internals(tour: Tour) -> None:
    words = (
        "Traceback",
        "botocore",
        "boto3",
        ".py",
        "arn:aws",
        "AccessDenied",
        "site-packages",
        *tour.stack.facts["resources"].values(),
    )
    said = "".join(reply.text + str(reply.headers) for reply in tour.replies)
    assert [word for word in words if word in said] == []


def test_every_answer_has_the_headers_of_an_api(tour: Tour) -> None:
    assert len(tour.replies) > 100
    for reply in tour.replies:
        where = (reply.request.method, reply.request.path_url, reply.status_code)
        assert reply.headers["Cache-Control"] == "no-store", where
        assert reply.headers["X-Content-Type-Options"] == "nosniff", where
        assert reply.headers["Strict-Transport-Security"] == "max-age=31536000", where
        assert (
            reply.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"
        ), where
        assert reply.headers["Referrer-Policy"] == "no-referrer", where
