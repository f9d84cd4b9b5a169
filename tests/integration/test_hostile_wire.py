"""Hostile requests to the API: framing, addresses and bodies.

Each gets its expected answer, and the next one is served.
"""

import re
import socket
from collections.abc import Callable
from contextlib import suppress

import pytest

from mayfly_testing.stack import Stack

JSON = b"Content-Type: application/json\r\n"
TASK = b'{"task":"counter.add","payload":'
CHUNKED = b"POST /jobs HTTP/1.1\r\nHost: localhost\r\n%sTransfer-Encoding: chunked\r\n\r\n"

Build = Callable[[bytes], bytes]


@pytest.fixture
def stack(shared_stack: Stack) -> Stack:
    return shared_stack


def exchange(stack: Stack, raw: bytes, *, seconds: float = 3) -> tuple[list[int], bytes]:
    """Returns all that is received within a time: the statuses and the bytes.

    A reset loses unread bytes, and counts as no answer.
    """
    received = b""
    with (
        socket.create_connection(("127.0.0.1", stack.port), timeout=seconds) as connection,
        suppress(TimeoutError),
    ):
        connection.sendall(raw)
        while part := connection.recv(65536):
            received += part
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d{3})", received)], received


def auth(stack: Stack) -> bytes:
    return f"Authorization: Bearer {stack.key}\r\n".encode()


def request(method: bytes, path: bytes, body: bytes = b"", headers: bytes = b"") -> Build:
    length = b"Content-Length: %d\r\n" % len(body) if body else b""
    return lambda key: (
        method
        + b" "
        + path
        + b" HTTP/1.1\r\nHost: localhost\r\n"
        + key
        + b"Connection: close\r\n"
        + headers
        + length
        + b"\r\n"
        + body
    )


def framed(lines: bytes) -> Build:
    return lambda key: b"POST /jobs HTTP/1.1\r\nHost: localhost\r\n" + key + lines


