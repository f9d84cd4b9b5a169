"""Rules of webhooks: accepted URLs, public addresses, signatures, and the times of retries."""

import base64
import ipaddress
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mayfly.core.errors import InvalidRequest
from mayfly.webhooks.errors import BadSecret, ForbiddenAddress
from mayfly.webhooks.model import LOCAL, PUBLIC
from mayfly.webhooks.rules import (
    check_addresses,
    content,
    headers,
    pause_seconds,
    read_endpoint,
    read_pauses,
    read_secrets,
    read_webhook,
)
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

KEY = b"k" * 32
SECRET = f"whsec_{base64.b64encode(KEY).decode()}"
PAUSES = (5, 300, 1800)

# ---------------------------------------------------------------- URLs and addresses


@pytest.mark.parametrize(
    ("url", "host", "target"),
    [
        ("https://example.org", "example.org", "/"),
        ("https://example.org/hook?x=1&y=%20", "example.org", "/hook?x=1&y=%20"),
        ("https://EXAMPLE.org./a", "example.org", "/a"),
        ("HTTPS://Example.ORG/", "example.org", "/"),
        ("https://example.org?x=1", "example.org", "/?x=1"),
        ("https://example.org:443/a", "example.org", "/a"),
        ("https://xn--bcher-kva.example/", "xn--bcher-kva.example", "/"),
        ("https://9.example.org/", "9.example.org", "/"),
        ("https://1.1.1.1/", "1.1.1.1", "/"),
        ("https://[2606:4700::1111]/", "2606:4700::1111", "/"),
    ],
)
def test_url_is_split_into_its_parts(url: str, host: str, target: str) -> None:
    endpoint = read_endpoint(url, PUBLIC)
    assert (endpoint.host, endpoint.port, endpoint.target) == (host, 443, target)


@pytest.mark.parametrize(
    "url",
    [
        "", "example.org", "//example.org/", "http://example.org/", "ftp://example.org/",
        "file:///etc/passwd", "gopher://example.org/",
        "https:///", "https://", "https://example.org:80/", "https://example.org:8443/",
        "https://example.org:/", "https://example.org:x/",
        "https://example.org:65536/", "https://u@example.org/", "https://u:p@example.org/",
        "https://example.org#x", "https://exa mple.org/",
        "https://example.org/\r\nHost: x", "https://example.org/\x00",
        "https://example.org\\@127.0.0.1/", "https://bücher.example/",
        "https://\uff11\uff12\uff17.0.0.1/", "https://127.1/", "https://0x7f000001/",
        "https://2130706433/", "https://0177.0.0.1/", "https://127.0.0.01/",
        "https://0x7f.0.0.1/", "https://1.2.3/", "https://a..b/", "https://.a/", "https://-a.org/",
        "https://a.1/", "https://a.0x1/",
        "https://[::1", "https://[0:0:0:0:0:0:0:1]/", "https://[::1%25lo]/",
        "https://[fe80::1%eth0]/", "https://%31%32%37.0.0.1/",
        "https://" + "a" * 64 + ".org/", "https://example.org/" + "a" * 2048, "https://{x}.org/",
        "https://example.org/<x>",
    ],
)  # fmt: skip
def test_url_that_two_parsers_might_read_differently_is_rejected(url: str) -> None:
    with pytest.raises(InvalidRequest, match=r"^url: "):
        read_endpoint(url, PUBLIC)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://example.org/h?a=1|2", r"must not have the character \|; escape it as %7C"),
        ("https://example.org/h/{id}", r"must not have the character \{; escape it as %7B"),
        ("https://example.org/id}", r"must not have the character \}; escape it as %7D"),
        ("https://example.org/<x>", r"must not have the character <; escape it as %3C"),
        ("https://example.org/a\\b", r"must not have the character \\; escape it as %5C"),
        ("https://b\u00fccher.example/", "printable ASCII characters; write names as punycode"),
    ],
)
def test_url_with_a_character_to_escape_says_which_and_how(url: str, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=problem):
        read_endpoint(url, PUBLIC)


@pytest.mark.parametrize("query", ["q=[1]", "q=%7C", "x=1"])
def test_url_with_other_characters_in_its_query_is_taken(query: str) -> None:
    assert read_endpoint(f"https://example.org/h?{query}", PUBLIC).target == f"/h?{query}"


