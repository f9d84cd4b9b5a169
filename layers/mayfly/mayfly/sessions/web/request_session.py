"""The session of one request, for any framework.

It is read once; then its changes are written, and the cookie to set is returned.
"""

import copy
import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

from mayfly import sessions
from mayfly.core.errors import InvalidRequest
from mayfly.sessions import DEFAULT_ABSOLUTE_SECONDS, DEFAULT_IDLE_SECONDS, Session, SessionStore
from mayfly.sessions.errors import SessionNotFound
from mayfly.sessions.rules import check_lifetime
from mayfly.sessions.store import SessionRotated
from mayfly.sessions.web.changes import Changes, check_data, is_same
from mayfly.sessions.web.cookies import Cookie, check_origins, is_cross_site

__all__ = ["RequestSession", "Rotation", "Settings"]

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """An application's settings for its sessions.

    Pages of `trusted_origins` may make requests that change something, although they are of other
    origins. Raises ValueError for a lifetime or an origin that cannot be.
    """

    store: SessionStore
    tenant: str
    cookie: Cookie = field(default_factory=Cookie)
    idle_seconds: int = DEFAULT_IDLE_SECONDS
    absolute_seconds: int = DEFAULT_ABSOLUTE_SECONDS
    trusted_origins: Iterable[str] = ()
    #: Reasons for which clients lose the cookie, those that the log has already.
    logged: set[str] = field(default_factory=set, compare=False)

    def __post_init__(self) -> None:
        try:
            check_lifetime(self.idle_seconds, self.absolute_seconds)
        except InvalidRequest as problem:
            raise ValueError(str(problem)) from problem
        object.__setattr__(self, "trusted_origins", check_origins(self.trusted_origins))


@dataclass(frozen=True)
class Rotation:
    """A request for a new token; with a subject, the session becomes that subject's."""

    subject: str | None = None


class RequestSession:
    """The session of one request.

    It makes no store call before `load`, and none in `load` if the request has no token. An unknown
    token is never used for a new session, which gets a new token. If another request rotated the
    token just now, the changes are dropped and no cookie is set: this response may reach the
    browser after the response with the new token.
    """

    def __init__(
        self, settings: Settings, *, method: str, scheme: str, headers: Mapping[str, str]
    ) -> None:
        """Takes `headers` with lower-case names."""
        self._settings = settings
        self._plain = settings.cookie.is_plain(scheme, headers)
        self._loss = settings.cookie.loss(scheme, headers)
        self._token = settings.cookie.token_in(
            headers.get("cookie", "").split(";"), plain=self._plain
        )
        self._session: Session | None = None
        self._was_rotated = False
        #: The data as it was read.
        self.initial: dict[str, Any] = {}
        #: True if a page of another origin made this request, which may change something. Such a
        #: request must not use the session.
        self.is_cross_site = is_cross_site(
            method, headers, trusted_origins=settings.trusted_origins
        )

    @property
    def has_cookie(self) -> bool:
        """True if the request has a token, valid or not."""
        return self._token is not None

    @property
    def is_new(self) -> bool:
        """True if `load` found no session."""
        return self._session is None

    def load(self) -> dict[str, Any]:
        """Returns the session's data, empty if there is no session.

        Raises StoreUnavailable, which must not be treated as a logout.
        """
        if self._token is not None:
            try:
                self._session = sessions.read(
                    self._settings.store, self._token, tenant=self._settings.tenant
                )
            except SessionRotated:
                self._was_rotated = True
            except SessionNotFound:
                self._session = None
        self.initial = self._session.data if self._session else {}
        return copy.deepcopy(self.initial)

    def has_changed(self, data: dict[str, Any]) -> bool:
        """Returns True if data differs from the data that was read."""
        return not is_same(data, self.initial)

    def save(
        self,
        data: dict[str, Any],
        *,
        is_cleared: bool = False,
        rotation: Rotation | None = None,
        lifetime: tuple[int, int] | None = None,
        keeps: bool = False,
    ) -> str | None:
        """Writes the changes since `load`, and returns the value for a Set-Cookie header, if any.

        Changes are written key by key, so concurrent requests overwrite each other only if both set
        the same key. A session that was cleared is ended; data set since starts a new one.
        `lifetime` sets other idle and absolute seconds. With `keeps` the browser keeps the cookie
        when it closes.

        If the session was ended or rotated meanwhile, nothing is written and no cookie is set, so
        that a slow request cannot bring a session back. Raises StoreUnavailable, PayloadTooLarge
        and InvalidRequest, with nothing written, and the errors of `check_data`.
        """
        check_data(data)
        if is_cleared:
            return self._start_again(data, rotation, lifetime, keeps=keeps)
        if self._was_rotated:
            self._log_dropped()
            return None
        if self._session is None or self._token is None:
            return self._create(data, rotation, lifetime, keeps=keeps) if data or rotation else None
        try:
            return self._write(self._token, data, rotation, lifetime, keeps=keeps)
        except SessionNotFound:
            self._log_dropped()
            return None

    def _start_again(
        self,
        data: dict[str, Any],
        rotation: Rotation | None,
        lifetime: tuple[int, int] | None,
        *,
        keeps: bool,
    ) -> str | None:
        if self._session is not None:
            with suppress(SessionNotFound):  # another request has ended it
                sessions.end_read(self._settings.store, self._session)
        if data or rotation:
            return self._create(data, rotation, lifetime, keeps=keeps)
        return self._settings.cookie.clear(plain=self._plain) if self.has_cookie else None

    def _log_dropped(self) -> None:
        _LOG.warning(
            "a session was ended or rotated during a request; the request's changes to it were "
            "dropped"
        )

    def _create(
        self,
        data: dict[str, Any],
        rotation: Rotation | None,
        lifetime: tuple[int, int] | None,
        *,
        keeps: bool,
    ) -> str:
        idle_seconds, absolute_seconds = lifetime or (
            self._settings.idle_seconds,
            self._settings.absolute_seconds,
        )
        token, session = sessions.create(
            self._settings.store,
            tenant=self._settings.tenant,
            subject=rotation.subject if rotation else None,
            data=data,
            idle_seconds=idle_seconds,
            absolute_seconds=absolute_seconds,
        )
        return self._cookie(token, session, keeps=keeps)

    def _write(
        self,
        token: str,
        data: dict[str, Any],
        rotation: Rotation | None,
        lifetime: tuple[int, int] | None,
        *,
        keeps: bool,
    ) -> str | None:
        changes = Changes(self.initial, data)
        store, tenant = self._settings.store, self._settings.tenant
        if rotation is not None:
            new_token, session = sessions.rotate(
                store,
                token,
                tenant=tenant,
                subject=rotation.subject,
                edit=changes.apply,
                lifetime=lifetime,
            )
            return self._cookie(new_token, session, keeps=keeps)
        if changes or lifetime:
            session = sessions.change(store, token, changes.apply, tenant=tenant, lifetime=lifetime)
            return self._cookie(token, session, keeps=keeps) if lifetime else None
        return None

    def _cookie(self, token: str, session: Session, *, keeps: bool) -> str:
        seconds = (session.absolute_expires_at_ms - self._settings.store.clock()) // 1000
        self._log_loss()
        return self._settings.cookie.set(
            token, plain=self._plain, max_age=max(0, seconds) if keeps else None
        )

    def _log_loss(self) -> None:
        """Warns once for each reason for which clients lose the cookie."""
        if self._loss is not None and self._loss not in self._settings.logged:
            self._settings.logged.add(self._loss)
            _LOG.warning("the session's cookie will be lost: %s", self._loss)
