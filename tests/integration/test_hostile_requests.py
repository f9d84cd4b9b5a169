"""Malformed requests, byte by byte, to a whole local stack.

Each is refused, and the next one is served.
"""

import json
import socket
from contextlib import suppress

import pytest
import requests

from mayfly_testing.stack import Stack


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    return shared_stack


def send(stack: Stack, raw: bytes) -> bytes:
    """Returns all bytes of the answer, until the server closes the connection.

    The answer is empty if it only closes the connection.
    """
    with socket.create_connection(("127.0.0.1", stack.port), timeout=30) as connection:
        with suppress(ConnectionError):
            connection.sendall(raw)
        received = b""
        with suppress(ConnectionError):
            while part := connection.recv(65536):
                received += part
    return received


def post(key: str, body: bytes, *headers: bytes, path: bytes = b"/jobs") -> bytes:
    lines = [
        b"POST " + path + b" HTTP/1.1",
        b"Host: localhost",
        b"Connection: close",
        b"Authorization: Bearer " + key.encode(),
        *headers,
    ]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


def get(path: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join(
        [
            b"GET " + path + b" HTTP/1.1",
            b"Host: localhost",
            b"Connection: close",
            *headers,
            b"",
            b"",
        ]
    )


JOB = b'{"task": "counter.add", "payload": {"name": "n"}}'


@pytest.mark.parametrize(
    ("raw", "statuses"),
    [
        (lambda key: b"\x00\xff\xfe nonsense\r\n\r\n", {400}),
        (lambda key: b"GET / HTTP/9.9\r\n\r\n", {400, 505}),
        (lambda key: get(b"/" + b"a" * 20_000), {400, 404, 414}),
        (lambda key: get(b"/counters/" + b"a" * 5000, b"Authorization: Bearer " + key.encode()),
        {400, 404}),
        (lambda key: get(b"/counters/%ff%fe", b"Authorization: Bearer " + key.encode()), {400}),
        (lambda key: get(b"/counters/%00", b"Authorization: Bearer " + key.encode()), {400}),
        (lambda key: get(b"/jobs?status=%ff&cursor=%c0%80",
        b"Authorization: Bearer " + key.encode()), {400}),
        (lambda key: get(b"/jobs?" + b"&".join(b"a%d=1" % n for n in range(2000)),
        b"Authorization: Bearer " + key.encode()), {400, 414}),
        (lambda key: get(b"/", b"X-Bomb: " + b"a" * 200_000), {400, 431}),
        (lambda key: get(b"/", *[b"X-%d: a" % n for n in range(5000)]), {200, 400, 431}),
        (lambda key: get(b"/jobs/x", b"Authorization: Bearer \xff\xfe" + b"a" * 3000), {400, 401}),
        (lambda key: get(b"/", b"Accept: application/json",
        b"Cookie: visitor=\xff\x01; visitor=" + b"a" * 5000), {200, 400}),
        (lambda key: post(key, JOB, b"Content-Length: 3"), {400}),
        (lambda key: post(key, b"").replace(b"Content-Length: 0", b"Content-Length: -5"), {400}),
        (lambda key: post(key, JOB, b"Transfer-Encoding: chunked"), {400}),
        # Its body is read without decoding.
        (lambda key: post(key, JOB, b"Content-Encoding: gzip"), {202, 400}),
        (lambda key: post(key, b"\xff\xfe\x00{"), {400}),
        (lambda key: post(key, b"\xef\xbb\xbf" + JOB), {400}),
        (lambda key: post(key, b"[" * 100_000), {400}),
        (lambda key: post(key, b'{"task": "counter.add", "task": "sleep"}'), {400}),
        (lambda key: post(key, b'{"task": "counter.add", "payload": NaN}'), {400}),
        (lambda key: post(key, b'{"task": "counter.add", "payload": 1e999}'), {400}),
        (lambda key: post(key, b'{"task": "counter.add", "payload": ' + b"9" * 100_000 + b"}"),
        {400}),
        (lambda key: post(key, b'{"task": "counter.add", "payload": "\\ud800"}'), {400}),
        (lambda key: post(key, JOB, b"Idempotency-Key: " + b"a" * 256), {400}),
        (lambda key: post(key, b'{"payload": "' + b"x" * (2 * 1024 * 1024) + b'"}'), {413}),
        (lambda key: post(key, b"x" * (7 * 1024 * 1024)), {413}),
        (lambda key: post(key, b"x" * (11 * 1024 * 1024)), {413}),
    ],
)  # fmt: skip
def test_malformed_request_is_refused_and_the_next_one_is_served(
    stack: Stack, raw: object, statuses: set[int | None]
) -> None:
    assert callable(raw)
    received = send(stack, raw(stack.key))
    head, _, body = received.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1]) if received else None
    assert status in statuses, received[:500]
    assert not [
        word for word in (b"Traceback", b"aiohttp.", b"site-packages", b".py") if word in body
    ], body[:500]
    assert stack.get("/health").json() == {"status": "ok"}


def test_second_credential_in_a_request_affects_only_that_request(stack: Stack) -> None:
    """The gateway caches an answer under all values that the authorizer received."""
    both = get(b"/jobs/x", b"Authorization: Bearer " + stack.key.encode(), b"Authorization: x")
    assert send(stack, both).split(b" ")[1] == b"401"
    assert stack.get("/jobs/x", headers=stack.headers).status_code == 404


def test_no_malformed_request_caused_an_unforeseen_error(stack: Stack) -> None:
    """Runs after the others, in their order.

    No function has failed or died, and the gateway has answered no 500.
    """
    requests.post(
        f"{stack.url}/jobs", data=json.dumps({"task": 1}), headers=stack.headers, timeout=60
    )
    answered = [each for each in stack.log("mayfly") if each["type"] == "request"]
    assert len([each for each in answered if each["path"] != "/health"]) > 15
    assert [each for each in answered if each["status"] >= 500] == []
    for function in ("Hello", "Jobs", "Counters", "AwaitJob", "IdentifyCallers"):
        said = stack.log(function)
        assert [
            each
            for each in said
            if each["type"] == "invocation failed" or "unexpected error" in str(each)
        ] == []