def test_local_stack_delivers_to_this_machine_and_not_to_its_neighbours() -> None:
    assert read_endpoint("http://127.0.0.1:9000/hook", LOCAL).authority == "127.0.0.1:9000"
    assert check_addresses("localhost", ["127.0.0.1", "::1"], LOCAL)
    # An address to compare; nothing is bound.
    for address in (
        "192.168.1.1",
        "169.254.169.254",
        "0.0.0.0",
        "fe80::1",
    ):
        with pytest.raises(ForbiddenAddress):
            check_addresses("neighbour", [address], LOCAL)


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.255",
        "127.0.0.1", "127.255.255.254", "169.254.0.1",
        "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.1",
        "192.0.0.8", "192.0.0.170", "192.0.2.1",
        "192.88.99.1", "192.168.0.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
        "224.0.0.1", "239.255.255.250",
        "240.0.0.1", "255.255.255.255",
        "::", "::1", "::7f00:1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:1.1.1.1",
        "::ffff:0:127.0.0.1", "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:0:7f00:1::", "2001:10::1",
        "2001:20::1", "2001:db8::1",
        "2002:7f00:1::1", "2002:a9fe:a9fe::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254",
        "fe80::1", "fe80::1%lo", "2606:4700::1%lo",
        "fec0::1", "ff02::1", "ff0e::1", "4000::1", "no address", "",
    ],
)  # fmt: skip
def test_host_with_an_address_that_is_not_public_is_refused(address: str) -> None:
    for addresses in ([address], ["1.1.1.1", address], [address, "1.1.1.1"]):
        with pytest.raises(ForbiddenAddress):
            check_addresses("example.org", addresses, PUBLIC)


def test_host_without_addresses_is_refused() -> None:
    with pytest.raises(ForbiddenAddress):
        check_addresses("example.org", [], PUBLIC)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "172.15.255.255", "172.32.0.1",
    "100.63.255.255", "100.128.0.1", "223.255.255.255", "2606:4700::1111",
    "2a00:1450::1"])  # fmt: skip
def test_public_address_is_accepted(address: str) -> None:
    assert check_addresses("example.org", [address], PUBLIC) == [address]


@given(st.ip_addresses())
def test_address_that_python_calls_private_is_not_public(address: Any) -> None:
    parsed = ipaddress.ip_address(str(address))
    if (
        parsed.is_private
        or parsed.is_loopback
        or parsed.is_link_local
        or parsed.is_multicast
        or parsed.is_reserved
        or parsed.is_unspecified
    ):
        with pytest.raises(ForbiddenAddress):
            check_addresses("example.org", [str(parsed)], PUBLIC)


