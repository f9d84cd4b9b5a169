"""Flask sessions on Mayfly.

::

    MayflySessionInterface(resources.session_store(os.environ)).init_app(app)

`flask.session` works as in Flask: `permanent`, `modified`, `new`, flash. Its values may be all that
Flask's own serializer accepts, except NaN, infinities and lone surrogates. In addition there is
`rotate(subject)` for a login, and `session.clear()` ends the session in the store. A request that
does not use `flask.session` makes no store call. Changes made while a streamed response runs
(`stream_with_context`) are not written, as with Flask's own.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, Final, cast

from flask import Flask, Request, Response
from flask import session as current
from flask.json.tag import TaggedJSONSerializer
from flask.sessions import SessionInterface, SessionMixin
from werkzeug.exceptions import Forbidden, ServiceUnavailable

from mayfly.core.errors import MayflyError, StoreUnavailable
from mayfly.sessions import DEFAULT_ABSOLUTE_SECONDS, DEFAULT_IDLE_SECONDS, SessionStore
from mayfly.sessions.rules import MAX_SECONDS
from mayfly.sessions.web.changes import check_data
from mayfly.sessions.web.cookies import Cookie
from mayfly.sessions.web.request_session import RequestSession, Rotation, Settings

__all__ = ["MayflySession", "MayflySessionInterface", "rotate"]

_SERIALIZER: Final = TaggedJSONSerializer()
_CROSS_SITE: Final = "a page of another origin made this request, so it may not use the session"


def rotate(subject: str | None = None) -> None:
    """Gives `flask.session` a new token with this response; the old token is refused from then on.

    At a login, `subject` is the name of the user.
    """
    cast("MayflySession", current).rotate(subject)


class MayflySession(SessionMixin):
    """`flask.session`.

    As with Flask's own, `modified` becomes true when a key is set or deleted; set it yourself if
    you change something inside a value. The first use reads the store. It raises 503 if the store
    does not answer, and 403 if a page of another origin made the request. After that the session is
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
        """Returns the data as JSON.

        Raises TypeError or ValueError for a value that cannot be stored, and names its key.
        """
        values = self._loaded()
        try:
            data: dict[str, Any] = json.loads(_SERIALIZER.dumps(values))
        except (TypeError, ValueError, RecursionError):
            check_data(values, _SERIALIZER.dumps)
            raise
        check_data(data)
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

    - SESSION_COOKIE_NAME, DOMAIN, PATH, SAMESITE and PARTITIONED are honoured. The cookie always
      has HttpOnly, and Secure except on plain-HTTP loopback; SESSION_COOKIE_SECURE sets it there,
      too. Its name gets the prefix `__Host-`, or `__Secure-` with a domain or a path.
    - SECRET_KEY is not used: the token is random, and the data are in the store.
    - A permanent session ends PERMANENT_SESSION_LIFETIME after its last use, and after 400 days at
      most, the longest time that browsers keep a cookie. If SESSION_REFRESH_EACH_REQUEST is false,
      it ends PERMANENT_SESSION_LIFETIME after its start.
    - Another session ends `idle_seconds` after its last use, after `absolute_seconds` at most, and
      when the browser closes.

    The constructor raises ValueError for a lifetime or an origin that cannot be, `init_app` for an
    option of the application. Without `init_app` the first request raises it.
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
        self._lifetime = (idle_seconds, absolute_seconds)
        self._settings = Settings(
            store, tenant, Cookie(), *self._lifetime, trusted_origins=trusted_origins
        )
        #: Settings by the options of an application, which have been checked.
        self._checked: dict[tuple[object, ...], Settings] = {}

    def init_app(self, app: Flask) -> None:
        """Makes this the session interface of an application, and checks the app's options.

        Raises ValueError for an option that cannot be honoured.
        """
        self._settings_of(app)
        app.session_interface = self

    def open_session(self, app: Flask, request: Request) -> MayflySession:
        """Returns the session of a request, without a read."""
        return MayflySession(
            RequestSession(
                self._settings_of(app),
                method=request.method,
                scheme=request.scheme,
                headers={name.lower(): value for name, value in request.headers.items()},
            )
        )

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        """Writes the changes of the request before its response is sent.

        If the write fails, the response becomes the error.
        """
        if not isinstance(session, MayflySession) or not session.is_loaded:
            return  # not an instance if `open_session` has raised
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

    def _settings_of(self, app: Flask) -> Settings:
        """Returns the settings for an application. Raises ValueError for a bad option."""
        config = app.config
        options = (
            self.get_cookie_name(app),
            self.get_cookie_path(app),
            # Not `get_cookie_domain`, which Flask 2.2 derives from SERVER_NAME. Before 2.3, the
            # value for "no domain" was False.
            config["SESSION_COOKIE_DOMAIN"] or None,
            config["SESSION_COOKIE_SAMESITE"] or "Lax",
            bool(config.get("SESSION_COOKIE_PARTITIONED")),  # since Flask 3.1
            bool(config["SESSION_COOKIE_SECURE"]),
        )
        checked = (*options, config["SESSION_COOKIE_HTTPONLY"], app.permanent_session_lifetime)
        if checked not in self._checked:
            if not config["SESSION_COOKIE_HTTPONLY"]:
                raise ValueError(
                    "SESSION_COOKIE_HTTPONLY is off: every script of a page could read the token "
                    "of its session; remove the option"
                )
            seconds = _permanent_seconds(app)
            if not 1 <= seconds <= MAX_SECONDS:
                raise ValueError(
                    f"PERMANENT_SESSION_LIFETIME is {app.permanent_session_lifetime}; it must be "
                    "from 1 second to 400 days, the longest time that browsers keep a cookie"
                )
            self._checked[checked] = replace(self._settings, cookie=Cookie(*options))
        return self._checked[checked]

    def _changed_lifetime(self, app: Flask, session: MayflySession) -> tuple[int, int] | None:
        """Returns the deadlines if the session's `permanent` has changed, otherwise None."""
        if session.permanent == session.was_permanent and not session.is_cleared:
            return None
        if not session.permanent:
            return self._lifetime
        seconds = _permanent_seconds(app)
        return seconds, MAX_SECONDS if app.config["SESSION_REFRESH_EACH_REQUEST"] else seconds


def _permanent_seconds(app: Flask) -> int:
    return int(app.permanent_session_lifetime.total_seconds())
