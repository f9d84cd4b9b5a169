"""What a webhook must look like, where it may go, how it is signed, and when it is tried again. No
I/O, no clock.

Signatures, ids, statuses and the retry schedule follow Standard Webhooks 1.0.0
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
"""

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from datetime import UTC
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final
from urllib.parse import urlsplit

from mayfly.core.errors import InvalidRequest
from mayfly.core.ids import derived_id
from mayfly.core.json_input import NAME, Fields, canonical_json
from mayfly.webhooks.errors import BadSecret, ForbiddenAddress
from mayfly.webhooks.model import Endpoint, Policy, Webhook

__all__ = [
    "DEFAULT_SECRET",
    "GONE",
    "check_addresses",
    "content",
    "headers",
    "is_delivered",
    "pause_seconds",
    "read_endpoint",
    "read_pauses",
    "read_secrets",
    "read_webhook",
]

#: The secret that signs where a job names none.
DEFAULT_SECRET: Final = "default"  # noqa: S105  # a name
#: 410: the receiver wants nothing more, ever.
GONE: Final = 410

_URL_CHARACTERS: Final = 2048
_MAX_HEADERS: Final = 20
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]{0,1024}")
#: Headers that frame the request, route it, or are the signature's.
_OURS: Final = frozenset(
    {"host", "content-length", "content-type", "content-encoding", "transfer-encoding",
    "connection", "keep-alive", "upgrade", "te",
     "trailer", "expect", "user-agent"}
)  # fmt: skip
_OUR_PREFIXES: Final = ("webhook-", "proxy-")
_HOST: Final = re.compile(
    r"(?=.{1,253}\.?$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z]([a-z0-9-]{0,61}[a-z0-9])?\.?"
)
_SECRET_PREFIX: Final = "whsec_"  # noqa: S105  # a prefix
#: Statuses by which a receiver or its gateway says that it is too much.
_TOO_MUCH: Final = frozenset({429, 502, 504})
_LONGEST_PAUSE_SECONDS: Final = 24 * 3600
_SPREAD: Final = 0.1

