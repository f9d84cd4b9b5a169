"""The cookie that holds a session's token, and the requests that may use it. All of it is pure.

The cookie is `__Host-<name>`. With this prefix, browsers require that it came over HTTPS, is for
this host only, and for all its paths (RFC 6265bis, 4.1.3.2). A cookie for one path, or for all
hosts of a domain, is `__Secure-<name>`: it must have come over HTTPS (4.1.3.1). On plain-HTTP
loopback a browser would not keep such a cookie, so there it is `<name>` without Secure.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

__all__ = ["Cookie", "check_origins", "is_cross_site", "is_plain_loopback"]

#: Methods that change nothing (RFC 9110, 9.2.1).
_SAFE: Final = {"GET", "HEAD", "OPTIONS", "TRACE"}
#: A cookie's name (RFC 6265, 4.1.1).
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_PATH: Final = re.compile(r"/[\x20-\x3a\x3c-\x7e]*")
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_DOMAIN: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_SAME_SITE: Final = ("Lax", "Strict", "None")
#: An origin as browsers send it (RFC 6454, 6.2): lower case, no default port, no slash at the end.
_ORIGIN: Final = re.compile(r"([a-z][a-z0-9+.-]*)://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::([0-9]+))?")
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


@dataclass(frozen=True)
class Cookie:
    """An application's settings for its cookie. HttpOnly is always set.

    - `domain` sends the cookie to all hosts of a domain; without it, to this host only.
    - `same_site` is `Lax`, `Strict` or `None`, in any case of letters.
    - `is_partitioned` keeps it apart for each top-level site (CHIPS).
    - `is_always_secure` sets Secure on plain-HTTP loopback, too.

    Raises ValueError for a setting that no cookie can have.
    """

    name: str = "session"
    path: str = "/"
    domain: str | None = None
    same_site: str = "Lax"
    is_partitioned: bool = False
    is_always_secure: bool = False

    def __post_init__(self) -> None:
        if not _TOKEN.fullmatch(self.name):
            raise ValueError(
                f"the cookie's name {self.name!r} must have letters, digits and !#$%&'*+-.^_`|~ "
                "only, at least one of them"
            )
        if not _PATH.fullmatch(self.path):
            raise ValueError(
                f"the cookie's path {self.path!r} must begin with '/', and be ASCII without ';'"
            )
        if self.domain is not None:
            # A leading dot means nothing (RFC 6265, 5.2.3).
            object.__setattr__(self, "domain", self.domain.removeprefix("."))
            if not _DOMAIN.fullmatch(self.domain):
                raise ValueError(
                    f"the cookie's domain {self.domain!r} must be a host name in ASCII, such as "
                    "'example.org', without a port"
                )
        same_site = str(self.same_site).capitalize()
        if same_site not in _SAME_SITE:
            raise ValueError(
                f"the cookie's SameSite {self.same_site!r} must be 'Lax', 'Strict' or 'None'"
            )
        object.__setattr__(self, "same_site", same_site)

    def is_plain(self, scheme: str, headers: Mapping[str, str]) -> bool:
        """Returns True if the cookie of a request has no prefix and no Secure.

        `headers` has lower-case names.
        """
        return not self.is_always_secure and is_plain_loopback(scheme, headers)

    def sent_name(self, *, plain: bool) -> str:
        """Returns the name of the cookie with its prefix."""
        if plain:
            return self.name
        is_for_host = self.domain is None and self.path == "/"
        return f"{'__Host-' if is_for_host else '__Secure-'}{self.name}"

    def set(self, token: str, *, plain: bool, max_age: int | None = None) -> str:
        """Returns the value of a Set-Cookie header.

        Without `max_age` (seconds) the browser deletes the cookie when it closes.
        """
        parts = [f"{self.sent_name(plain=plain)}={token}"]
        if self.domain is not None and not plain:  # a browser would refuse it from loopback
            parts.append(f"Domain={self.domain}")
        # Without Secure, a browser would refuse SameSite=None and Partitioned.
        same_site = "Lax" if plain and self.same_site == "None" else self.same_site
        parts += [f"Path={self.path}", "HttpOnly", f"SameSite={same_site}"]
        if not plain:
            parts.append("Secure")
            if self.is_partitioned:
                parts.append("Partitioned")
        if max_age is not None:
            parts.append(f"Max-Age={max_age}")
        return "; ".join(parts)

    def clear(self, *, plain: bool) -> str:
        """Returns the value of a Set-Cookie header that makes the browser delete the cookie."""
        return self.set("", plain=plain, max_age=0)

    def token_in(self, cookies: Iterable[str], *, plain: bool) -> str | None:
        """Returns the token among a request's cookies, each `name=value`; None if there is none."""
        prefix = self.sent_name(plain=plain) + "="
        values = (
            cookie.removeprefix(prefix)
            for cookie in (cookie.strip() for cookie in cookies)
            if cookie.startswith(prefix)
        )
        return next(values, None) or None

    def loss(self, scheme: str, headers: Mapping[str, str]) -> str | None:
        """Returns why the client of a request will not send the cookie back; None if it will.

        `headers` has lower-case names.
        """
        if self.is_plain(scheme, headers):
            return None
        host = (_host(f"//{headers.get('host', '')}") or "").rpartition(":")[0]
        if scheme == "http" and not _is_forwarded(headers):
            return (
                f"it has Secure, but the request came to {host!r} by plain HTTP, so the client "
                "will not send it back; use HTTPS or a loopback name (localhost, 127.0.0.1), in "
                "tests TestClient(app, base_url='https://testserver'); a proxy that ends TLS must "
                "send X-Forwarded-Proto"
            )
        domain = None if self.domain is None else self.domain.lower()
        if domain is not None and host != domain and not host.endswith(f".{domain}"):
            return f"it is for the domain {self.domain!r}, but the request came to {host!r}"
        return None


