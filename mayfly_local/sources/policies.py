"""The policies that Lambda authorizers return, evaluated as IAM does.

A statement applies if its action, its resource and its condition match. An explicit Deny wins over
every Allow, and without an Allow the request is denied.
Page api-gateway-lambda-authorizer-output of
https://docs.aws.amazon.com/apigateway/latest/developerguide/
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html
"""

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any, Final

__all__ = ["INVOKE", "MalformedPolicy", "Verdict", "evaluate"]

#: The action of every request to an API.
INVOKE: Final = "execute-api:Invoke"


class MalformedPolicy(ValueError):
    """A document that is not a policy, or that has a condition which is not evaluated here."""


class Verdict(StrEnum):
    """The result of a policy for one request."""

    ALLOWED = "allowed"
    #: No statement allows it.
    NOT_ALLOWED = "not allowed"
    #: A statement denies it.
    DENIED = "denied"


def evaluate(document: Any, resource: str, *, facts: Mapping[str, str] | None = None) -> Verdict:
    """Returns what a policy document says about a request for `resource`, an ARN.

    `facts` are the request's values for conditions, such as `aws:SourceIp`; their names are in
    lower case. A statement whose Effect is neither Allow nor Deny makes the policy allow nothing.
    Raises MalformedPolicy.
    """
    if not isinstance(document, dict):
        raise MalformedPolicy("the policy document is not an object")
    statements = _many(document.get("Statement"))
    effects = {
        _effect(statement) for statement in statements if _applies(statement, resource, facts or {})
    }
    if "Deny" in effects:
        return Verdict.DENIED
    if any(_effect(statement) not in ("Allow", "Deny") for statement in statements):
        return Verdict.NOT_ALLOWED
    return Verdict.ALLOWED if "Allow" in effects else Verdict.NOT_ALLOWED


def _applies(statement: Any, resource: str, facts: Mapping[str, str]) -> bool:
    if not isinstance(statement, dict):
        raise MalformedPolicy("a statement is not an object")
    return (
        # Names of actions have no case, resources have.
        _matches_one(statement, "Action", INVOKE, flags=re.IGNORECASE)
        and _matches_one(statement, "Resource", resource, flags=0)
        and _conditions_hold(statement.get("Condition", {}), facts)
    )


def _effect(statement: dict[str, Any]) -> str:
    return str(statement.get("Effect"))


def _matches_one(statement: dict[str, Any], key: str, value: str, *, flags: int) -> bool:
    """Returns whether `Action` or `Resource` matches, or its opposite, such as `NotAction`."""
    opposite = f"Not{key}"
    if (key in statement) == (opposite in statement):
        raise MalformedPolicy(f"a statement needs either {key} or {opposite}")
    name = key if key in statement else opposite
    patterns = _many(statement[name])
    if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
        raise MalformedPolicy(f"the {name} of a statement is not a text or a list of texts")
    is_match = any(_pattern(pattern, flags).fullmatch(value) for pattern in patterns)
    return is_match is (name == key)


@lru_cache(maxsize=4096)
def _pattern(text: str, flags: int) -> "re.Pattern[str]":
    """Returns a pattern: `*` matches any text, and `?` a single character."""
    parts = (".*" if char == "*" else "." if char == "?" else re.escape(char) for char in text)
    return re.compile("".join(parts), flags | re.DOTALL)


def _conditions_hold(conditions: Any, facts: Mapping[str, str]) -> bool:
    if not isinstance(conditions, dict):
        raise MalformedPolicy("the Condition of a statement is not an object")
    for operator, tests in conditions.items():
        holds = _OPERATORS.get(operator)
        if holds is None or not isinstance(tests, dict):
            raise MalformedPolicy(f"the condition {operator} is not evaluated locally")
        for name, wanted in tests.items():
            actual = facts.get(str(name).lower())
            if not holds(actual, [str(value) for value in _many(wanted)]):
                return False
    return True


def _many(value: Any) -> list[Any]:
    """Returns a value as a list; IAM accepts a single one in place of a list."""
    return value if isinstance(value, list) else [] if value is None else [value]


def _is_in(actual: str | None, networks: list[str]) -> bool:
    try:
        return actual is not None and any(
            ip_address(actual) in ip_network(network, strict=False) for network in networks
        )
    except ValueError as problem:
        raise MalformedPolicy(f"a condition has an address that is not valid: {problem}") from None


def _is_like(actual: str | None, patterns: list[str]) -> bool:
    return actual is not None and any(_pattern(text, 0).fullmatch(actual) for text in patterns)


_Operator = Callable[[str | None, list[str]], bool]
#: A negated operator also holds if the request does not have the value.
_OPERATORS: Final[dict[str, _Operator]] = {
    "IpAddress": _is_in,
    "NotIpAddress": lambda actual, wanted: not _is_in(actual, wanted),
    "StringEquals": lambda actual, wanted: actual in wanted,
    "StringNotEquals": lambda actual, wanted: actual not in wanted,
    "StringLike": _is_like,
    "StringNotLike": lambda actual, wanted: not _is_like(actual, wanted),
}
