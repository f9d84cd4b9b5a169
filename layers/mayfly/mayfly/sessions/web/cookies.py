"""A session's token in a cookie, and which requests may use it. Pure: headers in, texts and
verdicts out.

The cookie is `__Host-<name>`: browsers then insist that it came over HTTPS, from this host alone
and for all its paths (RFC 6265bis, 4.1.3.2). Only on plain-HTTP loopback, where no browser would
keep that, it is `<name>` without Secure.
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
    """Whether a request came by plain HTTP to this very machine, and not from a proxy here.

    `headers` by lower-case names.
    """
    is_forwarded = any(name == "forwarded" or name.startswith("x-forwarded-") for name in headers)
    return (
        scheme == "http"
        and not is_forwarded
        and (_host(f"//{headers.get('host', '')}") or "").rpartition(":")[0] in _LOOPBACK
    )


def cookie_name(name: str, *, plain: bool) -> str:
    """What the cookie is called."""
    return name if plain else f"__Host-{name}"


def set_cookie(name: str, token: str, *, plain: bool, max_age: int | None = None) -> str:
    """The value of a Set-Cookie header.

    Without `max_age` (seconds) the browser forgets the cookie when it closes.
    """
    parts = [f"{cookie_name(name, plain=plain)}={token}", "Path=/", "HttpOnly", "SameSite=Lax"]
    if not plain:
        parts.append("Secure")
    if max_age is not None:
        parts.append(f"Max-Age={max_age}")
    return "; ".join(parts)


def clear_cookie(name: str, *, plain: bool) -> str:
    """The value of a Set-Cookie header that makes the browser forget the cookie."""
    return set_cookie(name, "", plain=plain, max_age=0)


def token_in(cookies: Iterable[str], name: str, *, plain: bool) -> str | None:
    """The token among cookies as a request has them, each `name=value`; None where there is
    none.
    """
    wanted = cookie_name(name, plain=plain) + "="
    return (
        next(
            (
                each[len(wanted) :]
                for each in (cookie.strip() for cookie in cookies)
                if each.startswith(wanted)
            ),
            None,
        )
        or None
    )


def is_cross_site(
    method: str, headers: Mapping[str, str], *, trusted_origins: Iterable[str] = ()
) -> bool:
    """Whether a request that changes something was made by a page of another site. `headers` by
    lower-case names.

    By Sec-Fetch-Site, which no page can set; where a browser does not send it, by Origin against
    Host. A client that sends neither is no browser, and carries no cookie it was tricked into
    (OWASP CSRF cheat sheet, Fetch Metadata with Origin fallback). `trusted_origins`
    (`https://admin.example.org`) may make such requests.
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
    asking = _host(origin)
    return asking is None or asking != _host(
        f"{origin.partition('://')[0]}://{headers.get('host', '')}"
    )


def _host(url: str) -> str | None:
    """Host and port of a URL as `host:port`, the port that its scheme implies where it names none;
    None where it is malformed.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme) or ""
    except ValueError:
        return None
    return f"{parts.hostname}:{port}" if parts.hostname else None
