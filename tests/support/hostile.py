"""Hostile input: requests and messages from an attacker or a broken client."""

import base64
import json
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

from tests.support.events import http

__all__ = ["SCOPES", "bodies", "credentials", "messages", "requests"]

SCOPES = (
    "counters:read counters:write jobs:read jobs:write limits:read limits:write schedules:read "
    "schedules:write sessions:read sessions:write"
)

#: Valid input of each route, to be spoiled: path parameters, then the body.
_ROUTES: dict[str, Any] = {
    "GET /": None,
    "GET /health": None,
    "$default": None,
    "POST /sessions": {
        "subject": "ann",
        "data": {"a": [1, {"b": None}]},
        "idle_seconds": 60,
        "absolute_seconds": 600,
    },
    "GET /sessions/current": None,
    "PATCH /sessions/current": {"a": {"b": 1}, "c": None},
    "POST /sessions/current/rotate": {"subject": "ann"},
    "DELETE /sessions/current": None,
    "GET /subjects/{subject}/sessions": None,
    "DELETE /subjects/{subject}/sessions": None,
    "DELETE /subjects/{subject}/sessions/{id}": None,
    "POST /counters/{name}/increment": {
        "by": 1,
        "floor": -5,
        "ceiling": 5,
        "ttl_seconds": 60,
        "approximate": False,
    },
    "GET /counters/{name}": None,
    "PUT /counters/{name}": {"shards": 2},
    "DELETE /counters/{name}": None,
    "POST /limits/{name}/take": {
        "key": "k",
        "algorithm": "gcra",
        "limit": 5,
        "period_seconds": 60,
        "burst": 5,
        "cost": 1,
    },
    "POST /jobs": {
        "task": "counter.add",
        "payload": {"name": "n", "by": 1},
        "max_attempts": 3,
        "delay_seconds": 5,
    },
    "GET /jobs": None,
    "GET /jobs/{id}": None,
    "POST /jobs/{id}/cancel": None,
    "POST /jobs/{id}/redrive": None,
    "GET /schedules": None,
    "GET /schedules/{name}": None,
    "PUT /schedules/{name}": {
        "cron": "0 9 * * 1-5",
        "timezone": "Europe/Berlin",
        "task": "counter.add",
        "payload": {"name": "n"},
    },
    "DELETE /schedules/{name}": None,
    "POST /schedules/{name}/pause": None,
    "POST /schedules/{name}/resume": None,
}
_HEADERS = (
    "accept",
    "authorization",
    "content-type",
    "cookie",
    "idempotency-key",
    "if-match",
    "session-token",
    "x-forwarded-for",
)
_TOKEN = "mfs_a" + "0" * 32 + "_" + "A" * 43
#: Cursors that other callers were given, or could have made.
_CURSORS = [
    base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")
    for text in (
        "1700000000000/j1",
        "9/../../other",
        "after/" + "0" * 32,
        "after/",
        "999999999999999999/x",
        "1/other/job",
    )
]

_texts = st.one_of(
    st.text(max_size=30),
    st.sampled_from(
        ["", " ", "a" * 129, "a" * 5000, "..", "../../etc/passwd", "\x00", "\ud800", "é" * 200,
        "a/b", "%2e%2e%2f", "%00", "%ff", "${jndi:ldap://x}"]
    ),
    st.sampled_from(["' OR 1=1 --", "attribute_exists(pk)", ":tenant", "#pk", "<script>", "{{7*7}}",
    "NaN", "Infinity", "-0", "null", "true"]),
)  # fmt: skip
_numbers = st.one_of(
    st.integers(-10, 10),
    st.sampled_from(
        [
            10**30,
            -(10**30),
            10**38,
            10**400,
            2**63,
            -(2**63) - 1,
            0.1,
            -0.0,
            1e308,
            5e-324,
            1e22,
            10**19,
        ]
    ),
    st.floats(allow_nan=True, allow_infinity=True),
)
_scalars = st.one_of(st.none(), st.booleans(), _numbers, _texts)
_values = st.recursive(
    _scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(_texts, inner, max_size=4)
    ),
    max_leaves=8,
)
#: Texts that are not JSON, or too large to be read.
_raw = st.one_of(
    st.text(max_size=60),
    st.sampled_from(
        [
            "", "{", "[", '{"a": 1', '{"a": 1, "a": 2}', '{"task": "x", "task": "y"}',
            '{"by": NaN}', '{"by": Infinity}', '{"by": 1e999}',
            "[" * 100_000, '{"a":' * 5000, "[" * 200 + "]" * 200, '"\\ud800"', '{"\\ud800": 1}',
            "\ufeff{}", "1" * 5000, "-", "nul", "'a'",
            '{"payload": "' + "x" * 270_000 + '"}', '"' + "x" * 1_100_000 + '"',
            '{"by": ' + "9" * 4400 + "}", "{}\n{}", "\x00",
        ]
    ),
)  # fmt: skip


