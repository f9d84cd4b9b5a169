"""Cookies and the check for cross-site requests: texts in, texts out."""

import pytest
from mayfly.core.errors import InvalidRequest
from mayfly.sessions.rules import merge_patch
from mayfly.sessions.web.cookies import Cookie, is_cross_site, is_plain_loopback
from mayfly.sessions.wire import read_cursor, read_if_match, write_cursor


def test_cookie_is_bound_to_its_host_and_hidden_from_scripts() -> None:
    cookie = Cookie("s")
    assert cookie.set("t", plain=False) == "__Host-s=t; Path=/; HttpOnly; SameSite=Lax; Secure"
    assert cookie.set("t", plain=False, max_age=60).endswith("; Secure; Max-Age=60")
    assert cookie.set("t", plain=True) == "s=t; Path=/; HttpOnly; SameSite=Lax"
    assert (
        cookie.clear(plain=False) == "__Host-s=; Path=/; HttpOnly; SameSite=Lax; Secure; Max-Age=0"
    )


@pytest.mark.parametrize(
    ("scheme", "host", "plain"),
    [
        ("http", "localhost:3000", True),
        ("http", "127.0.0.1", True),
        ("http", "[::1]:3000", True),
        ("http", "0.0.0.0:8000", True),
        ("http", "[::]:8000", True),
        ("http", "127.255.0.1:8000", True),
        ("http", "app.localhost:8000", True),
        ("http", "a.b.LOCALHOST.", True),
        ("http", "notlocalhost", False),
        ("http", "128.0.0.1", False),
        ("http", "192.168.1.5:8000", False),
        ("http", "testserver", False),
        ("https", "localhost:3000", False),
        ("http", "app.example.org", False),
        ("http", "localhost.example.org", False),
        ("http", "127.0.0.1.example.org", False),
        ("http", "", False),
        ("http", "[", False),
    ],
)
def test_cookie_has_no_prefix_only_on_plain_http_to_this_machine(
    scheme: str, host: str, plain: bool
) -> None:
    assert is_plain_loopback(scheme, {"host": host}) is plain
    # A proxy on this machine.
    assert not is_plain_loopback(scheme, {"host": host, "x-forwarded-proto": "https"})
    assert not is_plain_loopback(scheme, {"host": host, "x-forwarded-for": "10.1.1.1"})
    assert not is_plain_loopback(
        scheme, {"host": host, "forwarded": "proto=https", "x-forwarded-proto": "http"}
    )
    # The local API, whose client used HTTP.
    forwarded = {"x-forwarded-for": "127.0.0.1", "x-forwarded-proto": "http"}
    assert is_plain_loopback(scheme, {"host": host, **forwarded}) is plain


@pytest.mark.parametrize(
    ("cookies", "token"),
    [
        (["a=1", " __Host-s=t"], "t"),
        (["__Host-s=first", "__Host-s=second"], "first"),
        (["__Host-s="], None),
        (["s=t"], None),  # a page of a sibling host could have planted it
        (["x__Host-s=t"], None),
        ([""], None),
    ],
)
def test_only_the_cookie_of_the_right_name_holds_a_token(
    cookies: list[str], token: str | None
) -> None:
    assert Cookie("s").token_in(cookies, plain=False) == token


HERE = "app.example.org"


@pytest.mark.parametrize(
    ("headers", "is_refused"),
    [
        ({}, False),  # not a browser
        ({"sec-fetch-site": "same-origin"}, False),
        ({"sec-fetch-site": "none"}, False),
        ({"sec-fetch-site": "same-site"}, True),
        ({"sec-fetch-site": "cross-site"}, True),
        ({"sec-fetch-site": "made-up"}, True),
        ({"sec-fetch-site": "cross-site", "origin": f"https://{HERE}"}, True),
        # A page cannot set it; a proxy may rewrite Origin.
        (
            {"sec-fetch-site": "same-origin", "origin": "https://evil.example"},
            False,
        ),
        ({"origin": f"https://{HERE}"}, False),
        ({"origin": "https://evil.example"}, True),
        ({"origin": f"https://{HERE}.evil.example"}, True),
        ({"origin": "null"}, True),
        ({"origin": ""}, True),
        ({"origin": "http://[x"}, True),
        ({"origin": f"https://{HERE}:443"}, False),
        ({"origin": f"https://{HERE}:444"}, True),
        ({"origin": "https://admin.example.org"}, False),
        ({"sec-fetch-site": "same-site", "origin": "https://admin.example.org"}, False),
    ],
)
@pytest.mark.parametrize("method", ["POST", "DELETE", "CONNECT"])
def test_request_from_another_site_that_may_change_data_is_refused(
    method: str, headers: dict[str, str], is_refused: bool
) -> None:
    verdict = is_cross_site(
        method, {"host": HERE, **headers}, trusted_origins=["https://admin.example.org"]
    )
    assert verdict is is_refused


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_request_that_changes_nothing_may_come_from_any_site(method: str) -> None:
    assert not is_cross_site(
        method, {"host": HERE, "sec-fetch-site": "cross-site", "origin": "https://evil.example"}
    )


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [  # RFC 7396, appendix A, those whose target and patch are objects
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merge_patch_works_as_in_the_examples_of_its_rfc(
    target: dict[str, object], patch: dict[str, object], result: dict[str, object]
) -> None:
    before = repr(target)
    assert merge_patch(target, patch) == result
    assert repr(target) == before


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        (None, None),
        ("*", None),
        ('"3"', {"3"}),
        ('"3", "4"', {"3", "4"}),
        ('W/"3"', set()),
        ('W/"3", "4"', {"4"}),
        (' "3" ', {"3"}),
    ],
)
def test_if_match_names_versions(header: str | None, allowed: set[str] | None) -> None:
    assert read_if_match(header) == allowed


@pytest.mark.parametrize("header", ["3", '"3', "", '"3" "4"', "*, *"])
def test_if_match_that_is_not_a_list_of_tags_is_rejected(header: str) -> None:
    with pytest.raises(InvalidRequest, match="If-Match"):
        read_if_match(header)


@pytest.mark.parametrize(
    "cursor", ["", "x", "\N{SNOWMAN}", write_cursor("x" * 32), write_cursor("0" * 33), "A" * 5000]
)
def test_malformed_cursor_is_rejected(cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="cursor"):
        read_cursor(cursor)


def test_cursor_is_read_as_it_was_written() -> None:
    assert [read_cursor(write_cursor(session_id)) for session_id in ("0" * 32, "")] == [
        "0" * 32,
        "",
    ]
