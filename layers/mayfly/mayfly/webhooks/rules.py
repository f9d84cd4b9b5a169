"""Rules of webhooks: their form, allowed endpoints, signatures and pauses. No I/O, no clock.

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

#: The secret that signs if a job does not name one.
DEFAULT_SECRET: Final = "default"  # noqa: S105  # a name
#: 410: the receiver wants no more webhooks.
GONE: Final = 410

_URL_CHARACTERS: Final = 2048
_MAX_HEADERS: Final = 20
_HEADER_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
_HEADER_VALUE: Final = re.compile(r"[\x20-\x7e]{0,1024}")
#: Headers that frame or route the request, or belong to the signature.
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
#: Statuses with which a receiver or its gateway reports overload.
_OVERLOADED: Final = frozenset({429, 502, 504})
_LONGEST_PAUSE_SECONDS: Final = 24 * 3600
_SPREAD: Final = 0.1

#: IPv4 networks that are not public: IANA's special-purpose registry, multicast and reserved ones.
#: `is_global` is not enough: on Python 3.11 it is true for multicast and for translated addresses.
#: https://www.iana.org/assignments/iana-ipv4-special-registry
_NOT_PUBLIC_4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
        "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
        "224.0.0.0/4", "240.0.0.0/4",
    )
)  # fmt: skip
#: The part of IPv6 that is assigned. Other addresses are loopback, local, multicast, mapped,
#: translated (NAT64) or unassigned.
_ASSIGNED_6: Final = IPv6Network("2000::/3")
#: Networks in it that are not public: protocol assignments with Teredo and ORCHID, documentation,
#: and 6to4, which contains an IPv4 address.
#: https://www.iana.org/assignments/iana-ipv6-special-registry
_NOT_PUBLIC_6: Final = tuple(
    IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
)


def read_webhook(payload: Any) -> Webhook:
    """Returns the webhook in a job's payload. Raises InvalidRequest with the field."""
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
    """Returns the parts of a URL.

    Raises InvalidRequest if no webhook may be sent there, or if two parsers might read the URL
    differently. Only names in ASCII and addresses in their usual form are accepted. Other texts
    that a resolver would read as an address (`0x7f.1`, `2130706433`, `127.1`) are refused here.
    `check_addresses` checks the addresses of a name.
    """
    if unsafe := re.search(r'[\\"<>^`{|}]', url):
        character = unsafe[0]
        raise InvalidRequest(
            "url", f"must not have the character {character}; escape it as %{ord(character):02X}"
        )
    if len(url) > _URL_CHARACTERS or not re.fullmatch(r"[\x21-\x7e]+", url):
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
            "url", f"must begin with {' or '.join(f'{name}://' for name in sorted(policy.schemes))}"
        )
    if "@" in parts.netloc or "#" in url:
        raise InvalidRequest(
            "url",
            "must not have user information or a fragment; put credentials into headers",
        )
    if not host or not _is_host(host):
        raise InvalidRequest(
            "url", "must have a domain name as its host, or an address in its usual form"
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
    """Returns the addresses of a host if each of them may be connected to.

    Raises ForbiddenAddress if one may not, or if there is none. One forbidden address is enough:
    the owner of the name must not be able to choose which address a connection uses.
    """
    checked = list(addresses)
    if not checked or not all(_may_connect(address, policy) for address in checked):
        raise ForbiddenAddress(host)
    return checked


def read_secrets(text: str, name: str) -> list[bytes]:
    """Returns the keys in a stored secret.

    There are several, separated by spaces, while receivers change to a new one. Raises BadSecret.
    """
    try:
        keys = [
            base64.b64decode(part.removeprefix(_SECRET_PREFIX), validate=True)
            for part in text.split()
        ]
    except (binascii.Error, ValueError):
        raise BadSecret(name) from None
    if not keys or any(not 24 <= len(key) <= 64 for key in keys):
        raise BadSecret(name)
    return keys


def content(body: Any) -> bytes:
    """Returns the bytes to send and to sign; they are the same for every attempt."""
    return canonical_json(body).encode()


def headers(
    webhook: Webhook, keys: Sequence[bytes], message_id: str, body: bytes, *, at_s: int
) -> dict[str, str]:
    """Returns the request's headers.

    `message_id` is the same for every attempt; each attempt has its own time. There is a signature
    for each key, so that a receiver with the old or the new key finds its own.
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
        "webhook-signature": " ".join(f"v1,{signature}" for signature in signatures),
    }


def is_delivered(status: int) -> bool:
    """Returns True if a receiver has accepted a webhook.

    A redirect is a failure: its target has not been checked.
    """
    return 200 <= status < 300


def read_pauses(text: str) -> tuple[int, ...]:
    """Returns the pauses between attempts, in seconds, from `5,300,1800`. Raises InvalidRequest."""
    parts = text.split(",")
    if not all(
        re.fullmatch(r"[0-9]{1,6}", part) and int(part) <= _LONGEST_PAUSE_SECONDS for part in parts
    ):
        raise InvalidRequest(
            "pauses",
            f"must be whole seconds separated by commas, each at most {_LONGEST_PAUSE_SECONDS}, "
            f"not {text!r}",
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
    """Returns the pause after attempt number `attempt`, in seconds.

    It is the pause of the schedule, spread by up to a tenth. It is longer if the receiver asks for
    that, up to a day. `status` is None if there was no response. A receiver that is overloaded and
    does not name a time gets the pause after the next.
    """
    requested = _requested_seconds(retry_after, now_s)
    is_unnamed = status in _OVERLOADED and requested is None
    planned = pauses[min(attempt - 1 + is_unnamed, len(pauses) - 1)]
    spread = int(derived_id("spread", job_id, str(attempt))[:8], 16) / 0xFFFFFFFF
    return min(_LONGEST_PAUSE_SECONDS, max(planned * (1 + _SPREAD * spread), requested or 0))


def _requested_seconds(retry_after: str | None, now_s: int) -> float | None:
    """Returns the seconds of a Retry-After header: a number or a date (RFC 9110, 10.2.3).

    Returns None if it is neither.
    """
    if retry_after is None:
        return None
    if re.fullmatch(r"[0-9]+", retry_after, re.ASCII):
        return int(retry_after) if len(retry_after) < 10 else _LONGEST_PAUSE_SECONDS
    try:
        moment = parsedate_to_datetime(retry_after)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() - now_s
    except (ValueError, TypeError, IndexError, OverflowError):  # not a date
        return None


def _headers(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > _MAX_HEADERS:
        raise InvalidRequest("headers", f"must be an object of up to {_MAX_HEADERS} headers")
    for name, text in value.items():
        if not _HEADER_NAME.fullmatch(name):
            raise InvalidRequest("headers", f"{name[:64]!r} is not a header name")
        if name.lower() in _OURS or name.lower().startswith(_OUR_PREFIXES):
            raise InvalidRequest("headers", f"{name} cannot be set; Mayfly sets it")
        if not isinstance(text, str) or not _HEADER_VALUE.fullmatch(text):
            raise InvalidRequest(
                "headers",
                f"the value of {name} must be a text of up to 1024 printable ASCII characters",
            )
    if len({name.lower() for name in value}) < len(value):
        raise InvalidRequest("headers", "a header appears twice")
    return dict(value)


def _is_host(host: str) -> bool:
    """Returns True if a host is a domain name, or an address in its usual form.

    The last label of a name begins with a letter, so that no resolver reads it as a number (WHATWG
    URL, 3.5).
    """
    if _HOST.fullmatch(host):
        return True
    try:
        return "%" not in host and str(ip_address(host)) == host
    except ValueError:
        return False


def _may_connect(text: str, policy: Policy) -> bool:
    try:
        address = ip_address(text)
    except ValueError:  # for example, an address with a zone
        return False
    return _is_public(address) or (policy.allows_loopback and address.is_loopback)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    # An address with a zone is valid on this link only.
    return (
        address in _ASSIGNED_6
        and address.scope_id is None
        and not any(address in network for network in _NOT_PUBLIC_6)
    )
