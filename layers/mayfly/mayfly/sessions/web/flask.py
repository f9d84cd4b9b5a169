"""Flask sessions on Mayfly.

::

    app.session_interface = MayflySessionInterface(resources.session_store(os.environ))

`flask.session` works as ever: `permanent`, `modified`, `new`, flash; values are what Flask's own
serializer takes. Beyond it: `rotate(subject)` at login, `session.clear()` ends the session in the
store. Only `flask.session` that is used costs a call.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

from flask import Flask, Request, Response
from flask import session as current
from flask.json.tag import TaggedJSONSerializer
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.exceptions import Forbidden, ServiceUnavailable

from mayfly.core.errors import MayflyError, StoreUnavailable
from mayfly.sessions import DEFAULT_ABSOLUTE_SECONDS, DEFAULT_IDLE_SECONDS, SessionStore
from mayfly.sessions.rules import MAX_SECONDS
from mayfly.sessions.web.request_session import RequestSession, Rotation, Settings

__all__ = ["MayflySession", "MayflySessionInterface", "rotate"]

_SERIALIZER: Final = TaggedJSONSerializer()
_CROSS_SITE: Final = "a page of another site made this request; it may not use the session"


def rotate(subject: str | None = None) -> None:
    """Gives `flask.session` a new token with this response; the old one opens nothing from then on.

    At login, with who it is.
    """
    cast("MayflySession", current).rotate(subject)


class MayflySession(SessionMixin):
    """`flask.session`. As with Flask's own, `modified` sees keys being set and deleted; set it
    where a value changes inside.

    Its first use reads the store: raises 503 where that does not answer, 403 in a request that a
    page of another site made. From then on, for the page that says so, it is empty and keeps
    nothing.
    """

    def __init__(self, opened: RequestSession) -> None:
        self.opened = opened
        self.modified = False
        self.is_cleared = False
        self.is_refused = False
        self.rotation: Rotation | None = None
        #: Whether it was permanent when it was read.
        self.was_permanent = False
        self._data: dict[str, Any] | None = None

    @property
    def new(self) -> bool:  # type: ignore[override]  # an attribute there
        """Whether there is no session yet."""
        return self._loaded() is not None and self.opened.is_new

    @property
    def is_loaded(self) -> bool:
        """Whether anything has used it."""
        return self._data is not None

    def rotate(self, subject: str | None = None) -> None:
        """As the function of this name does."""
        self._loaded()
        self.rotation = Rotation(subject)
        self.modified = True

    def encoded(self) -> dict[str, Any]:
        """The data as JSON takes it."""
        found: dict[str, Any] = json.loads(_SERIALIZER.dumps(self._loaded()))
        return found

    def clear(self) -> None:
        """Ends the session in the store, with the response; what is set afterwards starts another
        one.
        """
        self._loaded().clear()
        self.is_cleared = self.modified = True

    def _loaded(self) -> dict[str, Any]:
        if self._data is None:
            self._data = {}  # for those who look again after what is raised here
            if self.opened.is_cross_site:
                self.is_refused = True
                raise Forbidden(_CROSS_SITE)
            try:
                self._data = dict(_SERIALIZER.loads(json.dumps(self.opened.load())))
            except StoreUnavailable as problem:
                self.is_refused = True
                raise ServiceUnavailable(
                    str(problem), retry_after=problem.retry_after_seconds
                ) from problem
            self.was_permanent = bool(self._data.get("_permanent", False))
        return self._data

    def __getitem__(self, key: str) -> Any:
        return self._loaded()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        self._loaded()[key] = value
        self.modified = True

    def __delitem__(self, key: str) -> None:
        del self._loaded()[key]
        self.modified = True

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded())

    def __len__(self) -> int:
        return len(self._loaded())

    def __repr__(self) -> str:
        return f"<MayflySession {self._data if self.is_loaded else 'not read yet'}>"


class MayflySessionInterface(SessionInterface):
    """Keeps `flask.session` in a session store.

    The cookie is called as SESSION_COOKIE_NAME says, with the prefix `__Host-` but on plain-HTTP
    loopback; its other attributes are fixed. A permanent session lasts for
    PERMANENT_SESSION_LIFETIME since its last use (since its start, where
    SESSION_REFRESH_EACH_REQUEST is off) and for 400 days at most, which no cookie outlives; another
    one for `idle_seconds` since its last use and `absolute_seconds` at most, and until the browser
    closes.
    """

    def __init__(
        self,
        store: SessionStore,
        *,
        tenant: str = "default",
        idle_seconds: int = DEFAULT_IDLE_SECONDS,
        absolute_seconds: int = DEFAULT_ABSOLUTE_SECONDS,
        trusted_origins: Iterable[str] = (),
    ) -> None:
        self._store = store
        self._tenant = tenant
        self._lifetime = (idle_seconds, absolute_seconds)
        self._trusted_origins = frozenset(trusted_origins)

    def open_session(self, app: Flask, request: Request) -> MayflySession:
        """The session of a request; reads nothing yet."""
        settings = Settings(
            self._store,
            self._tenant,
            self.get_cookie_name(app),
            *self._lifetime,
            trusted_origins=self._trusted_origins,
        )
        return MayflySession(
            RequestSession(
                settings,
                method=request.method,
                scheme=request.scheme,
                headers={name.lower(): value for name, value in request.headers.items()},
            )
        )

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Writes what the request changed, before its answer goes out.

        Where that fails, the answer is what went wrong.
        """
        assert isinstance(session, MayflySession)
        if not session.is_loaded:
            return
        response.vary.add("Cookie")
        if session.is_refused or not session.modified:
            return
        try:
            cookie = session.opened.save(
                session.encoded(),
                is_cleared=session.is_cleared,
                rotation=session.rotation,
                lifetime=self._changed_lifetime(app, session),
                keeps=session.permanent,
            )
        except MayflyError as problem:  # nothing is acknowledged that was not written
            response.status_code = problem.status
            response.headers.clear()
            response.content_type = "text/plain; charset=utf-8"
            response.set_data(f"{problem}\n")
            if isinstance(problem, StoreUnavailable):
                response.headers["Retry-After"] = str(problem.retry_after_seconds)
            return
        if cookie is not None:
            response.headers.add("Set-Cookie", cookie)

    def _changed_lifetime(self, app: Flask, session: MayflySession) -> tuple[int, int] | None:
        """The deadlines, where the session has become permanent with this request, or no longer is;
        else None.
        """
        if session.permanent == session.was_permanent and not session.is_cleared:
            return None
        if not session.permanent:
            return self._lifetime
        seconds = int(app.permanent_session_lifetime.total_seconds())
        return seconds, MAX_SECONDS if app.config["SESSION_REFRESH_EACH_REQUEST"] else seconds
