"""/counters and /limits: the handler through `build`, on moto."""

import json
from typing import Any

import pytest
from mayfly.core.observability import observer
from mayfly.tenants import ALL_SCOPES

from functions.counters.app import build
from functions.counters.deps import Deps as CountersDeps
from tests.support.clients import make_client
from tests.support.counting import Counting
from tests.support.events import http
from tests.support.fakes import Context
from tests.support.faults import Faults
from tests.support.limiting import Limiting

CALLER = {"tenant": "acme", "scopes": "counters:read counters:write limits:read limits:write"}
INCREMENT, COUNTER, TAKE = (
    "POST /counters/{name}/increment",
    "/counters/{name}",
    "POST /limits/{name}/take",
)


class Api:
    """Calls the handler as one tenant."""

    def __init__(self, client: Any) -> None:
        self.once = make_client("dynamodb", attempts=1)
        self.counters, self.limits = Counting(self.once, client), Limiting(client)
        self.handler = build(
            CountersDeps(counters=self.counters, limits=self.limits, observe=observer("counters"))
        )

    def call(self, route: str, name: str = "hits", **more: Any) -> tuple[int, Any, dict[str, str]]:
        path = route.split(" ")[1].replace("{name}", name)
        reply = self.handler(http(route, path, **{"caller": CALLER, **more}), Context())
        return (
            reply["statusCode"],
            json.loads(reply["body"]) if reply.get("body") else None,
            reply["headers"],
        )

    def add(self, key: str | None = None, **body: Any) -> tuple[int, Any]:
        return self.call(INCREMENT, body=body, headers={"Idempotency-Key": key} if key else {})[:2]


@pytest.fixture
def api(dynamodb: Any) -> Api:
    return Api(dynamodb)


def test_counter_is_incremented_read_and_deleted(api: Api) -> None:
    assert api.call(f"GET {COUNTER}")[:2] == (200, {"name": "hits", "value": 0})
    assert api.call(INCREMENT)[:2] == (200, {"name": "hits", "value": 1})  # a body is optional
    assert api.add(by=41) == (200, {"name": "hits", "value": 42})
    assert api.call(f"GET {COUNTER}")[:2] == (200, {"name": "hits", "value": 42})
    assert api.call(f"DELETE {COUNTER}")[:2] == (204, None)
    assert api.call(f"GET {COUNTER}")[1]["value"] == 0


def test_name_may_be_percent_encoded(api: Api) -> None:
    assert api.call(INCREMENT, "a%40b%2Bc")[:2] == (200, {"name": "a@b+c", "value": 1})
    assert api.call(INCREMENT, "a%2Fb")[1]["field"] == "name"


@pytest.mark.parametrize("name", [".", "..", "%2e", "%2e%2e"])
def test_counter_cannot_have_a_name_that_clients_remove_from_paths(api: Api, name: str) -> None:
    status, problem, _ = api.call(INCREMENT, name)
    assert (status, problem["field"]) == (400, "name")
    assert "which HTTP clients remove" in problem["detail"]


def test_key_counts_once(api: Api) -> None:
    assert [api.add("k", by=2) for _ in range(2)] == [(200, {"name": "hits", "value": 2})] * 2
    status, problem = api.add("k", by=3)
    assert (status, problem["code"]) == (422, "idempotency-key-reused")


def test_key_counts_once_in_any_spelling_of_its_number(api: Api) -> None:
    assert [api.add("k", by=by) for by in (2, 2.0)] == [(200, {"name": "hits", "value": 2})] * 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2**53 - 1, None),
        (-(2**53) + 1, None),
        (2**53, "9007199254740992"),
        (2**53 + 1, "9007199254740993"),
        (-(2**53), "-9007199254740992"),
        (10**30, "1" + "0" * 30),
    ],
    ids=str,
)
def test_value_that_javascript_would_round_is_there_as_a_text(
    api: Api, value: int, text: str | None
) -> None:
    expected = {"name": "hits", "value": value} | ({} if text is None else {"value_text": text})
    assert api.add(by=value) == (200, expected)
    assert api.call(f"GET {COUNTER}")[:2] == (200, expected)


@pytest.mark.parametrize(
    ("by", "reason"),
    [
        (1e30, "not a float beyond 2^53, which is not exact"),
        (float(2**53 + 2), "not a float beyond 2^53, which is not exact"),
        (1.5, "not one with a fraction"),
        ("1", "not a text"),
    ],
)
def test_step_that_is_not_a_whole_number_is_rejected_with_its_reason(
    api: Api, by: Any, reason: str
) -> None:
    status, problem = api.add(by=by)
    assert (status, problem["detail"]) == (400, f"by: must be a whole number, {reason}")


def test_two_idempotency_keys_are_rejected(api: Api) -> None:
    status, problem = api.add("a, b")
    assert (status, problem["field"]) == (400, "Idempotency-Key")


