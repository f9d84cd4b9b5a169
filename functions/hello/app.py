"""GET /, GET /health: a page that counts its visits in the store, and the probe.

Answers what no route takes, too.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from mayfly import counters, limits, sessions
from mayfly.core.errors import SessionNotFound
from mayfly.sessions.rules import is_anonymous
from mayfly.sessions.web.cookies import is_plain_loopback, set_cookie, token_in
from mayfly.web import http

from .deps import Deps

__all__ = ["ROUTES", "build"]

#: The paths of the whole API and the methods they take, for an honest 405. Kept equal to
#: template.yaml by a test.
ROUTES = {
    "/": ["GET"],
    "/health": ["GET"],
    "/openapi.json": ["GET"],
    "/counters/{name}": ["DELETE", "GET", "PUT"],
    "/counters/{name}/increment": ["POST"],
    "/jobs": ["GET", "POST"],
    "/jobs/{id}": ["GET"],
    "/jobs/{id}/cancel": ["POST"],
    "/jobs/{id}/redrive": ["POST"],
    "/limits/{name}/take": ["POST"],
    "/schedules": ["GET"],
    "/schedules/{name}": ["DELETE", "GET", "PUT"],
    "/schedules/{name}/pause": ["POST"],
    "/schedules/{name}/resume": ["POST"],
    "/sessions": ["POST"],
    "/sessions/current": ["DELETE", "GET", "PATCH"],
    "/sessions/current/rotate": ["POST"],
    "/subjects/{subject}/sessions": ["DELETE", "GET"],
    "/subjects/{subject}/sessions/{id}": ["DELETE"],
}

_SCOPES = {
    "GET /": http.PUBLIC,
    "GET /health": http.PUBLIC,
    "GET /openapi.json": http.PUBLIC,
    "$default": http.PUBLIC,
}
Page = Callable[[], Response[str]]

#: Made by `make openapi`.
_DOCUMENT = Path(__file__).with_name("openapi.json")
_COOKIE = "visitor"
_IDLE_SECONDS = 30 * 24 * 3600
_ABSOLUTE_SECONDS = 400 * 24 * 3600


def build(deps: Deps) -> http.Handler:
    """The handler of the page."""
    app = http.resolver(deps.observe, _SCOPES, all_routes=ROUTES)

    @app.get("/")
    @_limited(deps, lambda: _address(app))
    def hello() -> Response[str]:
        if "application/json" not in (http.header(app, "accept") or ""):
            return http.text(f"Hello World! {count_hit()} times.")
        plain = _is_local(app)
        token, yours = count_visit(token_in(http.cookies(app), _COOKIE, plain=plain))
        cookie = (
            {}
            if token is None
            else {"Set-Cookie": set_cookie(_COOKIE, token, plain=plain, max_age=_ABSOLUTE_SECONDS)}
        )
        return http.answer({"hits": count_hit(), "yours": yours}, headers=cookie)

    def count_hit() -> int:
        deps.observe.count("Hits")
        return counters.increment(deps.counters, tenant=deps.tenant, name="hits").value

    def count_visit(token: str | None) -> tuple[str | None, int]:
        """A visitor's own visits; with a token where it has none yet, or one that opens nothing:
        that is never taken over.
        """
        if token and is_anonymous(token):
            try:
                return None, int(
                    sessions.change(deps.sessions(), token, _one_more, tenant=deps.tenant).data[
                        "visits"
                    ]
                )
            except SessionNotFound:
                pass
        made, session = sessions.create(
            deps.sessions(),
            tenant=deps.tenant,
            data=_one_more({}),
            idle_seconds=_IDLE_SECONDS,
            absolute_seconds=_ABSOLUTE_SECONDS,
        )
        return made, int(session.data["visits"])

    @app.get("/health")
    def health() -> Response[str]:
        deps.counters.ping()
        return http.answer({"status": "ok"})

    @app.get("/openapi.json")
    def describe() -> Response[str]:
        return http.document(_DOCUMENT.read_text(encoding="utf-8"))

    return http.entrypoint(app, deps.observe)


def _limited(deps: Deps, address: Callable[[], str]) -> Callable[[Page], Page]:
    """As many as the stack allows one address in a minute; the decorator of a page that it does not
    limit does nothing.
    """
    if not deps.page_limit:
        return lambda page: page
    limit = limits.Limit("page", deps.page_limit, period_seconds=60)
    # A page that counts is not worth a 503.
    return limits.guard(deps.limits, limit, tenant=deps.tenant, key=address, fail_open=True)


def _address(app: APIGatewayHttpResolver) -> str:
    """The client's, as the gateway saw it: what a header says of it, anybody can write (ASVS 5.0,
    4.1.3).
    """
    return str(app.current_event.request_context.http.source_ip)


def _is_local(app: APIGatewayHttpResolver) -> bool:
    """Whether this is the local stack: API Gateway itself speaks HTTPS only."""
    return is_plain_loopback("http", {"host": app.current_event.request_context.domain_name or ""})


def _one_more(data: dict[str, Any]) -> dict[str, Any]:
    visits = data.get("visits")
    return {"visits": visits + 1 if isinstance(visits, int) else 1}