#: What of IPv4 is not public: IANA's special-purpose registry, multicast and the reserved rest.
#: `is_global` will not do: on Python 3.11 it is true for multicast and for translated addresses.
#: https://www.iana.org/assignments/iana-ipv4-special-registry
_NOT_PUBLIC_4: Final = tuple(
    IPv4Network(each)
    for each in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
        "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
#: All of IPv6 that is given out; what lies outside is loopback, local, multicast, mapped,
#: translated (NAT64) or nobody's.
_GIVEN_OUT_6: Final = IPv6Network("2000::/3")
#: What of it is not public: protocol assignments with Teredo and ORCHID, documentation, and 6to4,
#: which hides an IPv4 address. https://www.iana.org/assignments/iana-ipv6-special-registry
_NOT_PUBLIC_6: Final = tuple(
    IPv6Network(each) for each in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)


def read_webhook(payload: Any) -> Webhook:
    """The webhook in a job's payload. Raises InvalidRequest naming the field."""
    fields = Fields(payload, "payload")
    webhook = Webhook(
        url=fields.text("url"),
        body=fields.anything("body", default={}),
        headers=_headers(fields.anything("headers", default={})),
        secret_name=fields.text("secret_name", pattern=NAME, default=DEFAULT_SECRET),
    )
    fields.finish()
    return webhook


def read_endpoint(url: str, policy: Policy) -> Endpoint:
    """The parts of a URL. Raises InvalidRequest for one that no webhook may go to, and for all that
    two parsers might read differently.

    Only names in ASCII and addresses in their usual form are taken: what else a resolver would make
    an address of (`0x7f.1`, `2130706433`, `127.1`) is refused here, and what a name leads to is
    checked by `check_addresses`.
    """
    if (
        len(url) > _URL_CHARACTERS
        or not re.fullmatch(r"[\x21-\x7e]+", url)
        or re.search(r'[\\"<>^`{|}]', url)
    ):
        raise InvalidRequest(
            "url",
            f"must be a URL of up to {_URL_CHARACTERS} printable ASCII characters; write names "
            "as punycode (xn--)",
        )
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise InvalidRequest("url", "is not a URL") from None
    if parts.scheme not in policy.schemes:
        raise InvalidRequest(
            "url", f"must begin with {' or '.join(f'{each}://' for each in sorted(policy.schemes))}"
        )
    if "@" in parts.netloc or "#" in url:
        raise InvalidRequest(
            "url", "must have neither user information nor a fragment; credentials go into headers"
        )
    if not host or not _is_host(host):
        raise InvalidRequest(
            "url", "must name its host by a domain name, or by an address in its usual form"
        )
    if port is None:
        if parts.netloc.endswith(":"):
            raise InvalidRequest("url", "has an empty port")
        port = {"https": 443, "http": 80}[parts.scheme]
    if policy.ports is not None and port not in policy.ports:
        raise InvalidRequest("url", f"must use port {' or '.join(map(str, sorted(policy.ports)))}")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Endpoint(url, parts.scheme, host.rstrip("."), port, target)


def check_addresses(host: str, addresses: Iterable[str], policy: Policy) -> list[str]:
    """The addresses of a host, each of which may be connected to. Raises ForbiddenAddress where one
    may not, or there is none.

    One bad address spoils the host: which of several a connection would take is not for the name's
    owner to choose.
    """
    found = list(addresses)
    if not found or not all(_may_connect(each, policy) for each in found):
        raise ForbiddenAddress(host)
    return found


def read_secrets(text: str, name: str) -> list[bytes]:
    """The keys in a stored secret: one, or several apart by spaces while receivers change over.

    Raises BadSecret.
    """
    try:
        found = [
            base64.b64decode(each.removeprefix(_SECRET_PREFIX), validate=True)
            for each in text.split()
        ]
    except (binascii.Error, ValueError):
        raise BadSecret(name) from None
    if not found or any(not 24 <= len(each) <= 64 for each in found):
        raise BadSecret(name)
    return found


def content(body: Any) -> bytes:
    """The bytes to send and to sign: the same for every attempt."""
    return canonical_json(body).encode()


def headers(
    webhook: Webhook, keys: Sequence[bytes], message_id: str, body: bytes, *, at_s: int
) -> dict[str, str]:
    """The request's headers. `message_id` is the same for every attempt, the time is the attempt's
    own.

    A signature for each key, so that a receiver with the old or the new one finds its own.
    """
    signed = f"{message_id}.{at_s}.".encode() + body
    signatures = [
        base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in keys
    ]
    return {
        **webhook.headers,
        "Content-Type": "application/json",
        "User-Agent": "mayfly-webhooks",
        "webhook-id": message_id,
        "webhook-timestamp": str(at_s),
        "webhook-signature": " ".join(f"v1,{each}" for each in signatures),
    }


def is_delivered(status: int) -> bool:
    """Whether a receiver has taken a webhook.

    A redirect is a failure: where it leads, nobody has checked.
    """
    return 200 <= status < 300


def read_pauses(text: str) -> tuple[int, ...]:
    """The pauses between attempts, in seconds, from `5,300,1800`. Raises InvalidRequest."""
    parts = text.split(",")
    if not all(
        re.fullmatch(r"[0-9]{1,6}", each) and int(each) <= _LONGEST_PAUSE_SECONDS for each in parts
    ):
        raise InvalidRequest(
            "pauses",
            f"must be whole seconds apart by commas, each at most {_LONGEST_PAUSE_SECONDS}, not "
            f"{text!r}",
        )
    return tuple(map(int, parts))


def pause_seconds(
    pauses: Sequence[int],
    attempt: int,
    job_id: str,
    *,
    status: int | None = None,
    retry_after: str | None = None,
    now_s: int,
) -> float:
    """How long to wait after attempt number `attempt`, in seconds: as the schedule says, spread by
    up to a tenth, and longer where the receiver asks for it, up to a day. `status` is None where
    there was no answer.

    Who is overloaded and names no time is given the pause after the next.
    """
    asked = _asked_seconds(retry_after, now_s)
    is_unnamed = status in _TOO_MUCH and asked is None
    planned = pauses[min(attempt - 1 + is_unnamed, len(pauses) - 1)]
    spread = int(derived_id("spread", job_id, str(attempt))[:8], 16) / 0xFFFFFFFF
    return min(_LONGEST_PAUSE_SECONDS, max(planned * (1 + _SPREAD * spread), asked or 0))


def _asked_seconds(retry_after: str | None, now_s: int) -> float | None:
    """What a Retry-After asks for: seconds or a date (RFC 9110, 10.2.3); None where it is
    neither.
    """
    if retry_after is None:
        return None
    if re.fullmatch(r"[0-9]+", retry_after, re.ASCII):
        return int(retry_after) if len(retry_after) < 10 else _LONGEST_PAUSE_SECONDS
    try:
        moment = parsedate_to_datetime(retry_after)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now_s
    except (ValueError, TypeError, IndexError, OverflowError):  # whatever it is, no date
        return None


def _headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > _MAX_HEADERS:
        raise InvalidRequest("headers", f"must be an object of up to {_MAX_HEADERS} headers")
    for name, text in value.items():
        if not _HEADER_NAME.fullmatch(name):
            raise InvalidRequest("headers", f"{name[:64]!r} is no name of a header")
        if name.lower() in _OURS or name.lower().startswith(_OUR_PREFIXES):
            raise InvalidRequest("headers", f"{name} is not yours to set")
        if not isinstance(text, str) or not _HEADER_VALUE.fullmatch(text):
            raise InvalidRequest(
                "headers",
                f"the value of {name} must be a text of up to 1024 printable ASCII characters",
            )
    if len({name.lower() for name in value}) < len(value):
        raise InvalidRequest("headers", "a header appears twice")
    return dict(value)


def _is_host(host: str) -> bool:
    """Whether a host is a domain name or an address in its usual form. The last label of a name
    begins with a letter, so that no resolver takes it for a number (WHATWG URL, 3.5)."""
    if _HOST.fullmatch(host):
        return True
    try:
        return "%" not in host and str(ip_address(host)) == host
    except ValueError:
        return False


def _may_connect(text: str, policy: Policy) -> bool:
    try:
        address = ip_address(text)
    except ValueError:  # with a zone, for one
        return False
    return _is_public(address) or (policy.allows_loopback and address.is_loopback)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in each for each in _NOT_PUBLIC_4)
    # A zone makes an address of this link only.
    return (
        address in _GIVEN_OUT_6
        and address.scope_id is None
        and not any(address in each for each in _NOT_PUBLIC_6)
    )