# ---------------------------------------------------------------- payloads and signatures


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        (None, "payload"), ({}, "url"), ({"url": 1}, "url"), ({"url": "u", "more": 1}, "more"),
        ({"url": "u", "secret_name": "a/b"}, "secret_name"),
        ({"url": "u", "headers": []}, "headers"), ({"url": "u", "headers": {"Host": "x"}},
        "headers"),
        ({"url": "u", "headers": {"Webhook-Id": "x"}}, "headers"),
        ({"url": "u", "headers": {"content-length": "1"}}, "headers"),
        ({"url": "u", "headers": {"Transfer-Encoding": "chunked"}}, "headers"),
        ({"url": "u", "headers": {"Proxy-Authorization": "x"}}, "headers"),
        ({"url": "u", "headers": {"X": "a\r\nHost: b"}}, "headers"),
        ({"url": "u", "headers": {"X": 1}}, "headers"),
        ({"url": "u", "headers": {"X y": "1"}}, "headers"), ({"url": "u", "headers": {"": "1"}},
        "headers"),
        ({"url": "u", "headers": {"X": "1", "x": "2"}}, "headers"),
        ({"url": "u", "headers": {f"x{n}": "1" for n in range(21)}}, "headers"),
    ],
)  # fmt: skip
def test_malformed_payload_is_rejected_by_its_field(payload: Any, field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_webhook(payload)
    assert refused.value.field == field


def signed(keys: list[bytes], body: bytes = b'{"a":1}', at_s: int | None = None) -> dict[str, str]:
    webhook = read_webhook({"url": "https://example.org/", "headers": {"Authorization": "Basic x"}})
    now_s = int(datetime.now(UTC).timestamp())  # noqa: TID251  # the verifier's clock
    return headers(webhook, keys, "msg_1", body, at_s=at_s or now_s)


def test_signature_is_accepted_by_the_reference_implementation() -> None:
    body = content({"b": [1, "ü"], "a": None})
    sent = signed([KEY], body)
    assert Webhook(SECRET).verify(body.decode(), sent) == {"a": None, "b": [1, "ü"]}
    assert (sent["webhook-id"], sent["Authorization"], sent["Content-Type"]) == (
        "msg_1",
        "Basic x",
        "application/json",
    )


@pytest.mark.parametrize("change", ["body", "webhook-id", "webhook-timestamp", "key"])
def test_signature_covers_id_time_and_body(change: str) -> None:
    sent, text, key = signed([KEY]), '{"a":1}', KEY
    if change == "body":
        text = '{"a":2}'
    elif change == "key":
        key = b"o" * 32
    else:
        sent[change] = str(int(sent["webhook-timestamp"]) - 1) if "time" in change else "msg_2"
    with pytest.raises(WebhookVerificationError):
        Webhook(base64.b64encode(key).decode()).verify(text, sent)


def test_signatures_of_old_and_new_key_are_sent_during_a_change() -> None:
    sent = signed([KEY, b"o" * 24])
    for key in (KEY, b"o" * 24):
        assert Webhook(base64.b64encode(key).decode()).verify('{"a":1}', sent) == json.loads(
            '{"a":1}'
        )


def test_secret_holds_one_key_or_several() -> None:
    assert read_secrets(SECRET, "s") == [KEY]
    assert read_secrets(f" {SECRET}\n whsec_{base64.b64encode(b'o' * 24).decode()} ", "s") == [
        KEY,
        b"o" * 24,
    ]


@pytest.mark.parametrize("text", ["", " ", "whsec_", "whsec_!!!!",
    "whsec_" + base64.b64encode(b"x" * 23).decode(),
    "whsec_" + base64.b64encode(b"x" * 65).decode()])  # fmt: skip
def test_malformed_secret_is_named(text: str) -> None:
    with pytest.raises(BadSecret, match="'orders'"):
        read_secrets(text, "orders")


# ---------------------------------------------------------------- times of retries


def pause(attempt: int, *, status: int | None = None, retry_after: str | None = None) -> float:
    return pause_seconds(
        PAUSES, attempt, "j1", status=status, retry_after=retry_after, now_s=1_800_000_000
    )


@pytest.mark.parametrize(
    ("attempt", "planned"), [(1, 5), (2, 300), (3, 1800), (4, 1800), (19, 1800)]
)
def test_pauses_follow_the_schedule_with_a_jitter_of_up_to_a_tenth(
    attempt: int, planned: int
) -> None:
    assert planned <= pause(attempt) <= planned * 1.1
    assert len({round(pause_seconds(PAUSES, 1, f"j{n}", now_s=0), 3) for n in range(50)}) > 40


@pytest.mark.parametrize(
    ("retry_after", "least", "most"),
    [
        ("120", 120, 120),
        ("1", 5, 5.5),
        ("x", 5, 5.5),
        ("-5", 5, 5.5),
        ("99999999", 86400, 86400),
        ("9" * 30, 86400, 86400),
        ("Mon, 01 Jan 2026 00:00:00 +999999999999999", 5, 5.5),
        ("Mon, 99 Jan 2026 99:00:00 GMT", 5, 5.5),
        ("Fri, 15 Jan 2027 08:10:00 GMT", 600, 600),
        ("Friday, 15-Jan-27 08:10:00 GMT", 600, 600),  # RFC 850
        ("Fri Jan 15 08:10:00 2027", 600, 600),  # asctime
        ("Fri, 15 Jan 2027 07:00:00 GMT", 5, 5.5),  # an hour ago
        ("1.5", 5, 5.5),
        ("abc", 5, 5.5),
        ("", 5, 5.5),
        ("999999", 86400, 86400),
        ("99999999999999", 86400, 86400),
    ],
)
def test_receiver_may_request_a_longer_pause_of_up_to_a_day(
    retry_after: str, least: float, most: float
) -> None:
    assert least <= pause(1, status=503, retry_after=retry_after) <= most


@pytest.mark.parametrize("status", [429, 502, 504])
def test_overloaded_receiver_gets_a_longer_pause(status: int) -> None:
    assert pause(1, status=status) >= 300
    assert pause(1, status=status, retry_after="7") == 7
    assert pause(1, status=status, retry_after="banana") >= 300


@given(st.text(max_size=60))
def test_pause_is_at_most_a_day_whatever_a_receiver_requests(text: str) -> None:
    assert 5 <= pause(1, status=503, retry_after=text) <= 86400


def test_pauses_are_read_from_a_parameter() -> None:
    assert read_pauses("5,300") == (5, 300)
    for text in ("", "5,", "a", "-1", "86401", "5, 6"):
        with pytest.raises(InvalidRequest):
            read_pauses(text)
