"""The three algorithms of limits, as arithmetic on a stored state.

All numbers are whole, so every process decides alike. `plan` takes a state that is known or
guessed, and returns a write or a refusal. The condition of the write is about the branch that
`plan` took, not about the whole state, so takes in one branch do not conflict. A take never makes
room for another one. So a refusal that follows from an earlier state is certain, unless the limit
was reset since.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mayfly.core.errors import InvalidRequest
from mayfly.core.ids import key
from mayfly.core.json_input import NAME, NAME_PROBLEM
from mayfly.limits.model import Algorithm, Decision, Limit

__all__ = [
    "MAX_LIMIT",
    "MAX_PERIOD_SECONDS",
    "Write",
    "check",
    "decide",
    "item_key",
    "look",
    "plan",
    "update",
]

#: A limit's state, by attribute; empty if there is no item.
State = Mapping[str, int]

MAX_LIMIT: Final = 10**9
MAX_PERIOD_SECONDS: Final = 366 * 24 * 3600
#: Time for which a state is kept after its last use, so that a process whose clock is slow still
#: finds it.
_SLACK_SECONDS: Final = 120
_KEY: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]{1,128}")


@dataclass(frozen=True)
class Write:
    """An update of the state and the condition of its branch, as DynamoDB expressions.

    All values are numbers; the placeholder `#x` is for the attribute `x`.
    """

    expression: str
    condition: str
    values: Mapping[str, int]


def item_key(limit: Limit, tenant: str, subject: str, now_ms: int) -> dict[str, Any]:
    """Returns the key of the item with the state of one subject.

    Each fixed window has an item of its own.
    """
    period = str(limit.period_seconds)
    if limit.algorithm is Algorithm.FIXED:
        sort = key("fixed", period, str(now_ms // _period_ms(limit)))
    elif limit.algorithm is Algorithm.SLIDING:
        sort = key("sliding", period)
    else:
        sort = key("gcra")
    return {"pk": {"S": key(tenant, "limit", limit.name, subject)}, "sk": {"S": sort}}


def check(limit: Limit, key: str, cost: int, *, least: int = 0) -> None:
    """Raises InvalidRequest if the limit, the key or the cost is invalid.

    A cost is invalid if it is below `least`, or if the limit could never admit it.
    """
    _check_types(limit, cost)
    if not _KEY.fullmatch(key):
        raise InvalidRequest(
            "key", "must have 1 to 128 characters, none of them a control character"
        )
    if not NAME.fullmatch(limit.name):
        raise InvalidRequest("name", NAME_PROBLEM)
    if not 1 <= limit.limit <= MAX_LIMIT:
        raise InvalidRequest("limit", f"must be from 1 to {MAX_LIMIT}")
    if not 1 <= limit.period_seconds <= MAX_PERIOD_SECONDS:
        raise InvalidRequest("period_seconds", f"must be from 1 to {MAX_PERIOD_SECONDS}")
    if limit.burst is not None and limit.algorithm is not Algorithm.GCRA:
        raise InvalidRequest("burst", "is for the algorithm gcra only")
    if not 1 <= limit.most <= MAX_LIMIT:
        raise InvalidRequest("burst", f"must be from 1 to {MAX_LIMIT}")
    if limit.most * limit.period_seconds > MAX_PERIOD_SECONDS * limit.limit:
        raise InvalidRequest("burst", "would take more than 366 days to be free again")
    if not least <= cost <= limit.most:
        raise InvalidRequest(
            "cost", f"must be from {least} to {limit.most}: more could never be admitted"
        )


def _check_types(limit: Limit, cost: int) -> None:
    if not isinstance(limit.algorithm, Algorithm):
        raise InvalidRequest("algorithm", f"must be an Algorithm, not {limit.algorithm!r}")
    for field, number in (
        ("limit", limit.limit),
        ("period_seconds", limit.period_seconds),
        ("burst", limit.most),
        ("cost", cost),
    ):
        if not isinstance(number, int) or isinstance(number, bool):
            raise InvalidRequest(field, f"must be a whole number, not {number!r}")


def plan(limit: Limit, cost: int, now_ms: int, state: State) -> Write | Decision:
    """Returns the write that takes `cost` in this state, or the refusal if there is no room."""
    return _PLANS[limit.algorithm](limit, cost, now_ms, state)


def decide(limit: Limit, now_ms: int, state: State) -> Decision:
    """Returns the admission that led to this state."""
    return _ADMISSIONS[limit.algorithm](limit, now_ms, state)


def look(limit: Limit, cost: int, now_ms: int, state: State) -> Decision:
    """Returns the decision that a take of `cost` would get now, without the take.

    `remaining` is what is left now. `reset_ms` of an admission is the time until the whole limit is
    free again.
    """
    step = plan(limit, cost, now_ms, state)
    return step if isinstance(step, Decision) else _LOOKS[limit.algorithm](limit, now_ms, state)


def update(table: str, key: dict[str, Any], step: Write) -> dict[str, Any]:
    """Returns a planned write as an UpdateItem request."""
    words = (
        f"{step.expression} {step.condition}".replace("(", " ")
        .replace(")", " ")
        .replace(",", " ")
        .split()
    )
    return {
        "TableName": table,
        "Key": key,
        "UpdateExpression": step.expression,
        "ConditionExpression": step.condition,
        "ExpressionAttributeNames": {word: word[1:] for word in words if word.startswith("#")},
        "ExpressionAttributeValues": {
            name: {"N": str(value)} for name, value in step.values.items()
        },
        "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
    }


# ---------------------------------------------------------------- fixed window


def _plan_fixed(limit: Limit, cost: int, now_ms: int, state: State) -> Write | Decision:
    used = state.get("used", 0)
    if used + cost > limit.limit:
        return _refused(limit, max(0, limit.limit - used), _window_end(limit, now_ms) - now_ms)
    is_new = "attribute_not_exists(#used)"
    has_room = "#used <= :room"
    return Write(
        "ADD #used :cost SET #expires_at = :expires_at",
        f"{is_new} OR {has_room}",
        {
            ":cost": cost,
            ":room": limit.limit - cost,
            ":expires_at": _expiry(_window_end(limit, now_ms)),
        },
    )


def _admit_fixed(limit: Limit, now_ms: int, state: State) -> Decision:
    return _admitted(
        limit, max(0, limit.limit - state["used"]), max(0, _window_end(limit, now_ms) - now_ms)
    )


def _look_fixed(limit: Limit, now_ms: int, state: State) -> Decision:
    if not state.get("used"):
        return _admitted(limit, limit.limit, 0)
    return _admit_fixed(limit, now_ms, state)


# ---------------------------------------------------------------- sliding window


def _plan_sliding(limit: Limit, cost: int, now_ms: int, state: State) -> Write | Decision:
    period = _period_ms(limit)
    window, elapsed = divmod(now_ms, period)
    if state and state["window"] > window:  # written by a process whose clock is ahead
        window, elapsed = state["window"], 0
    previous, current = _counts(state, window)
    room = limit.limit - cost - previous * (period - elapsed) // period
    if current > room:
        wait = _wait_for_room(limit, cost, previous, current, elapsed) + max(
            0, window * period - now_ms
        )
        return _refused(limit, max(0, room + cost - current), wait)
    values = {":window": window, ":cost": cost, ":expires_at": _expiry((window + 2) * period)}
    if state and state["window"] == window:
        is_same = "#window = :window"  # so the count of the window before is the same too
        has_room = "#current <= :room"
        return Write(
            "ADD #current :cost SET #expires_at = :expires_at",
            f"{is_same} AND {has_room}",
            {**values, ":room": room},
        )
    is_as_seen = (
        "#window = :seen_window AND #current = :seen_current"
        if state
        else "attribute_not_exists(#window)"
    )
    stored = {":seen_window": state["window"], ":seen_current": state["current"]} if state else {}
    return Write(
        "SET #window = :window, #previous = :previous, #current = :cost, #expires_at = :expires_at",
        is_as_seen,
        {**values, ":previous": previous, **stored},
    )


def _admit_sliding(limit: Limit, now_ms: int, state: State) -> Decision:
    period = _period_ms(limit)
    elapsed = max(0, now_ms - state["window"] * period)
    used = state["current"] + state["previous"] * (period - elapsed) // period
    return _admitted(limit, max(0, limit.limit - used), (state["window"] + 2) * period - now_ms)


def _look_sliding(limit: Limit, now_ms: int, state: State) -> Decision:
    period = _period_ms(limit)
    window = max(now_ms // period, state.get("window", 0))
    previous, current = _counts(state, window)
    used = current + previous * (period - max(0, now_ms - window * period)) // period
    # A count weighs until the end of the window after its own.
    free_ms = (window + (2 if current else 1)) * period if current or previous else now_ms
    return _admitted(limit, max(0, limit.limit - used), free_ms - now_ms)


def _counts(state: State, window: int) -> tuple[int, int]:
    """Returns the counts of the window before this one, and of this one."""
    if not state or state["window"] < window - 1:
        return 0, 0
    return (
        (state["previous"], state["current"])
        if state["window"] == window
        else (state["current"], 0)
    )


def _wait_for_room(limit: Limit, cost: int, previous: int, current: int, elapsed: int) -> int:
    """Returns milliseconds until `cost` fits, if nothing is taken meanwhile.

    The count of the window before weighs less and less until then.
    """
    period = _period_ms(limit)
    if current + cost <= limit.limit:
        return _covered(previous, limit.limit - cost - current, period) - elapsed
    return period - elapsed + _covered(current, limit.limit - cost, period)


def _covered(count: int, allowed: int, period: int) -> int:
    """Returns the first moment of a window at which the last one weighs at most `allowed`.

    `count` was taken in the last window.
    """
    return 0 if count <= allowed else period - ((allowed + 1) * period - 1) // count


# ---------------------------------------------------------------- GCRA


def _plan_gcra(limit: Limit, cost: int, now_ms: int, state: State) -> Write | Decision:
    now, interval = _ns(now_ms), _interval(limit)
    until = max(state.get("until", 0), now)
    excess = until + cost * interval - now - limit.most * interval
    if excess > 0:
        return _refused(limit, max(0, limit.most * interval + now - until) // interval, _ms(excess))
    step = cost * interval
    expires_at = _expiry(_ms(now + limit.most * interval))
    if until == now:
        is_idle = "attribute_not_exists(#until) OR #until <= :now"
        return Write(
            "SET #until = :next, #expires_at = :expires_at",
            is_idle,
            {":now": now, ":next": now + step, ":expires_at": expires_at},
        )
    is_busy = "#until > :now"
    has_room = "#until <= :last"
    return Write(
        "ADD #until :step SET #expires_at = :expires_at",
        f"{is_busy} AND {has_room}",
        {
            ":now": now,
            ":last": now + (limit.most - cost) * interval,
            ":step": step,
            ":expires_at": expires_at,
        },
    )


def _admit_gcra(limit: Limit, now_ms: int, state: State) -> Decision:
    now, interval = _ns(now_ms), _interval(limit)
    return _admitted(
        limit,
        max(0, now + limit.most * interval - state["until"]) // interval,
        _ms(max(0, state["until"] - now)),
    )


def _look_gcra(limit: Limit, now_ms: int, state: State) -> Decision:
    return _admit_gcra(limit, now_ms, {"until": max(state.get("until", 0), _ns(now_ms))})


def _interval(limit: Limit) -> int:
    """Returns nanoseconds between two admissions, rounded up, so that fewer are admitted."""
    return -(-limit.period_seconds * 10**9 // limit.limit)


_PLANS: Final[dict[Algorithm, Callable[[Limit, int, int, State], Write | Decision]]] = {
    Algorithm.FIXED: _plan_fixed,
    Algorithm.SLIDING: _plan_sliding,
    Algorithm.GCRA: _plan_gcra,
}
_ADMISSIONS: Final[dict[Algorithm, Callable[[Limit, int, State], Decision]]] = {
    Algorithm.FIXED: _admit_fixed,
    Algorithm.SLIDING: _admit_sliding,
    Algorithm.GCRA: _admit_gcra,
}
_LOOKS: Final[dict[Algorithm, Callable[[Limit, int, State], Decision]]] = {
    Algorithm.FIXED: _look_fixed,
    Algorithm.SLIDING: _look_sliding,
    Algorithm.GCRA: _look_gcra,
}


# ---------------------------------------------------------------- for all algorithms


def _admitted(limit: Limit, remaining: int, reset_ms: int) -> Decision:
    return Decision(limit, is_allowed=True, remaining=remaining, reset_ms=reset_ms)


def _refused(limit: Limit, remaining: int, reset_ms: int) -> Decision:
    return Decision(limit, is_allowed=False, remaining=remaining, reset_ms=reset_ms)


def _period_ms(limit: Limit) -> int:
    return limit.period_seconds * 1000


def _window_end(limit: Limit, now_ms: int) -> int:
    return (now_ms // _period_ms(limit) + 1) * _period_ms(limit)


def _expiry(at_ms: int) -> int:
    return -(-at_ms // 1000) + _SLACK_SECONDS


def _ns(at_ms: int) -> int:
    return at_ms * 10**6


def _ms(ns: int) -> int:
    return -(-ns // 10**6)
