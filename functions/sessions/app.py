"""Routes /sessions and /subjects/{subject}/sessions.

Callers create sessions, use them by their token, and list and end the sessions of a subject.
"""

from mayfly import Response, sessions
from mayfly.core.errors import InvalidRequest
from mayfly.sessions.wire import (
    public,
    read_creation,
    read_cursor,
    read_if_match,
    read_rotation,
    write_cursor,
)
from mayfly.web import answers
from mayfly.web.errors import UnsupportedMediaType
from mayfly.web.resolver import Api, Handler, read_name

from .deps import Deps

__all__ = ["build"]

_PATCH_TYPES = ["application/json", "application/merge-patch+json"]
#: The type that curl gives a body by default. This route reads such a body as JSON, as others do.
_UNLABELLED = "application/x-www-form-urlencoded"


def build(deps: Deps) -> Handler:
    """Returns the handler of the sessions API."""
    api = Api(deps.observe, quota=deps.quota)
    _serve_holders(api, deps)
    _serve_subjects(api, deps)
    return api.handler()


def _serve_holders(api: Api, deps: Deps) -> None:
    """Adds the routes of one session, by its token."""
    store = deps.store

    @api.post("/sessions", scope="sessions:write", body=read_creation)
    def create() -> Response[str]:
        creation = read_creation(api.json_body() if api.has_body else {})
        token, session = sessions.create(
            store,
            tenant=api.tenant,
            subject=creation.subject,
            data=creation.data,
            idle_seconds=creation.idle_seconds,
            absolute_seconds=creation.absolute_seconds,
        )
        deps.observe.count("SessionCreated")
        return _answer_session(session, token=token, status=201)

    @api.get("/sessions/current", scope="sessions:read")
    def read() -> Response[str]:
        return _answer_session(sessions.read(store, _token(), tenant=api.tenant))

    @api.patch("/sessions/current", scope="sessions:write")
    def patch() -> Response[str]:
        content_type = api.header("content-type") or _PATCH_TYPES[0]
        media_type = content_type.partition(";")[0].strip().lower()
        if media_type not in (*_PATCH_TYPES, _UNLABELLED):
            raise UnsupportedMediaType(media_type, _PATCH_TYPES)
        body = api.json_body()
        if not isinstance(body, dict):
            raise InvalidRequest(
                "body", "must be a JSON object; its members are merged into the session's data"
            )
        if_match = read_if_match(api.header("if-match"))
        return _answer_session(
            sessions.patch(store, _token(), body, tenant=api.tenant, if_match=if_match)
        )

    @api.post("/sessions/current/rotate", scope="sessions:write", body=read_rotation)
    def rotate() -> Response[str]:
        subject = read_rotation(api.json_body() if api.has_body else {})
        token, session = sessions.rotate(store, _token(), tenant=api.tenant, subject=subject)
        deps.observe.count("SessionRotated")
        return _answer_session(session, token=token)

    @api.delete("/sessions/current", scope="sessions:write")
    def end() -> Response[str]:
        sessions.end(store, _token(), tenant=api.tenant)
        deps.observe.count("SessionEnded")
        return answers.nothing()

    def _token() -> str:
        token = api.header("session-token")
        if not token:
            raise InvalidRequest(
                "Session-Token", "is missing; send the token from POST /sessions in this header"
            )
        return token


def _serve_subjects(api: Api, deps: Deps) -> None:
    """Adds the routes of a subject's sessions, by its name."""
    store = deps.store

    @api.get("/subjects/<subject>/sessions", scope="sessions:read")
    def list_by_subject(subject: str) -> Response[str]:
        cursor = api.query("cursor")
        page = sessions.list_by_subject(
            store,
            tenant=api.tenant,
            subject=read_name(subject, "subject"),
            after=None if cursor is None else read_cursor(cursor),
        )
        following = None if page.next is None else write_cursor(page.next)
        return answers.answer(
            {"items": [public(session) for session in page.sessions], "next": following}
        )

    @api.delete("/subjects/<subject>/sessions", scope="sessions:write")
    def end_all(subject: str) -> Response[str]:
        sessions.end_all(store, tenant=api.tenant, subject=read_name(subject, "subject"))
        deps.observe.count("SubjectSessionsEnded")
        return answers.nothing()

    @api.delete("/subjects/<subject>/sessions/<session_id>", scope="sessions:write")
    def end_one(subject: str, session_id: str) -> Response[str]:
        sessions.end_one(
            store, tenant=api.tenant, subject=read_name(subject, "subject"), session_id=session_id
        )
        deps.observe.count("SessionEnded")
        return answers.nothing()


def _answer_session(
    session: sessions.Session, *, token: str | None = None, status: int = 200
) -> Response[str]:
    body = public(session)
    return answers.answer(
        body if token is None else {**body, "token": token},
        status=status,
        headers={"ETag": f'"{session.version}"'},
    )
