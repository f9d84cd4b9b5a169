"""/counters/{name} and /limits/{name}/take: count exactly, and take from limits."""

from urllib.parse import unquote

from aws_lambda_powertools.event_handler import Response
from mayfly import counters, limits
from mayfly.core.errors import InvalidRequest
from mayfly.core.json_input import NAME, read_idempotency_key
from mayfly.counters.rules import read_creation, read_increment
from mayfly.limits.rules import read_take
from mayfly.web import http

from .deps import Deps

__all__ = ["build"]

_SCOPES = {
    "POST /counters/{name}/increment": "counters:write",
    "GET /counters/{name}": "counters:read",
    "PUT /counters/{name}": "counters:write",
    "DELETE /counters/{name}": "counters:write",
    "POST /limits/{name}/take": "limits:write",
}


def build(deps: Deps) -> http.Handler:
    """The handler of counters and limits."""
    app = http.resolver(deps.observe, _SCOPES, quota=deps.quota)
    store = deps.counters

    @app.post("/counters/<name>/increment")
    def increment(name: str) -> Response[str]:
        key = read_idempotency_key(http.header(app, "idempotency-key"))
        asked = read_increment(
            http.json_body(app) if app.current_event.body else {}, is_keyed=key is not None
        )
        count = counters.increment(
            store,
            tenant=http.caller(app).tenant,
            name=_name(name),
            **vars(asked.step),
            idempotency_key=key,
            approximate=asked.approximate,
        )
        return _shown(count)

    @app.get("/counters/<name>")
    def read(name: str) -> Response[str]:
        return _shown(counters.read(store, tenant=http.caller(app).tenant, name=_name(name)))

    @app.put("/counters/<name>")
    def create(name: str) -> Response[str]:
        shards = read_creation(http.json_body(app))
        counters.create_sharded(
            store, tenant=http.caller(app).tenant, name=_name(name), shards=shards
        )
        return http.answer({"name": _name(name), "shards": shards})

    @app.delete("/counters/<name>")
    def delete(name: str) -> Response[str]:
        counters.delete(store, tenant=http.caller(app).tenant, name=_name(name))
        return http.nothing()

    @app.post("/limits/<name>/take")
    def take(name: str) -> Response[str]:
        asked = read_take(_name(name), http.json_body(app))
        decision = limits.take(
            deps.limits, asked.limit, tenant=http.caller(app).tenant, key=asked.key, cost=asked.cost
        )
        deps.observe.count("LimitAdmitted" if decision.is_allowed else "LimitRefused")
        return _decided(decision)

    return http.entrypoint(app, deps.observe)


def _shown(count: counters.Count) -> Response[str]:
    return http.answer({"name": count.name, "value": count.value})


def _decided(decision: limits.Decision) -> Response[str]:
    limit = decision.limit
    shown = {
        "allowed": decision.is_allowed,
        "remaining": decision.remaining,
        "reset_seconds": decision.reset_seconds,
    }
    rates = http.rate_limit(
        limit.name,
        limit.limit,
        limit.period_seconds,
        decision.remaining,
        decision.reset_seconds,
        is_allowed=decision.is_allowed,
    )
    return http.answer(shown, status=200 if decision.is_allowed else 429, headers=rates)


def _name(part: str) -> str:
    """A name in a path, where `@` and `+` may come percent-encoded."""
    name = unquote(part)
    if not NAME.fullmatch(name):
        raise InvalidRequest("name", f"must match {NAME.pattern}")
    return name
