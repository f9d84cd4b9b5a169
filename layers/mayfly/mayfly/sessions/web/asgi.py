"""Sessions on Mayfly for ASGI applications: Starlette, FastAPI.

::

    store = resources.session_store(os.environ)
    app = Starlette(routes, middleware=[Middleware(SessionMiddleware, store=store)])

`request.session` is a dictionary, as with Starlette's own middleware. Changes are written at the
end of the request, also changes inside a value. In addition there is
`request.session.rotate(subject)` for a login, and `request.session.clear()` ends the session in the
store. Any version of Starlette will do: the session itself notes that it is used.
"""

from collections.abc import Callable, Iterable
from functools import partial, wraps
from types import EllipsisType
from typing import Any, Final

from anyio import to_thread
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mayfly.core.errors import MayflyError, StoreUnavailable
from mayfly.sessions import DEFAULT_ABSOLUTE_SECONDS, DEFAULT_IDLE_SECONDS, SessionStore
from mayfly.sessions.rules import MAX_SECONDS
from mayfly.sessions.web.cookies import Cookie
from mayfly.sessions.web.request_session import RequestSession, Rotation, Settings

__all__ = ["MayflySession", "SessionMiddleware"]

_SCHEMES: Final = {"http": "http", "ws": "http"}
_CROSS_SITE: Final = "a page of another origin made this request, so it may not use the session"
#: Methods of a dictionary that read or change it. `clear` is below; `repr` must never raise.
_USES: Final = (
    *("__contains__", "__delitem__", "__eq__", "__getitem__", "__ior__", "__iter__", "__len__"),
    *("__ne__", "__or__", "__reversed__", "__ror__", "__setitem__"),
    *("copy", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"),
)


class CrossSiteRequest(HTTPException):
    """A page of another origin made the request, and the application uses its session."""

    def __init__(self) -> None:
        super().__init__(403, _CROSS_SITE)


class MayflySession(dict[str, Any]):
    """`request.session`. Its values must be JSON.

    Every use of it is noted (`mark_accessed`), also by frameworks that do not: Starlette calls
    `mark_accessed` since 1.0 only.
    """

    accessed = False
    is_cleared = False
    rotation: Rotation | None = None

    def __init__(self, data: dict[str, Any], *, is_cross_site: bool = False) -> None:
        super().__init__(data)
        self._is_cross_site = is_cross_site

    def mark_accessed(self) -> None:
        """Records that the application uses `request.session`.

        Raises CrossSiteRequest (403) if a page of another origin made the request.
        """
        self.accessed = True
        if self._is_cross_site:
            raise CrossSiteRequest

    def raw(self) -> dict[str, Any]:
        """Returns the data as a plain dictionary. This is not a use."""
        return dict(dict.items(self))

    def clear(self) -> None:
        """Ends the session in the store, with the response. Data set later starts a new one."""
        self.mark_accessed()
        super().clear()
        self.is_cleared = True

    def rotate(self, subject: str | None = None) -> None:
        """Gives the session a new token with this response; the old token is refused from then on.

        At a login, `subject` is the name of the user.
        """
        self.mark_accessed()
        self.rotation = Rotation(subject)


def _noted(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def use(session: MayflySession, *args: Any, **kwargs: Any) -> Any:
        session.mark_accessed()
        return method(session, *args, **kwargs)

    return use


for _name in _USES:
    setattr(MayflySession, _name, _noted(getattr(dict, _name)))


class SessionMiddleware:
    """Keeps `request.session` in a session store.

    - A request with a cookie costs one read, and a write if the session changed.
    - The cookie is `__Host-<session_cookie>` with HttpOnly and Secure. On plain-HTTP loopback it
      has no prefix and no Secure, unless `https_only`. With a `path` or a `domain` (the cookie goes
      to all hosts of the domain), the prefix is `__Secure-`. `same_site` is lax, strict or none.
    - The session ends `idle_seconds` after its last use (30 minutes), and after `absolute_seconds`
      (12 hours) in any case. The browser keeps the cookie for `absolute_seconds`, or with
      `until_browser_closes` until it closes.
    - `max_age` is Starlette's: a number is `idle_seconds` with 400 days of `absolute_seconds`, and
      None is `until_browser_closes`.
    - If a page of another origin made a request that may change something, every use of
      `request.session` raises 403, and a WebSocket is refused. Pages of `trusted_origins` may make
      such requests.
    - If the store does not answer, the answer is 503.
    - Changes after the start of the response, or after `accept`, are not written.

    Raises ValueError if an option cannot be honoured.
    """

    def __init__(
        self,
        app: ASGIApp,
        store: SessionStore,
        *,
        tenant: str = "default",
        session_cookie: str = "session",
        path: str = "/",
        domain: str | None = None,
        same_site: str = "lax",
        https_only: bool = False,
        partitioned: bool = False,
        idle_seconds: int | None = None,
        absolute_seconds: int | None = None,
        max_age: int | EllipsisType | None = ...,
        until_browser_closes: bool = False,
        trusted_origins: Iterable[str] = (),
    ) -> None:
        self._app = app
        idle, absolute = DEFAULT_IDLE_SECONDS, DEFAULT_ABSOLUTE_SECONDS
        if isinstance(max_age, int):
            if idle_seconds is not None:
                raise ValueError("max_age and idle_seconds mean the same; give one of them")
            idle, absolute = max_age, MAX_SECONDS
        self._settings = Settings(
            store,
            tenant,
            Cookie(session_cookie, path, domain, same_site, partitioned, https_only),
            idle if idle_seconds is None else idle_seconds,
            absolute if absolute_seconds is None else absolute_seconds,
            trusted_origins=trusted_origins,
        )
        self._keeps = not (until_browser_closes or max_age is None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request = self._open(HTTPConnection(scope))
        if request.is_cross_site and scope["type"] == "websocket":
            await PlainTextResponse(_CROSS_SITE, 403)(scope, receive, send)
            return
        try:
            initial = (
                await to_thread.run_sync(request.load)
                if request.has_cookie and not request.is_cross_site
                else {}
            )
        except StoreUnavailable as problem:
            await _error_response(problem)(scope, receive, send)
            return
        session = scope["session"] = MayflySession(initial, is_cross_site=request.is_cross_site)
        response = _Response(request, session, keeps=self._keeps)
        try:
            await self._app(scope, receive, partial(response.send, scope, receive, send))
        except CrossSiteRequest:  # raised outside of the framework's handling of errors
            if response.has_started:
                raise
            await PlainTextResponse(_CROSS_SITE, 403)(scope, receive, send)

    def _open(self, connection: HTTPConnection) -> RequestSession:
        return RequestSession(
            self._settings,
            method=connection.scope.get("method", "CONNECT"),  # a WebSocket may change anything
            scheme=_SCHEMES.get(connection.scope.get("scheme", "http"), "https"),
            headers=connection.headers,
        )


class _Response:
    """Writes the session before the first byte of the response is sent."""

    def __init__(self, request: RequestSession, session: MayflySession, *, keeps: bool) -> None:
        self._request = request
        self._session = session
        self._keeps = keeps
        self._has_failed = False
        self.has_started = False

    async def send(self, scope: Scope, receive: Receive, send: Send, message: Message) -> None:
        if self._has_failed:
            return
        if message["type"] in ("http.response.start", "websocket.accept"):
            try:
                cookie = await to_thread.run_sync(self._save)
            except MayflyError as problem:
                # The application's response is dropped: its change was not written.
                self._has_failed = self.has_started = True
                await _error_response(problem)(scope, receive, send)
                return
            message.setdefault("headers", [])
            headers = MutableHeaders(scope=message)
            if self._session.accessed or cookie is not None:
                headers.add_vary_header("Cookie")
            if cookie is not None:
                headers.append("Set-Cookie", cookie)
            self.has_started = True
        await send(message)

    def _save(self) -> str | None:
        session, data = self._session, self._session.raw()
        if self._request.is_cross_site or not (
            session.is_cleared or session.rotation or self._request.has_changed(data)
        ):
            return None
        return self._request.save(
            data, is_cleared=session.is_cleared, rotation=session.rotation, keeps=self._keeps
        )


def _error_response(problem: MayflyError) -> PlainTextResponse:
    headers = (
        {"Retry-After": str(problem.retry_after_seconds)}
        if isinstance(problem, StoreUnavailable)
        else None
    )
    return PlainTextResponse(f"{problem}\n", problem.status, headers=headers)