def test_increment_outside_its_bounds_is_409(api: Api) -> None:
    assert api.add(by=5, ceiling=5) == (200, {"name": "hits", "value": 5})
    status, problem = api.add(by=1, ceiling=5)
    assert (status, problem["code"]) == (409, "counter-limit")
    assert "is at 5" in problem["detail"]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"by": 1.5}, "by"),
        ({"by": "1"}, "by"),
        ({"by": 10**31}, "by"),
        ({"floor": 10**38}, "floor"),
        ({"floor": 2, "ceiling": 1}, "floor"),
        ({"ttl_seconds": 0}, "ttl_seconds"),
        ({"approximate": 1}, "approximate"),
        ({"approximate": True, "ceiling": 1}, "approximate"),
        ({"step": 1}, "step"),
        ([], "body"),
    ],
)
def test_malformed_increment_is_rejected_with_the_name_of_the_field(
    api: Api, body: Any, field: str
) -> None:
    status, problem, _ = api.call(INCREMENT, body=body)
    assert (status, problem["code"], problem["field"]) == (400, "invalid-request", field)


def test_approximate_increment_cannot_have_a_key(api: Api) -> None:
    assert api.add(approximate=True) == (200, {"name": "hits", "value": 1})
    assert api.add("k", approximate=True)[1]["field"] == "approximate"


def test_sharded_counter_is_created_once(api: Api) -> None:
    assert api.call(f"PUT {COUNTER}", body={"shards": 4})[:2] == (
        200,
        {"name": "hits", "shards": 4},
    )
    assert api.call(f"PUT {COUNTER}", body={"shards": 4})[0] == 200
    assert api.call(f"PUT {COUNTER}", body={"shards": 8})[1]["code"] == "counter-exists"
    assert [api.add(by=3)[1]["value"] for _ in range(3)] == [3, 6, 9]
    assert api.add(ceiling=9)[1]["code"] == "counter-sharded"
    for shards in (1, 101, None):
        assert api.call(f"PUT {COUNTER}", body={"shards": shards})[1]["field"] == "shards"


def test_increment_of_unknown_outcome_is_503_outcome_unknown(api: Api) -> None:
    Faults(api.once).on("UpdateItem", "before")
    status, problem, headers = api.call(INCREMENT, body={})
    assert (status, problem["code"]) == (503, "outcome-unknown")
    assert "Retry-After" not in headers  # a retry may count twice


def take(api: Api, **body: Any) -> tuple[int, Any, dict[str, str]]:
    return api.call(
        TAKE,
        "api",
        body={"key": "ada", "algorithm": "fixed", "limit": 2, "period_seconds": 10, **body},
    )


@pytest.mark.parametrize(("algorithm", "waits"), [("fixed", 8), ("sliding", 8), ("gcra", 5)])
def test_limit_answers_the_remaining_share_and_when_to_retry(
    api: Api, algorithm: str, waits: int
) -> None:
    if algorithm != "gcra":
        api.limits.time.advance(2)
    status, body, headers = take(api, algorithm=algorithm)
    assert (status, body["allowed"], body["remaining"]) == (200, True, 1)
    assert headers["RateLimit-Policy"] == '"api";q=2;w=10'
    assert headers["RateLimit"] == f'"api";r=1;t={body["reset_seconds"]}'
    assert "Retry-After" not in headers
    assert take(api, algorithm=algorithm)[1]["remaining"] == 0
    status, body, headers = take(api, algorithm=algorithm)
    assert (status, body["allowed"], body["remaining"]) == (429, False, 0)
    # The last window still counts two at its first moment.
    assert body["reset_seconds"] == waits + (algorithm == "sliding")
    assert headers["Retry-After"] == str(body["reset_seconds"])
    assert headers["RateLimit"] == f'"api";r=0;t={body["reset_seconds"]}'
    assert headers["Content-Type"] == "application/json"


def test_cost_and_burst_are_applied_exactly(api: Api) -> None:
    assert take(api, algorithm="gcra", burst=5, cost=5)[0] == 200
    assert take(api, algorithm="gcra", burst=5)[0] == 429


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"key": ""}, "key"),
        ({"key": "a\nb"}, "key"),
        ({"key": "x" * 129}, "key"),
        ({"key": None}, "key"),
        ({"algorithm": "leaky"}, "algorithm"),
        ({"limit": 0}, "limit"),
        ({"period_seconds": 0}, "period_seconds"),
        ({"burst": 3}, "burst"),
        ({"cost": -1}, "cost"),
        ({"cost": 3}, "cost"),
        ({"window": 1}, "window"),
    ],
)
def test_malformed_take_is_rejected_with_the_name_of_the_field(
    api: Api, body: Any, field: str
) -> None:
    status, problem, _ = take(api, **body)
    assert (status, problem["code"], problem["field"]) == (400, "invalid-request", field)


