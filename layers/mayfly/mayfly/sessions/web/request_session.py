"""What one request does with one session, whatever the framework: read it once, write what it
changed, say what cookie to set.
"""

import copy
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from mayfly import sessions
from mayfly.core.json_input import canonical_json
from mayfly.sessions import DEFAULT_ABSOLUTE_SECONDS, DEFAULT_IDLE_SECONDS, Session, SessionStore
from mayfly.sessions.errors import SessionNotFound
from mayfly.sessions.store import SessionRotated
from mayfly.sessions.web.cookies import (
    clear_cookie,
    is_cross_site,
    is_plain_loopback,
    set_cookie,
    token_in,
)

__all__ = ["RequestSession", "Rotation", "Settings"]

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settings:
    """How an application keeps its sessions.

    `trusted_origins` may make requests that change something from other sites.
    """

    store: SessionStore
    tenant: str
    cookie: str
    idle_seconds: int = DEFAULT_IDLE_SECONDS
    absolute_seconds: int = DEFAULT_ABSOLUTE_SECONDS
    trusted_origins: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Rotation:
    """A new token is asked for; with a subject, for that one."""

    subject: str | None = None


class RequestSession:
    """One request's session. Makes no store call before `load`, and none at all where the request
    brought no token.

    A token that opens nothing is never adopted: what is written without a session gets one with a
    new token. One that opened a session until a moment ago, when another request rotated it, gets
    none: this answer may reach the browser after that one's.
    """

    def __init__(
        self, settings: Settings, *, method: str, scheme: str, headers: Mapping[str, str]
    ) -> None:
        """`headers` by lower-case names."""
        self._settings = settings
        self._plain = is_plain_loopback(scheme, headers)
        self._token = token_in(
            headers.get("cookie", "").split(";"), settings.cookie, plain=self._plain
        )
        self._session: Session | None = None
        self._was_overtaken = False
        #: The data as it was read.
        self.initial: dict[str, Any] = {}
        #: A page of another site made this request, which may change something: it gets no session.
        self.is_cross_site = is_cross_site(
            method, headers, trusted_origins=settings.trusted_origins
        )

    @property
    def has_cookie(self) -> bool:
        """Whether the request brought a token, good or not."""
        return self._token is not None

    @property
    def is_new(self) -> bool:
        """Whether there is no session yet, once it is loaded."""
        return self._session is None

    def load(self) -> dict[str, Any]:
        """The session's data, empty where there is none.

        Raises StoreUnavailable: that is no logout.
        """
        if self._token is not None:
            try:
                self._session = sessions.read(
                    self._settings.store, self._token, tenant=self._settings.tenant
                )
            except SessionRotated:
                self._was_overtaken = True
            except SessionNotFound:
                self._session = None
        self.initial = self._session.data if self._session else {}
        return copy.deepcopy(self.initial)

    def has_changed(self, data: dict[str, Any]) -> bool:
        """Whether data differs from what was read."""
        return not _is_same(data, self.initial)

    def save(
        self,
        data: dict[str, Any],
        *,
        is_cleared: bool = False,
        rotation: Rotation | None = None,
        lifetime: tuple[int, int] | None = None,
        keeps: bool = False,
    ) -> str | None:
        """Writes what changed since `load`, key by key: requests that overlap lose nothing of each
        other's, but where both set one key.

        Returns the value for a Set-Cookie header, if the browser is to change its cookie. A session
        that was cleared is ended, and what was set since is a new one. `lifetime` sets other idle
        and absolute seconds; `keeps` makes the browser keep the cookie when it closes.

        Where the session was ended or rotated meanwhile, nothing is written and no cookie set: a
        slow request brings back no session. Raises StoreUnavailable, PayloadTooLarge and
        InvalidRequest, with nothing written.
        """
        if is_cleared:
            return self._start_anew(data, rotation, lifetime, keeps=keeps)
        if self._was_overtaken:
            self._drop()
            return None
        if self._session is None or self._token is None:
            return self._create(data, rotation, lifetime, keeps=keeps) if data or rotation else None
        try:
            return self._write(self._token, data, rotation, lifetime, keeps=keeps)
        except SessionNotFound:
            self._drop()
            return None

    def _start_anew(
        self,
        data: dict[str, Any],
        rotation: Rotation | None,
        lifetime: tuple[int, int] | None,
        *,
        keeps: bool,
    ) -> str | None:
        if self._session is not None:
            with suppress(SessionNotFound):  # ended by another request: what was asked for
                sessions.end_read(self._settings.store, self._session)
        if data or rotation:
            return self._create(data, rotation, lifetime, keeps=keeps)
        return clear_cookie(self._settings.cookie, plain=self._plain) if self.has_cookie else None

    def _drop(self) -> None:
        _LOG.warning(
            "a session was ended or rotated while a request worked with it; what the request "
            "changed in it was dropped"
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
        changes = {
            name: value
            for name, value in data.items()
            if name not in self.initial or not _is_same(self.initial[name], value)
        }
        removed = [name for name in self.initial if name not in data]

        def edit(current: dict[str, Any]) -> dict[str, Any]:
            return {
                **{name: value for name, value in current.items() if name not in removed},
                **changes,
            }

        store, tenant = self._settings.store, self._settings.tenant
        if rotation is not None:
            fresh, session = sessions.rotate(
                store, token, tenant=tenant, subject=rotation.subject, edit=edit, lifetime=lifetime
            )
            return self._cookie(fresh, session, keeps=keeps)
        if changes or removed or lifetime:
            session = sessions.change(store, token, edit, tenant=tenant, lifetime=lifetime)
            return self._cookie(token, session, keeps=keeps) if lifetime else None
        return None

    def _cookie(self, token: str, session: Session, *, keeps: bool) -> str:
        seconds = (session.absolute_expires_at_ms - self._settings.store.clock()) // 1000
        return set_cookie(
            self._settings.cookie,
            token,
            plain=self._plain,
            max_age=max(0, seconds) if keeps else None,
        )


def _is_same(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON: to Python, True is 1 and 1.0."""
    try:
        return canonical_json(one) == canonical_json(other)
    except ValueError:  # no JSON at all; whoever writes it says so
        return False
