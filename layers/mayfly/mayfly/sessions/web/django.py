"""Django sessions on Mayfly: an engine, and a middleware that answers errors of its store.

::

    SESSION_ENGINE = "mayfly.sessions.web.django"
    MAYFLY_SESSION_STORE = partial(resources.session_store, os.environ)
    MIDDLEWARE = [..., "mayfly.sessions.web.django.SessionMiddleware", ...]

`request.session` works as Django documents it, and its key is the session's token. In addition
there is `request.session.rotate(subject)` for a login. A visitor without a session costs no call,
and nothing is stored until a view changes the session. The cookie is Django's own, and so is the
check of requests from other sites (CsrfViewMiddleware).
"""

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from asgiref.sync import sync_to_async
from django.contrib.sessions import middleware
from django.contrib.sessions.backends.base import SessionBase, UpdateError
from django.contrib.sessions.exceptions import SessionInterrupted
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.utils.cache import patch_vary_headers

from mayfly import sessions
from mayfly.core.errors import MayflyError
from mayfly.sessions import Session, tokens
from mayfly.sessions.errors import SessionNotFound
from mayfly.sessions.rules import MAX_SECONDS
from mayfly.sessions.store import SessionRotated
from mayfly.sessions.web.changes import Changes, check_data
from mayfly.sessions.web.django_options import check_options, read_options

__all__ = ["SessionMiddleware", "SessionStore"]

#: The key under which Django keeps a session's own expiry, in its data.
_EXPIRY: Final = "_session_expiry"
_INTERRUPTED: Final = (
    "The session was ended or rotated by another request before this one gave it a new key; "
    "repeat the request."
)


