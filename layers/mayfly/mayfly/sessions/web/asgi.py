"""Sessions on Mayfly for ASGI applications: Starlette, FastAPI.

::

    app = Starlette(routes, middleware=[Middleware(SessionMiddleware,
    store=resources.session_store(os.environ))])

`request.session` is a dictionary, as with Starlette's own middleware; what differs at the end of
the request is written, inner changes too. Beyond it: `request.session.rotate(subject)` at login; a
session that has become empty is ended in the store.
"""

from collections.abc import Iterable
from functools import partial
from typing import Any, Final

from anyio import to_thread
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mayfly.core.errors import MayflyError, StoreUnavailable
from mayfly.sessions import DEFAULT_ABSOLUTE_SECONDS, DEFAULT_IDLE_SECONDS, SessionStore
from mayfly.sessions.web.request_session import RequestSession, Rotation, Settings

__all__ = ["MayflySession", "SessionMiddleware"]

_SCHEMES: Final = {"http": "http", "ws": "http"}
_CROSS_SITE: Final = "a page of another site made this request; it may not use the session"


class MayflySession(dict[str, Any]):
    """`request.session`. Values are what JSON takes."""

    accessed = False
    is_cleared = False
    rotation: Rotation | None = None

    def __init__(self, data: dict[str, Any], *, is_cross_site: bool = False) -> None:
        super().__init__(data)
        self._is_cross_site = is_cross_site

    def mark_accessed(self) -> None:
        """Called by Starlette where the application asks for the session."""
        self.accessed = True
        if self._is_cross_site:
            raise HTTPException(403, _CROSS_SITE)

    def clear(self) -> None:
        """Ends the session in the store, with the response; what is set afterwards starts another
        one.
        """
        super().clear()
        self.is_cleared = True

    def rotate(self, subject: str | None = None) -> None:
        """Gives the session a new token with this response; the old one opens nothing from then on.

        At login, with who it is.
        """
        self.rotation = Rotation(subject)


class SessionMiddleware:
    """Keeps `request.session` in a session store; one read for a request that brings a cookie, a
    write where something changed.

    The cookie is `__Host-<session_cookie>`, but on plain-HTTP loopback; its other attributes are
    fixed. The browser keeps it for `absolute_seconds`, or with `until_browser_closes` only so long.
    Where a page of another site (not of `trusted_origins`) made a request that may change
    something, `request.session` raises 403, and a WebSocket is refused; where the store does not
    answer, the answer is 503. What changes after the response has started, or after `accept`, is
    not written.
    """

    def __init__(
        self,
        app: ASGIApp,
        store: SessionStore,
        *,
        tenant: str = "default",
        session_cookie: str = "session",
        idle_seconds: int = DEFAULT_IDLE_SECONDS,
        absolute_seconds: int = DEFAULT_ABSOLUTE_SECONDS,
        until_browser_closes: bool = False,
        trusted_origins: Iterable[str] = (),
    ) -> None:
        self._app = app
        self._settings = Settings(
            store,
            tenant,
            session_cookie,
            idle_seconds,
            absolute_seconds,
            trusted_origins=frozenset(trusted_origins),
        )
        self._keeps = not until_browser_closes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        opened = self._open(HTTPConnection(scope))
        if opened.is_cross_site and scope["type"] == "websocket":
            await PlainTextResponse(_CROSS_SITE, 403)(scope, receive, send)
            return
        try:
            initial = (
                await to_thread.run_sync(opened.load)
                if opened.has_cookie and not opened.is_cross_site
                else {}
            )
        except StoreUnavailable as problem:
            await _refusal(problem)(scope, receive, send)
            return
        session = scope["session"] = MayflySession(initial, is_cross_site=opened.is_cross_site)
        before = _Response(opened, session, keeps=self._keeps)
        await self._app(scope, receive, partial(before.send, scope, receive, send))

    def _open(self, connection: HTTPConnection) -> RequestSession:
        return RequestSession(
            self._settings,
            method=connection.scope.get("method", "CONNECT"),  # a WebSocket may change anything
            scheme=_SCHEMES.get(connection.scope.get("scheme", "http"), "https"),
            headers=connection.headers,
        )


class _Response:
    """Writes the session before the first byte of the answer goes out."""

    def __init__(self, opened: RequestSession, session: MayflySession, *, keeps: bool) -> None:
        self._opened = opened
        self._session = session
        self._keeps = keeps
        self._is_refused = False

    async def send(self, scope: Scope, receive: Receive, send: Send, message: Message) -> None:
        if self._is_refused:
            return
        if message["type"] in ("http.response.start", "websocket.accept"):
            try:
                cookie = await to_thread.run_sync(self._save)
            except MayflyError as problem:  # nothing is acknowledged that was not written
                self._is_refused = True
                await _refusal(problem)(scope, receive, send)
                return
            message.setdefault("headers", [])
            headers = MutableHeaders(scope=message)
            if self._session.accessed or cookie is not None:
                headers.add_vary_header("Cookie")
            if cookie is not None:
                headers.append("Set-Cookie", cookie)
        await send(message)

    def _save(self) -> str | None:
        session, data = self._session, dict(self._session)
        if self._opened.is_cross_site or not (
            session.is_cleared or session.rotation or self._opened.has_changed(data)
        ):
            return None
        return self._opened.save(
            data, is_cleared=session.is_cleared, rotation=session.rotation, keeps=self._keeps
        )


def _refusal(problem: MayflyError) -> PlainTextResponse:
    headers = (
        {"Retry-After": str(problem.retry_after_seconds)}
        if isinstance(problem, StoreUnavailable)
        else None
    )
    return PlainTextResponse(f"{problem}\n", problem.status, headers=headers)