FRAMES: dict[str, tuple[Build, int]] = {
    "ten megabytes of one header": (request(b"GET", b"/health",
    headers=b"X-A: " + b"a" * 10_000_000 + b"\r\n"), 400),
    "a hundred thousand headers": (request(b"GET", b"/health",
    headers=b"".join(b"X-%d: %s\r\n" % (n, b"a" * 90) for n in range(100_000))), 400),
    "a chunk size of letters": (lambda key: CHUNKED % key + b"ZZZ\r\nabc\r\n0\r\n\r\n", 400),
    "a negative chunk size": (lambda key: CHUNKED % key + b"-5\r\nabc\r\n0\r\n\r\n", 400),
    "a chunk size of 80 bits": (lambda key: CHUNKED % key + b"f" * 20 + b"\r\nabc\r\n", 400),
    "a chunk extension of 100 KB": (lambda key: CHUNKED % key + b"1;" + b"a" * 100_000
    + b"\r\na\r\n0\r\n\r\n", 400),
    "a length and chunks": (framed(b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"0\r\n\r\nGET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"), 400),
    "two lengths": (framed(b"Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcde"), 400),
    "an unknown coding": (framed(b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"), 400),
    "chunked and more": (framed(b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"), 400),
    "two codings": (framed(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n"
    b"0\r\n\r\n"), 400),
    "a length with a sign": (framed(b"Content-Length: +5\r\n\r\nabcde"), 400),
    "a length with an underscore": (framed(b"Content-Length: 1_0\r\n\r\nabcdeabcde"), 400),
    "a length of 31 digits": (framed(b"Content-Length: 1" + b"0" * 30 + b"\r\n\r\nabcde"), 400),
    "a space before the colon": (lambda key: b"GET /health HTTP/1.1\r\nHost : localhost\r\n\r\n",
    400),
    "bare line feeds": (lambda key: b"GET /health HTTP/1.1\nHost: localhost\n\n", 400),
    "a folded header": (lambda key: b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    b"X-A: a\r\n b\r\nConnection: close\r\n\r\n", 400),
    "no host": (lambda key: b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
    "two hosts": (lambda key: b"GET /health HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n"
    b"Connection: close\r\n\r\n", 400),
    "a zero byte in a header": (lambda key: b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    b"X-A: a\0b\r\n\r\n", 400),
    "a zero byte in the path": (lambda key: b"GET /hea\0lth HTTP/1.1\r\nHost: localhost\r\n\r\n",
    400),
    "HTTP/0.9": (lambda key: b"GET /health\r\n\r\n", 400),
    "HTTP/2 without negotiation": (lambda key: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
    "HTTP/9.9": (lambda key: b"GET /health HTTP/9.9\r\nHost: localhost\r\n\r\n", 400),
    "TLS": (lambda key: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)) * 2,
    400),
    "CONNECT": (lambda key: b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n", 403),
    "a foreign host": (lambda key: b"GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
    "an unsupported upgrade": (request(b"GET", b"/",
    headers=b"Upgrade: websocket\r\nSec-WebSocket-Key: eA==\r\n"), 200),
}  # fmt: skip

PATHS: dict[bytes, int] = {
    b"/../../etc/passwd": 404,
    b"/jobs/../health": 404,
    b"/jobs/..%2f..%2fhealth": 400,
    b"/jobs/%252e%252e%252f": 404,
    b"/jobs/%00": 400,
    b"/counters/%00/increment": 405,
    b"/counters/%ff%fe": 400,
    b"/counters/a%2Fb": 400,
    b"//health": 404,
    b"/health/": 404,
    b"/health%20": 404,
    b"/jobs/" + b"a" * 8000: 404,
    b"/jobs/" + b"%F0%9F%92%A9" * 300: 400,
    b"*": 400,
    b"http://evil.example/health": 403,
    b"/health?" + b"&".join([b"a=1"] * 1500): 200,
    b"/jobs?status=dead&cursor=%00%ff": 400,
    b"/jobs/x?wait=1e400": 400,
    b"/jobs/x?wait=-1": 400,
    b"/jobs/x?wait=99999999999999999999": 400,
    b"/subjects/%2e%2e/sessions": 400,
    b"/schedules/%0a": 400,
}

BODIES: dict[str, tuple[bytes, int]] = {
    "brackets that never close": (b"[" * 100_000, 400),
    "deep brackets": (b"[" * 100_000 + b"]" * 100_000, 400),
    "deep objects": (TASK + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", 400),
    "a name twice": (b'{"task":"counter.add","task":"x","payload":{"name":"h"}}', 400),
    "a number beyond doubles": (TASK + b'{"name":"h","by":1e400}}', 400),
    "NaN": (TASK + b'{"name":"h","by":NaN}}', 400),
    "five thousand digits": (TASK + b'{"name":"h","by":1' + b"0" * 5000 + b"}}", 400),
    "minus zero": (TASK + b'{"name":"h","by":-0.0}}', 202),
    "half a surrogate": (TASK + b'{"name":"\\ud800"}}', 400),
    "bytes that are not UTF-8": (TASK + b'{"name":"\xff"}}', 400),
    "a byte order mark": (b"\xef\xbb\xbf" + TASK + b'{"name":"h"}}', 400),
    "UTF-16": ((TASK + b'{"name":"h"}}').decode().encode("utf-16"), 400),
    "UTF-16 without a mark": ((TASK + b'{"name":"h"}}').decode().encode("utf-16-le"), 400),
    "UTF-32": ((TASK + b'{"name":"h"}}').decode().encode("utf-32"), 400),
    "a space": (b" ", 400),
    "null": (b"null", 400),
    "a list": (b"[]", 400),
    "six megabytes of text": (TASK + b'{"name":"' + b"a" * 6_000_000 + b'"}}', 413),
    "just below the gateway's limit": (TASK + b'{"name":"' + b"a" * 5_900_000 + b'"}}', 413),
    "twelve megabytes": (b"a" * 12_000_000, 413),
    "a hundred thousand names": (
        TASK + b"{" + b",".join(b'"k%d":1' % n for n in range(100_000)) + b"}}",
        413,
    ),
    "the year 99999": (TASK + b'{"name":"h"},"run_at":"99999-01-01T00:00:00Z"}', 400),
}

ROUTES = [
    (b"POST", b"/counters/c/increment", 400),
    (b"POST", b"/limits/l/take", 400),
    (b"POST", b"/sessions", 201),
    (b"PATCH", b"/sessions/current", 404),
    (b"PUT", b"/schedules/s", 400),
    (b"POST", b"/jobs", 400),
]
WRONG = [
    b"{",
    b"[" * 5000,
    b'{"by":1e400,"key":"k","algorithm":"gcra","limit":1e400,"period_seconds":1e400,'
    b'"subject":"s","idle_seconds":1e400,"rate":"rate(1e400 minutes)"}',
    b"\x00" * 100,
    b'"' + b"\\u0000" * 1000 + b'"',
]


def check(stack: Stack, raw: bytes, status: int, *, seconds: float = 3) -> None:
    statuses, received = exchange(stack, raw, seconds=seconds)
    assert statuses[:1] == [status], received[:300]
    assert not [
        trace for trace in (b"Traceback", b".py", b"got itself in trouble") if trace in received
    ]
    assert stack.get("/health").status_code == 200


@pytest.mark.parametrize("name", FRAMES)
def test_frame_gets_its_expected_answer(stack: Stack, name: str) -> None:
    build, status = FRAMES[name]
    check(stack, build(auth(stack)), status)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path[:40].decode())
def test_address_gets_its_expected_answer(stack: Stack, path: bytes) -> None:
    # The connection ends with the answer, which waits for the start of a function.
    check(stack, request(b"GET", path)(auth(stack)), PATHS[path], seconds=30)


@pytest.mark.parametrize("name", BODIES)
def test_body_gets_its_expected_answer(stack: Stack, name: str) -> None:
    body, status = BODIES[name]
    check(stack, request(b"POST", b"/jobs", body, JSON)(auth(stack)), status, seconds=30)


@pytest.mark.parametrize(
    ("method", "path", "otherwise"),
    ROUTES,
    ids=lambda value: value.decode() if isinstance(value, bytes) else "",
)
def test_every_route_refuses_malformed_json_and_json_of_other_routes(
    stack: Stack, method: bytes, path: bytes, otherwise: int
) -> None:
    for body in WRONG:
        check(stack, request(method, path, body, JSON)(auth(stack)), 400)
    hostile = (
        JSON + b"Session-Token: " + b"\xff" * 200 + b"\r\nIdempotency-Key: " + b"k" * 4000 + b"\r\n"
    )
    check(stack, request(method, path, b"{}", hostile)(auth(stack)), otherwise)
