"""/sessions and /subjects/{subject}/sessions: make sessions, use them by their token, list and end
a subject's.
"""

from urllib.parse import unquote

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from mayfly import sessions
from mayfly.core.errors import InvalidRequest, UnsupportedMediaType
from mayfly.core.json_input import NAME
from mayfly.sessions.rules import (
    public,
    read_creation,
    read_cursor,
    read_if_match,
    read_rotation,
    write_cursor,
)
from mayfly.web import http

from .deps import Deps

__all__ = ["build"]

_SCOPES = {
    "POST /sessions": "sessions:write",
    "GET /sessions/current": "sessions:read",
    "PATCH /sessions/current": "sessions:write",
    "DELETE /sessions/current": "sessions:write",
    "POST /sessions/current/rotate": "sessions:write",
    "GET /subjects/{subject}/sessions": "sessions:read",
    "DELETE /subjects/{subject}/sessions": "sessions:write",
    "DELETE /subjects/{subject}/sessions/{id}": "sessions:write",
}
_PATCH_TYPES = ["application/json", "application/merge-patch+json"]
#: What curl says of a body whose type nobody has told it; the other routes take that for JSON, too.
_UNLABELLED = "application/x-www-form-urlencoded"


def build(deps: Deps) -> http.Handler:
    """The handler of the sessions API."""
    app = http.resolver(deps.observe, _SCOPES, quota=deps.quota)
    _serve_holders(app, deps)
    _serve_subjects(app, deps)
    return http.entrypoint(app, deps.observe)


def _serve_holders(app: APIGatewayHttpResolver, deps: Deps) -> None:
    """The routes of one session, by its token."""
    store = deps.store

    @app.post("/sessions")
    def create() -> Response[str]:
        asked = read_creation(http.json_body(app) if app.current_event.body else {})
        token, session = sessions.create(
            store,
            tenant=http.caller(app).tenant,
            subject=asked.subject,
            data=asked.data,
            idle_seconds=asked.idle_seconds,
            absolute_seconds=asked.absolute_seconds,
        )
        deps.observe.count("SessionCreated")
        return _shown(session, token=token, status=201)

    @app.get("/sessions/current")
    def read() -> Response[str]:
        return _shown(sessions.read(store, _token(), tenant=http.caller(app).tenant))

    @app.patch("/sessions/current")
    def patch() -> Response[str]:
        kind = (
            (http.header(app, "content-type") or _PATCH_TYPES[0]).partition(";")[0].strip().lower()
        )
        if kind not in (*_PATCH_TYPES, _UNLABELLED):
            raise UnsupportedMediaType(kind, _PATCH_TYPES)
        body = http.json_body(app)
        if not isinstance(body, dict):
            raise InvalidRequest(
                "body", "must be a JSON object: what it holds is merged into the session's data"
            )
        if_match = read_if_match(http.header(app, "if-match"))
        return _shown(
            sessions.patch(store, _token(), body, tenant=http.caller(app).tenant, if_match=if_match)
        )

    @app.post("/sessions/current/rotate")
    def rotate() -> Response[str]:
        subject = read_rotation(http.json_body(app) if app.current_event.body else {})
        token, session = sessions.rotate(
            store, _token(), tenant=http.caller(app).tenant, subject=subject
        )
        deps.observe.count("SessionRotated")
        return _shown(session, token=token)

    @app.delete("/sessions/current")
    def end() -> Response[str]:
        sessions.end(store, _token(), tenant=http.caller(app).tenant)
        deps.observe.count("SessionEnded")
        return http.nothing()

    def _token() -> str:
        found = http.header(app, "session-token")
        if not found:
            raise InvalidRequest(
                "Session-Token", "is missing; send the token of POST /sessions in this header"
            )
        return found


def _serve_subjects(app: APIGatewayHttpResolver, deps: Deps) -> None:
    """The routes of all sessions of a subject, by its name."""
    store = deps.store

    @app.get("/subjects/<subject>/sessions")
    def list_by_subject(subject: str) -> Response[str]:
        cursor = http.query(app, "cursor")
        page = sessions.list_by_subject(
            store,
            tenant=http.caller(app).tenant,
            subject=_name(subject),
            after=None if cursor is None else read_cursor(cursor),
        )
        following = None if page.next is None else write_cursor(page.next)
        return http.answer({"items": [public(each) for each in page.sessions], "next": following})

    @app.delete("/subjects/<subject>/sessions")
    def end_all(subject: str) -> Response[str]:
        sessions.end_all(store, tenant=http.caller(app).tenant, subject=_name(subject))
        deps.observe.count("SubjectSessionsEnded")
        return http.nothing()

    @app.delete("/subjects/<subject>/sessions/<session_id>")
    def end_one(subject: str, session_id: str) -> Response[str]:
        sessions.end_one(
            store, tenant=http.caller(app).tenant, subject=_name(subject), session_id=session_id
        )
        deps.observe.count("SessionEnded")
        return http.nothing()


def _shown(
    session: sessions.Session, *, token: str | None = None, status: int = 200
) -> Response[str]:
    shown = public(session)
    return http.answer(
        shown if token is None else {**shown, "token": token},
        status=status,
        headers={"ETag": f'"{session.version}"'},
    )


def _name(part: str) -> str:
    """A subject in a path, where `@` and `+` may come percent-encoded."""
    name = unquote(part)
    if not NAME.fullmatch(name):
        raise InvalidRequest("subject", f"must match {NAME.pattern}")
    return name