LIMIT = {"key": "ada", "algorithm": "sliding", "limit": "2", "period_seconds": "10"}
LIMITS = "/limits/{name}"


@pytest.mark.parametrize("algorithm", ["fixed", "sliding", "gcra"])
def test_limit_can_be_looked_at_and_reset(api: Api, algorithm: str) -> None:
    query = {**LIMIT, "algorithm": algorithm}
    status, body, headers = api.call(f"GET {LIMITS}", "api", query=query)
    assert (status, body) == (200, {"allowed": True, "remaining": 2, "reset_seconds": 0})
    assert headers["RateLimit"] == '"api";r=2;t=0'
    assert take(api, key="ada", algorithm=algorithm, cost=2)[0] == 200
    status, body, headers = api.call(f"GET {LIMITS}", "api", query=query)
    assert (status, body["allowed"], body["remaining"]) == (200, False, 0)
    assert headers["Retry-After"] == str(body["reset_seconds"])
    assert take(api, key="ada", algorithm=algorithm, cost=0)[0] == 200
    assert api.call(f"DELETE {LIMITS}", "api", query=query)[:2] == (204, None)
    assert take(api, key="ada", algorithm=algorithm, cost=2)[0] == 200


def test_look_at_a_cost_is_the_decision_about_it(api: Api) -> None:
    take(api, key="ada", algorithm="gcra")
    asked = {**LIMIT, "algorithm": "gcra"}
    seen = [
        api.call(f"GET {LIMITS}", "api", query={**asked, "cost": cost})[1]["allowed"]
        for cost in ("0", "1", "2")
    ]
    assert seen == [True, True, False]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"key": None}, "key"),
        ({"key": ""}, "key"),
        ({"algorithm": None}, "algorithm"),
        ({"algorithm": "leaky"}, "algorithm"),
        ({"limit": None}, "limit"),
        ({"limit": "two"}, "limit"),
        ({"limit": "2.0"}, "limit"),
        ({"limit": "9" * 5000}, "limit"),
        ({"limit": "\N{ARABIC-INDIC DIGIT TWO}"}, "limit"),
        ({"period_seconds": "0"}, "period_seconds"),
        ({"burst": "3"}, "burst"),
        ({"cost": "-1"}, "cost"),
        ({"cost": "3"}, "cost"),
    ],
    ids=str,
)
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_malformed_query_is_rejected_with_the_name_of_the_parameter(
    api: Api, method: str, query: dict[str, str | None], field: str
) -> None:
    asked = {name: value for name, value in {**LIMIT, **query}.items() if value is not None}
    status, problem, _ = api.call(f"{method} {LIMITS}", "api", query=asked)
    assert (status, problem["code"], problem["field"]) == (400, "invalid-request", field)


def test_any_text_may_be_a_key(api: Api) -> None:
    for key in ("2001:db8::1", "ada@example.org", "a/b", "ü \N{SNOWMAN}" * 30):
        assert take(api, key=key)[1]["remaining"] == 1


@pytest.mark.parametrize(
    ("route", "scope"),
    [
        (INCREMENT, "counters:write"),
        (f"GET {COUNTER}", "counters:read"),
        (f"PUT {COUNTER}", "counters:write"),
        (f"DELETE {COUNTER}", "counters:write"),
        (TAKE, "limits:write"),
        ("GET /limits/{name}", "limits:read"),
        ("DELETE /limits/{name}", "limits:write"),
    ],
)
def test_each_route_needs_its_scope_and_sees_its_own_tenant(
    api: Api, route: str, scope: str
) -> None:
    others = " ".join(ALL_SCOPES - {scope})
    assert (
        api.call(route, body={}, caller={"tenant": "acme", "scopes": others})[1]["code"]
        == "forbidden"
    )
    api.add(by=7)
    assert api.call(f"GET {COUNTER}", caller={**CALLER, "tenant": "other"})[1]["value"] == 0


def test_tenants_share_no_limit(api: Api) -> None:
    assert [take(api)[0] for _ in range(3)] == [200, 200, 429]
    body = {"key": "ada", "algorithm": "fixed", "limit": 2, "period_seconds": 10}
    assert api.call(TAKE, "api", body=body, caller={**CALLER, "tenant": "other"})[0] == 200


@pytest.mark.parametrize(
    "route", [INCREMENT, f"GET {COUNTER}", f"PUT {COUNTER}", f"DELETE {COUNTER}", TAKE]
)
def test_store_that_does_not_answer_is_503(api: Api, faults: Faults, route: str) -> None:
    once = Faults(api.once)
    once.plan = faults.plan = lambda operation, number: "throttle"
    body = (
        {"shards": 2}
        if route.startswith("PUT")
        else {"key": "k", "algorithm": "gcra", "limit": 1, "period_seconds": 1}
    )
    status, problem, headers = api.call(route, body={} if route == INCREMENT else body)
    assert (status, problem["code"], headers["Retry-After"]) == (503, "store-unavailable", "1")