class SessionStore(SessionBase):
    """`request.session`: Django's contract of a session engine, on a session store.

    - `session_key` is the token. `save`, `create` and `cycle_key` give a new one where Django says
      so; an unknown key is never used for a new session.
    - `save` writes the keys that this request has changed. If another request has ended or rotated
      the session since it was read, `save` raises Django's UpdateError, for which its middleware
      answers 400.
    - Without SESSION_SAVE_EVERY_REQUEST, a session ends SESSION_COOKIE_AGE after its last change;
      with it, after its last use, and after 400 days at most.

    Its methods raise ImproperlyConfigured for settings that cannot be honoured, StoreUnavailable if
    the store does not answer, PayloadTooLarge for data above 256 KiB of JSON, and TypeError or
    ValueError for a value that cannot be stored.
    """

    #: Django's property, which refuses keys that are too short.
    _session_key: Any

    def __init__(self, session_key: str | None = None) -> None:
        super().__init__(session_key)
        self._options: Final = read_options()
        #: The session as it was read or written last.
        self._stored: Session | None = None
        #: The data, as JSON, that the next changes are compared with. None after `clear`, after
        #: which the data replaces all that is in the store.
        self._initial: dict[str, Any] | None = {}
        self._was_rotated = False
        #: The error of Mayfly that this session has raised last.
        self.problem: MayflyError | None = None

    # ------------------------------------------------------------ what is stored

    def load(self) -> dict[str, Any]:
        """Returns the data, empty if there is no session. Costs one read.

        After another request has rotated the token, the session is empty and keeps its old key:
        without a key Django's middleware would delete the cookie, which has the new token by now.
        """
        self._stored, self._initial, self._was_rotated = None, {}, False
        try:
            with self._noting_problems():
                self._stored = sessions.read(
                    self._options.store, self.session_key or "", tenant=self._options.tenant
                )
        except SessionRotated:
            self._was_rotated = True
            return {}
        except SessionNotFound:
            self._session_key = None
            return {}
        self._initial = self._stored.data
        return dict(self.serializer().loads(json.dumps(self._initial).encode("latin-1")))

    def exists(self, session_key: str | None) -> bool:
        """Returns True if a key opens a session. This is not a use of the session."""
        store = self._options.store
        try:
            with self._noting_problems():
                store.find(
                    self._options.tenant,
                    tokens.read_token(session_key or ""),
                    now_ms=store.clock(),
                )
        except SessionNotFound:
            return False
        return True

    def create(self) -> None:
        """Stores a new session, with the data that this one has."""
        self._create(self._get_session(no_load=True))
        self.modified = True

    def save(self, must_create: bool = False) -> None:  # noqa: FBT001, FBT002  # as Django has it
        """Writes the changes since the session was read, or stores a new session.

        Raises UpdateError, with nothing written, if another request has ended or rotated the
        session since it was read: a slow request cannot bring it back.
        """
        if self.session_key is None:
            self.create()
            return
        data = self._get_session(no_load=must_create)
        if must_create or self.session_key is None:  # `load` has found no session
            self._create(data)
            return
        if self._was_rotated:
            raise UpdateError
        lifetime = self._lifetime()
        if lifetime is None:
            self.delete()
            return
        encoded = self._encoded(data)
        try:
            with self._noting_problems():
                session = sessions.change(
                    self._options.store,
                    self.session_key,
                    self._edit(encoded),
                    tenant=self._options.tenant,
                    lifetime=None if self._is_lasting(lifetime) else lifetime,
                )
        except SessionNotFound as gone:
            raise UpdateError from gone
        self._keep(self.session_key, session, encoded)

    def delete(self, session_key: str | None = None) -> None:
        """Ends a session, by default this one, also if another request has rotated its token."""
        key = session_key or self.session_key
        store, tenant = self._options.store, self._options.tenant
        with self._noting_problems(), suppress(SessionNotFound):
            if key is not None and key == self.session_key and self._stored is not None:
                sessions.end_read(store, self._stored)
            elif key is not None:
                sessions.end(store, key, tenant=tenant)

    def clear(self) -> None:
        """Removes all data; the session and its key stay. `flush` ends the session."""
        super().clear()
        self._initial = None

    def flush(self) -> None:
        """Ends the session in the store. Data set later starts another one."""
        super().flush()
        self._stored, self._initial, self._was_rotated = None, {}, False

    async def aflush(self) -> None:
        """Does what `flush` does."""
        await sync_to_async(self.flush)()

    # ------------------------------------------------------------ rotation

    def cycle_key(self) -> None:
        """Gives the session a new key, immediately. Django does this at each login."""
        self.rotate()

    async def acycle_key(self) -> None:
        """Does what `cycle_key` does."""
        await sync_to_async(self.cycle_key)()

    def rotate(self, subject: str | None = None) -> None:
        """Gives the session a new key, immediately; the old one is refused from then on.

        With a `subject`, such as a user's name, the session becomes that subject's, so that it can
        be listed and ended with others of the subject. Raises SessionInterrupted (400) if another
        request has ended or rotated the session since it was read, and InvalidRequest for a subject
        that does not match `core.json_input.NAME`.
        """
        data = self._session
        self.modified = True
        if self.session_key is None or self._was_rotated:
            self._create(data, subject)
            return
        encoded = self._encoded(data)
        try:
            with self._noting_problems():
                token, session = sessions.rotate(
                    self._options.store,
                    self.session_key,
                    tenant=self._options.tenant,
                    subject=subject,
                    edit=self._edit(encoded),
                )
        except SessionNotFound as gone:
            raise SessionInterrupted(_INTERRUPTED) from gone
        self._keep(token, session, encoded)

    async def arotate(self, subject: str | None = None) -> None:
        """Does what `rotate` does."""
        await sync_to_async(self.rotate)(subject)

    # ------------------------------------------------------------ expiry

    @classmethod
    def clear_expired(cls) -> None:
        """Does nothing: the table's time to live deletes expired sessions.

        Before it does, each read refuses them.
        """

    def _lifetime(self) -> tuple[int, int] | None:
        """Returns idle and absolute seconds from now; None if the session has expired already.

        Raises ValueError for more than 400 days.
        """
        seconds = math.ceil(self.get_expiry_age())
        if seconds > MAX_SECONDS:
            raise ValueError(
                f"set_expiry: the session would end after {seconds} seconds; the longest time that "
                f"browsers keep a cookie is 400 days ({MAX_SECONDS} seconds)"
            )
        if seconds <= 0:
            return None
        is_fixed = isinstance(self.get(_EXPIRY), str)  # a date
        is_by_use = self._options.saves_every_request and not is_fixed
        return seconds, MAX_SECONDS if is_by_use else seconds

    def _is_lasting(self, lifetime: tuple[int, int]) -> bool:
        """Returns True if the session has this lifetime, and each use moves its end anyway."""
        idle_seconds, absolute_seconds = lifetime
        return (
            self._stored is not None
            and idle_seconds < absolute_seconds
            and self._stored.idle_ms == idle_seconds * 1000
            and self._stored.absolute_ms == absolute_seconds * 1000
        )

    # ------------------------------------------------------------ parts of the above

    def _create(self, data: dict[str, Any], subject: str | None = None) -> None:
        encoded = self._encoded(data)
        lifetime = self._lifetime()
        if lifetime is None:
            # The middleware sets a cookie, which has expired. No session has this key.
            self._session_key = self._get_new_session_key()
            return
        idle_seconds, absolute_seconds = lifetime
        with self._noting_problems():
            token, session = sessions.create(
                self._options.store,
                tenant=self._options.tenant,
                subject=subject,
                data=encoded,
                idle_seconds=idle_seconds,
                absolute_seconds=absolute_seconds,
            )
        self._keep(token, session, encoded)

    def _keep(self, token: str, session: Session, encoded: dict[str, Any]) -> None:
        self._session_key = token
        self._stored, self._initial, self._was_rotated = session, encoded, False

    def _edit(self, encoded: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
        if self._initial is None:
            return lambda _: encoded
        return Changes(self._initial, encoded).apply

    def _encoded(self, data: dict[str, Any]) -> dict[str, Any]:
        """Returns data as JSON, by SESSION_SERIALIZER.

        Raises TypeError or ValueError for a value that cannot be stored, and names its key.
        """
        serializer = self.serializer()
        try:
            encoded: dict[str, Any] = json.loads(serializer.dumps(data))
        except (TypeError, ValueError, RecursionError):
            check_data(data, serializer.dumps)
            raise
        check_data(encoded)
        return encoded

    @contextmanager
    def _noting_problems(self) -> Iterator[None]:
        try:
            yield
        except MayflyError as problem:
            self.problem = problem
            raise


class SessionMiddleware(middleware.SessionMiddleware):
    """Django's own middleware, which in addition answers errors of the session's store.

    If the store does not answer, the answer is 503 with Retry-After, and never a logout; for data
    above 256 KiB it is 413. With Django's own, they are a 500. Raises ImproperlyConfigured at start
    if a setting cannot be honoured; with Django's own, the first request does.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        super().__init__(get_response)
        check_options()

    def process_exception(
        self, request: HttpRequest, exception: Exception
    ) -> HttpResponseBase | None:
        """Answers an error that the session has raised in a view."""
        session: Any = getattr(request, "session", None)
        if isinstance(exception, MayflyError) and exception is getattr(session, "problem", None):
            return _Problem(exception)
        return None

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        """Writes the session. If that fails, the error replaces the response."""
        if isinstance(response, _Problem):
            return response  # the view has failed, so what it changed is not written
        try:
            answer: HttpResponseBase = super().process_response(request, response)
        except MayflyError as problem:
            return _Problem(problem)
        return answer


class _Problem(HttpResponse):
    """The answer to an error that the session has raised."""

    def __init__(self, problem: MayflyError) -> None:
        super().__init__(
            f"{problem}\n",
            status=problem.status,
            content_type="text/plain; charset=utf-8",
            headers=dict(problem.headers()),
        )
        patch_vary_headers(self, ["Cookie"])
