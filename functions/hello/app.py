"""Routes GET / and GET /health: a page that counts its visits, and the health check.

This function also gets all requests without a route, and answers 404 or 405.
"""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from mayfly import Response, counters, limits, sessions
from mayfly.sessions.errors import SessionNotFound
from mayfly.sessions.tokens import is_anonymous
from mayfly.sessions.web.cookies import Cookie, is_plain_loopback
from mayfly.web import answers
from mayfly.web.resolver import PUBLIC, Api, Handler

from .deps import Deps

__all__ = ["build"]

Page = Callable[[], Response[str]]

#: The description of the whole API, made by `make openapi`.
_DOCUMENT = Path(__file__).with_name("openapi.json")
_COOKIE = Cookie("visitor")
_IDLE_SECONDS = 30 * 24 * 3600
_ABSOLUTE_SECONDS = 400 * 24 * 3600


def build(deps: Deps) -> Handler:
    """Returns the handler of the page."""
    api = Api(deps.observe, all_routes=_all_routes)

    @api.get("/", scope=PUBLIC)
    @_limited(deps, lambda: api.source_address)
    def hello() -> Response[str]:
        if "application/json" not in (api.header("accept") or ""):
            return answers.text(f"Hello World! {count_hit()} times.")
        # API Gateway accepts HTTPS only, so only a request to loopback can be plain HTTP.
        plain = is_plain_loopback("http", {"host": api.domain_name})
        token, visits = count_own_visit(_COOKIE.token_in(api.cookies(), plain=plain))
        headers = {}
        if token is not None:
            headers["Set-Cookie"] = _COOKIE.set(token, plain=plain, max_age=_ABSOLUTE_SECONDS)
        return answers.answer({"hits": count_hit(), "yours": visits}, headers=headers)

    def count_hit() -> int:
        deps.observe.count("Hits")
        return counters.increment(deps.counters, tenant=deps.tenant, name="hits").value

    def count_own_visit(token: str | None) -> tuple[str | None, int]:
        """Counts a visitor's own visits in a session, and returns a new token and the number.

        The token is None if the visitor has a live session. Otherwise the new session gets a token
        of its own; the visitor's is never taken over.
        """
        store, tenant = deps.sessions(), deps.tenant
        if token and is_anonymous(token):
            try:
                session = sessions.change(store, token, _one_more, tenant=tenant)
                return None, int(session.data["visits"])
            except SessionNotFound:
                pass
        token, session = sessions.create(
            store,
            tenant=tenant,
            data=_one_more({}),
            idle_seconds=_IDLE_SECONDS,
            absolute_seconds=_ABSOLUTE_SECONDS,
        )
        return token, int(session.data["visits"])

    @api.get("/health", scope=PUBLIC)
    def health() -> Response[str]:
        deps.counters.ping()
        return answers.answer({"status": "ok"})

    @api.get("/openapi.json", scope=PUBLIC)
    def describe() -> Response[str]:
        return answers.document(_DOCUMENT.read_text(encoding="utf-8"))

    return api.handler()


def _limited(deps: Deps, address: Callable[[], str]) -> Callable[[Page], Page]:
    """Returns a decorator that limits a page by client address and minute."""
    if not deps.page_limit:
        return lambda page: page
    limit = limits.Limit("page", deps.page_limit, period_seconds=60)
    return limits.limited(
        deps.limits,
        limit,
        tenant=deps.tenant,
        key=address,
        # If the limit cannot be read, the page is served: it is not worth a 503.
        fail_open=True,
        on_fail_open=lambda: deps.observe.count("LimitFailedOpen"),
    )


@cache
def _all_routes() -> dict[str, list[str]]:
    """Returns the paths in the API's description, each with its methods."""
    paths = json.loads(_DOCUMENT.read_text(encoding="utf-8"))["paths"]
    return {path: sorted(method.upper() for method in paths[path]) for path in paths}


def _one_more(data: dict[str, Any]) -> dict[str, Any]:
    visits = data.get("visits")
    return {"visits": visits + 1 if isinstance(visits, int) else 1}
