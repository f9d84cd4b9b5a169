"""Routes /counters/{name} and /limits/{name}: exact counters, and limits."""

from mayfly import Response, counters, limits
from mayfly.core.json_input import read_idempotency_header
from mayfly.counters.wire import public, read_creation, read_increment
from mayfly.limits.wire import read_query, read_take
from mayfly.web import answers
from mayfly.web.rate_headers import rate_headers
from mayfly.web.resolver import Api, Handler, read_name

from .deps import Deps

__all__ = ["build"]


def build(deps: Deps) -> Handler:
    """Returns the handler of counters and limits."""
    api, store = Api(deps.observe, quota=deps.quota), deps.counters

    @api.post("/counters/<name>/increment", scope="counters:write", body=read_increment)
    def increment(name: str) -> Response[str]:
        key = read_idempotency_header(api.header("idempotency-key"))
        body = api.json_body() if api.has_body else {}
        requested = read_increment(body, is_keyed=key is not None)
        count = counters.increment(
            store,
            tenant=api.tenant,
            name=read_name(name),
            **vars(requested.step),
            idempotency_key=key,
            approximate=requested.approximate,
        )
        return _answer_count(count)

    @api.get("/counters/<name>", scope="counters:read")
    def read(name: str) -> Response[str]:
        return _answer_count(counters.read(store, tenant=api.tenant, name=read_name(name)))

    @api.put("/counters/<name>", scope="counters:write", body=read_creation)
    def create(name: str) -> Response[str]:
        shards, name = read_creation(api.json_body()), read_name(name)
        counters.create_sharded(store, tenant=api.tenant, name=name, shards=shards)
        return answers.answer({"name": name, "shards": shards})

    @api.delete("/counters/<name>", scope="counters:write")
    def delete(name: str) -> Response[str]:
        counters.delete(store, tenant=api.tenant, name=read_name(name))
        return answers.nothing()

    @api.post("/limits/<name>/take", scope="limits:write", body=read_take)
    def take(name: str) -> Response[str]:
        requested = read_take(read_name(name), api.json_body())
        decision = limits.take(
            deps.limits,
            requested.limit,
            tenant=api.tenant,
            key=requested.key,
            cost=requested.cost,
        )
        deps.observe.count("LimitAdmitted" if decision.is_allowed else "LimitRefused")
        return _answer_decision(decision)

    @api.get("/limits/<name>", scope="limits:read")
    def read_limit(name: str) -> Response[str]:
        asked = read_query(read_name(name), api.query)
        decision = limits.read(
            deps.limits, asked.limit, tenant=api.tenant, key=asked.key, cost=asked.cost
        )
        return answers.answer(_decision(decision), headers=_rate_headers(decision))

    @api.delete("/limits/<name>", scope="limits:write")
    def reset_limit(name: str) -> Response[str]:
        asked = read_query(read_name(name), api.query)
        limits.reset(deps.limits, asked.limit, tenant=api.tenant, key=asked.key)
        return answers.nothing()

    return api.handler()


def _answer_count(count: counters.Count) -> Response[str]:
    return answers.answer(public(count))


def _answer_decision(decision: limits.Decision) -> Response[str]:
    status = 200 if decision.is_allowed else 429
    return answers.answer(_decision(decision), status=status, headers=_rate_headers(decision))


def _decision(decision: limits.Decision) -> dict[str, object]:
    return {
        "allowed": decision.is_allowed,
        "remaining": decision.remaining,
        "reset_seconds": decision.reset_seconds,
    }


def _rate_headers(decision: limits.Decision) -> dict[str, str]:
    limit = decision.limit
    return rate_headers(
        limit.name,
        limit.limit,
        limit.period_seconds,
        decision.remaining,
        decision.reset_seconds,
        is_allowed=decision.is_allowed,
    )
