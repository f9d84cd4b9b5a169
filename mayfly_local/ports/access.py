"""Access to the servers of this stack: one rule for every port that `mayfly up` opens.

A loopback port is not private: any web page that is open in a browser can send requests to it, and
so can every user of the machine. Browsers add headers to a page's requests that its scripts cannot
change:

- `Host` is the host name of the request. If it is not a loopback name, its owner may have pointed
  it at this machine (DNS rebinding). RFC 9110, 7.2; RFC 6761, 6.3.
- `Origin` is the origin of the page. RFC 6454, 7.
- `Sec-Fetch-Site` is the relation of that origin to this one.
  https://www.w3.org/TR/fetch-metadata/

SDKs, the AWS CLI and curl send neither of the last two. Secrets keep other users out
(`mayfly_local.iam.credentials`).
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Final

__all__ = ["Access", "Headers", "is_browser", "is_loopback_name"]

#: Names in lower case and values, in the order of the request.
Headers = Iterable[tuple[str, str]]

_OWN_SITES: Final = ("same-origin", "none")


@dataclass(frozen=True)
class Access:
    """The rule of one server. `hosts` are allowed names next to the loopback names.

    With `for_pages`, pages of other sites may send requests, as front ends do. The template's CORS
    decides what they can read.
    """

    hosts: frozenset[str] = field(default_factory=frozenset)
    for_pages: bool = False

    def refusal(self, target: str, headers: Headers) -> str | None:
        """Returns the reason to refuse a request, as a sentence for its sender, or None.

        `target` is as sent (RFC 9112, 3.2).
        """
        headers = list(headers)
        return self.host_refusal(target, headers) or (
            None if self.for_pages else self.page_refusal(headers)
        )

    def host_refusal(self, target: str, headers: Headers) -> str | None:
        """Returns the reason to refuse the host name of a request, or None."""
        hosts = [value for name, value in headers if name == "host"]
        if len(hosts) != 1:
            return "a request needs one Host header (RFC 9112, 3.2)"
        authority = (
            ""
            if target.startswith(("/", "*"))
            else target.partition("://")[2].partition("/")[0] or target
        )
        for name in map(_host_name, [hosts[0], *([authority] if authority else [])]):
            if not is_loopback_name(name) and name not in map(_host_name, self.hosts):
                return (
                    f"the host name {name!r} is refused: a web page may have pointed it at this "
                    "machine. Use 127.0.0.1 or localhost, or allow the name with: "
                    "mayfly up --allow-host NAME"
                )
        return None

    def page_refusal(self, headers: Headers) -> str | None:
        """Returns the reason to refuse a page's request, or None.

        A request is refused if a browser sent it for a page of another site.
        """
        headers = list(headers)
        own = {f"http://{value.lower()}" for name, value in headers if name == "host"}
        for name, value in headers:
            if name == "origin" and value.lower() not in own:
                return f"a page of {value[:100]!r} may not send requests to this server"
            if name == "sec-fetch-site" and value not in _OWN_SITES:
                return (
                    "a page of another site may not send requests to this server "
                    f"(Sec-Fetch-Site: {value[:100]!r})"
                )
        return None


def is_browser(headers: Headers) -> bool:
    """Returns True if a browser sent the request. For servers that only programs use."""
    return any(name == "origin" or name.startswith("sec-fetch-") for name, _ in headers)


def is_loopback_name(name: str) -> bool:
    """Returns True if a host name, without its port, always means this machine.

    Browsers resolve `*.localhost` themselves (RFC 6761, 6.3).
    """
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def _host_name(authority: str) -> str:
    """Returns an authority's host in lower case, without user, port and brackets of IPv6."""
    host = authority.rpartition("@")[2].strip().lower()
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rsplit(":", 1)[0].rstrip(".")
