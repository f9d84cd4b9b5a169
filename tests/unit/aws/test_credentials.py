"""Credentials from the endpoint that a process with SnapStart has."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, ClassVar

import pytest
from mayfly.aws.credentials import Credentials, CredentialSource
from mayfly.aws.errors import Unanswered

from tests.support.fakes import FixedClock

START = 1_800_000_000_000  # 2027-01-15T08:00:00Z


class Endpoint(BaseHTTPRequestHandler):
    """Gives numbered keys to callers that have the token."""

    answers: ClassVar[list[str]] = []
    ends = "2027-01-15T09:00:00Z"

    def do_GET(self) -> None:
        known = self.headers["Authorization"] == "token"
        self.answers.append(self.path)
        key = {
            "AccessKeyId": f"key{len(self.answers)}", "SecretAccessKey": "secret", "Token": "t",
            "Expiration": self.ends,
        }  # fmt: skip
        self.send_response(200 if known else 403)
        self.end_headers()
        self.wfile.write(json.dumps(key if known else {"message": "no"}).encode())

    def log_message(self, *_: Any) -> None:
        """Prints nothing."""


@pytest.fixture
def env() -> Iterator[dict[str, str]]:
    Endpoint.answers.clear()
    with HTTPServer(("127.0.0.1", 0), Endpoint) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://127.0.0.1:{server.server_port}/keys",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "token",
        }
        server.shutdown()


def test_credentials_are_fetched_once_until_shortly_before_they_end(env: dict[str, str]) -> None:
    clock = FixedClock(START)
    source = CredentialSource(env, clock)
    assert source.read() == Credentials("key1", "secret", "t")
    clock.advance(3600 - 301)
    assert source.read().key_id == "key1"
    clock.advance(2)
    assert source.read().key_id == "key2"
    assert Endpoint.answers == ["/keys", "/keys"]


def test_refused_credentials_are_fetched_again(env: dict[str, str]) -> None:
    source = CredentialSource(env, FixedClock(START))
    assert source.read().key_id == "key1"
    source.forget(Credentials("another", "secret"))
    assert source.read().key_id == "key1"
    source.forget(source.read())
    assert source.read().key_id == "key2"


def test_key_in_the_environment_comes_first(env: dict[str, str]) -> None:
    env |= {"AWS_ACCESS_KEY_ID": "mine", "AWS_SECRET_ACCESS_KEY": "secret"}
    assert CredentialSource(env, FixedClock(START)).read() == Credentials("mine", "secret")
    assert Endpoint.answers == []


def test_endpoint_that_refuses_is_a_lost_answer(env: dict[str, str]) -> None:
    env["AWS_CONTAINER_AUTHORIZATION_TOKEN"] = "other"
    with pytest.raises(Unanswered, match="CredentialRetrievalError"):
        CredentialSource(env, FixedClock(START)).read()


def test_credentials_show_no_secret() -> None:
    assert "secret" not in repr(Credentials("key", "secret", "secret"))
