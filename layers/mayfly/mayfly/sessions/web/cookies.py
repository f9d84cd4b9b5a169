"""A session's token in a cookie, and the requests that may use it. The functions are pure.

The cookie is `__Host-<name>`. With this prefix, browsers require that it came over HTTPS, is for
this host only, and for all its paths (RFC 6265bis, 4.1.3.2). On plain-HTTP loopback a browser would
not keep such a cookie, so there it is `<name>` without Secure.
"""

from collections.abc import Iterable, Mapping
from typing import Final
from urllib.parse import urlsplit

__all__ = [
    "clear_cookie",
    "cookie_name",
    "is_cross_site",
    "is_plain_loopback",
    "set_cookie",
    "token_in",
]

#: Methods that change nothing (RFC 9110, 9.2.1).
_SAFE: Final = {"GET", "HEAD", "OPTIONS", "TRACE"}
_LOOPBACK: Final = {"localhost", "127.0.0.1", "::1"}


def is_plain_loopback(scheme: str, headers: Mapping[str, str]) -> bool:
    """Returns True if a request came by plain HTTP to this machine, and not through a proxy here.

    `headers` has lower-case names.
    """
    is_forwarded = any(name == "forwarded" or name.startswith("x-forwarded-") for name in headers)
    return (
        scheme == "http"
        and not is_forwarded
        and (_host(f"//{headers.get('host', '')}") or "").rpartition(":")[0] in _LOOPBACK
    )


def cookie_name(name: str, *, plain: bool) -> str:
    """Returns the name of the cookie."""
    return name if plain else f"__Host-{name}"


def set_cookie(name: str, token: str, *, plain: bool, max_age: int | None = None) -> str:
    """Returns the value of a Set-Cookie header.

    Without `max_age` (seconds) the browser deletes the cookie when it closes.
    """
    parts = [f"{cookie_name(name, plain=plain)}={token}", "Path=/", "HttpOnly", "SameSite=Lax"]
    if not plain:
        parts.append("Secure")
    if max_age is not None:
        parts.append(f"Max-Age={max_age}")
    return "; ".join(parts)


def clear_cookie(name: str, *, plain: bool) -> str:
    """Returns the value of a Set-Cookie header that makes the browser delete the cookie."""
    return set_cookie(name, "", plain=plain, max_age=0)


def token_in(cookies: Iterable[str], name: str, *, plain: bool) -> str | None:
    """Returns the token among a request's cookies, each `name=value`; None if there is none."""
    prefix = cookie_name(name, plain=plain) + "="
    values = (
        cookie.removeprefix(prefix)
        for cookie in (cookie.strip() for cookie in cookies)
        if cookie.startswith(prefix)
    )
    return next(values, None) or None


def is_cross_site(
    method: str, headers: Mapping[str, str], *, trusted_origins: Iterable[str] = ()
) -> bool:
    """Returns True if a page of another site made a request that may change something.

    The check uses Sec-Fetch-Site, which a page cannot set. If a browser does not send it, the check
    compares Origin with Host. A client that sends neither is not a browser, so another site cannot
    have made it send the cookie (OWASP CSRF cheat sheet, Fetch Metadata with Origin fallback).
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