@st.composite
def _spoiled(draw: Any, good: dict[str, Any]) -> str:
    """Returns a valid body with some of its members changed, dropped, doubled or added."""
    body = dict(good)
    for _ in range(draw(st.integers(0, 2))):
        name = draw(st.sampled_from(sorted(body) or ["a"]))
        match draw(st.sampled_from(["change", "change", "drop", "add"])):
            case "change":
                body[name] = draw(_values)
            case "drop":
                body.pop(name, None)
            case "add":
                body[draw(_texts)] = draw(_values)
    text = _json(body)
    return text[:-1] + ", " + text[1:] if body and draw(st.integers(0, 20)) == 0 else text


def bodies(good: dict[str, Any] | None) -> st.SearchStrategy[str]:
    """Returns bodies for a route or a queue whose valid bodies are like `good`."""
    spoiled = [] if good is None else [_spoiled(good), _spoiled(good), _spoiled(good)]
    return st.one_of(*spoiled, _values.map(_json), _raw)


@st.composite
def requests(draw: Any, routes: tuple[str, ...]) -> dict[str, Any]:
    """Returns an event of payload format 2.0 on one of the routes."""
    route = draw(st.sampled_from(routes))
    template = route.partition(" ")[2] or draw(
        st.sampled_from(["/nothing", "/jobs/", "//", "/" + "a" * 9000, "/%00", "/jobs/x/y"])
    )
    path, parameters = [], {}
    for part in template.split("/"):
        if part.startswith("{"):
            parameters[part[1:-1]] = draw(
                st.one_of(st.sampled_from(["n", "ann", "0" * 32, "a@b+c"]), _texts)
            )
            path.append(quote(parameters[part[1:-1]].encode("utf-8", "surrogatepass"), safe=""))
        else:
            path.append(part)
    names = ("cursor", "status", "task", "wait", "x")
    query = {
        name: draw(st.one_of(st.sampled_from([*_CURSORS, "dead", "scheduled", "0", "-1"]), _texts))
        for name in names
        if draw(st.booleans())
    }
    if query.get("wait", "").isdigit():
        query["wait"] = "0"
    headers = {
        name: draw(st.one_of(st.sampled_from([_TOKEN, '"1"', "k", "application/json"]), _texts))
        for name in _HEADERS
        if draw(st.integers(0, 3)) == 0
    }
    raw = draw(st.one_of(st.none(), bodies(_ROUTES[route])))
    scopes = draw(st.sampled_from([*[SCOPES] * 6, "", "jobs:read", "nonsense"]))
    callers = [
        *[{"tenant": tenant, "scopes": scopes} for tenant in ("acme", "acme", "acme", "other")],
        {"reason": "unknown"},
        {},
    ]
    event = http(
        route,
        "/".join(path),
        raw=raw,
        headers=headers,
        query=query,
        caller=draw(st.sampled_from(callers)),
    )
    if raw is not None and draw(st.integers(0, 4)) == 0:
        event |= {
            "isBase64Encoded": True,
            "body": base64.b64encode(
                draw(st.one_of(st.binary(max_size=40), st.just(raw.encode("utf-8", "replace"))))
            ).decode(),
        }
    if parameters:
        event["pathParameters"] = parameters
    if "cookie" in headers:
        event["cookies"] = [f"__Host-visitor={headers['cookie']}"]
    return event


def credentials(known: list[str]) -> st.SearchStrategy[str]:
    """Returns authorization headers with any text, or with keys that are cut, stretched or changed.

    Keys may also be unchanged; those must not be valid.
    """
    keys = st.sampled_from(known)
    changed = st.tuples(keys, st.integers(0, 70), st.sampled_from("A0z_ \x00é")).map(
        lambda each: each[0][: each[1]] + each[2] + each[0][each[1] + 1 :]
    )
    cut = st.tuples(keys, st.integers(0, 70)).map(lambda each: each[0][: each[1]])
    return st.one_of(
        _texts,
        st.one_of(keys, changed, cut, _texts).map(lambda text: f"Bearer {text}"),
        keys.map(lambda text: f"bearer   {text}"),
        keys.map(lambda text: f"Basic {text}"),
    )


def messages(good: dict[str, Any]) -> st.SearchStrategy[list[str]]:
    """Returns batches of nine bodies.

    Bodies that SQS does not accept are left out: it accepts some characters only, and 1 MiB.
    """
    return st.lists(bodies(good).map(_sendable), min_size=9, max_size=9)


def _json(value: Any) -> str:
    return json.dumps(value)


def _sendable(text: str) -> str:
    return (
        "".join(
            letter
            for letter in text
            if letter in "\t\n\r" or (letter >= " " and not "\ud800" <= letter <= "\udfff")
        )[: 1024 * 1024]
        or " "
    )