def is_plain_loopback(scheme: str, headers: Mapping[str, str]) -> bool:
    """Returns True if a request came by plain HTTP to this machine.

    A proxy on this machine must say so: `X-Forwarded-Proto: http`. `headers` has lower-case names.
    """
    host = (_host(f"//{headers.get('host', '')}") or "").rpartition(":")[0]
    return scheme == "http" and not _is_forwarded(headers) and _is_loopback(host)


def check_origins(origins: Iterable[str]) -> frozenset[str]:
    """Returns trusted origins as a set.

    Raises ValueError for one that no browser would send, and TypeError for a text.
    """
    if isinstance(origins, str):
        raise TypeError(f"trusted_origins must be a list of origins, not the text {origins!r}")
    checked = frozenset(origins)
    for origin in checked:
        match = _ORIGIN.fullmatch(origin)
        if match is None or match[2] == _DEFAULT_PORTS.get(match[1], ""):
            raise ValueError(
                f"the trusted origin {origin!r} must be as browsers send it, such as "
                "'https://admin.example.org': scheme and host in lower case, a port only if it is "
                "not the default, and no path"
            )
    return checked


def is_cross_site(
    method: str, headers: Mapping[str, str], *, trusted_origins: Iterable[str] = ()
) -> bool:
    """Returns True if a page of another origin made a request that may change something.

    The check uses Sec-Fetch-Site, which a page cannot set. If a browser does not send it, the check
    compares Origin with Host. A client that sends neither is not a browser, so a page of another
    origin cannot have made it send the cookie (OWASP CSRF cheat sheet, Fetch Metadata with Origin
    fallback).
    `trusted_origins` (`https://admin.example.org`) may make such requests. `headers` has lower-case
    names.
    """
    if method in _SAFE:
        return False
    origin = headers.get("origin")
    if origin is not None and origin in set(trusted_origins):
        return False
    site = headers.get("sec-fetch-site")
    if site:
        return site not in ("same-origin", "none")
    if origin is None:
        return False
    origin_host = _host(origin)
    return origin_host is None or origin_host != _host(
        f"{origin.partition('://')[0]}://{headers.get('host', '')}"
    )


def _is_forwarded(headers: Mapping[str, str]) -> bool:
    """Returns True if a request came through a proxy that may have ended TLS.

    API Gateway, and the local one, say which protocol the client used; a local client uses HTTP.
    """
    if "forwarded" not in headers and headers.get("x-forwarded-proto") == "http":
        return False
    return any(name == "forwarded" or name.startswith("x-forwarded-") for name in headers)


def _is_loopback(host: str) -> bool:
    """Returns True for names and addresses of this machine (RFC 6761, 6.3; RFC 1122, 3.2.1.3)."""
    name = host.removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def _host(url: str) -> str | None:
    """Returns host and port of a URL as `host:port`, None if the URL is malformed.

    If the URL has no port, it is the default port of its scheme.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme) or ""
    except ValueError:
        return None
    return f"{parts.hostname}:{port}" if parts.hostname else None
