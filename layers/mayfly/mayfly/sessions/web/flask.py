"""Flask sessions on Mayfly.

::

    app.session_interface = MayflySessionInterface(resources.session_store(os.environ))

`flask.session` works as in Flask: `permanent`, `modified`, `new`, flash. Its values may be all that
Flask's own serializer accepts. In addition there is `rotate(subject)` for a login, and
`session.clear()` ends the session in the store. A request that does not use `flask.session` makes
no store call.
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
_CROSS_SITE: Final = "a page of another site made this request, so it may not use the session"


def rotate(subject: str | None = None) -> None:
    """Gives `flask.session` a new token with this response; the old token is refused from then on.

    At a login, `subject` is the name of the user.
    """
    cast("MayflySession", current).rotate(subject)


class MayflySession(SessionMixin):
    """`flask.session`.

    As with Flask's own, `modified` becomes true when a key is set or deleted; set it yourself if
    you change something inside a value. The first use reads the store. It raises 503 if the store
    does not answer, and 403 if a page of another site made the request. After that the session is
    empty and is not written, so that an error page can use it.
    """

    def __init__(self, request: RequestSession) -> None:
        self.request = request
        self.modified = False
        self.is_cleared = False
        self.is_refused = False
        self.rotation: Rotation | None = None
        #: The value of `permanent` when the session was read.
        self.was_permanent = False
        self._data: dict[str, Any] | None = None

    @property
    def new(self) -> bool:  # type: ignore[override]  # an attribute there
        """True if there is no session in the store yet."""
        return self._loaded() is not None and self.request.is_new

    @property
    def is_loaded(self) -> bool:
        """True if the session has been used."""
        return self._data is not None

    def rotate(self, subject: str | None = None) -> None:
        """Gives the session a new token with this response (see the function `rotate`)."""
        self._loaded()
        self.rotation = Rotation(subject)
        self.modified = True

    def encoded(self) -> dict[str, Any]:
        """Returns the data as JSON."""
        data: dict[str, Any] = json.loads(_SERIALIZER.dumps(self._loaded()))
        return data

    def clear(self) -> None:
        """Ends the session in the store, with the response. Data set later starts a new one."""
        self._loaded().clear()
        self.is_cleared = self.modified = True

    def _loaded(self) -> dict[str, Any]:
        if self._data is None:
            self._data = {}  # for uses after the exceptions below
            if self.request.is_cross_site:
                self.is_refused = True
                raise Forbidden(_CROSS_SITE)
            try:
                self._data = dict(_SERIALIZER.loads(json.dumps(self.request.load())))
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

    - The cookie's name is SESSION_COOKIE_NAME, with the prefix `__Host-` except on plain-HTTP
      loopback. Its other attributes are fixed.
    - A permanent session ends PERMANENT_SESSION_LIFETIME after its last use, and after 400 days at
      most, the longest time that browsers keep a cookie. If SESSION_REFRESH_EACH_REQUEST is false,
      it ends PERMANENT_SESSION_LIFETIME after its start.
    - Another session ends `idle_seconds` after its last use, after `absolute_seconds` at most, and
      when the browser closes.
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
        """Returns the session of a request, without a read."""
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
        """Writes the changes of the request before its response is sent.

        If the write fails, the response becomes the error.
        """
        assert isinstance(session, MayflySession)
        if not session.is_loaded:
            return
        response.vary.add("Cookie")
        if session.is_refused or not session.modified:
            return
        try:
            cookie = session.request.save(
                session.encoded(),
                is_cleared=session.is_cleared,
                rotation=session.rotation,
                lifetime=self._changed_lifetime(app, session),
                keeps=session.permanent,
            )
        except MayflyError as problem:
            # The application's response is replaced: its change was not written.
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
        """Returns the deadlines if the session's `permanent` has changed, otherwise None."""
        if session.permanent == session.was_permanent and not session.is_cleared:
            return None
        if not session.permanent:
            return self._lifetime
        seconds = int(app.permanent_session_lifetime.total_seconds())
        return seconds, MAX_SECONDS if app.config["SESSION_REFRESH_EACH_REQUEST"] else seconds
