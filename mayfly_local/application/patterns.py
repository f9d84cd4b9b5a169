"""Event patterns: the records that a function receives, by the filters of its mapping.

Filters and the rules of EventBridge have the same patterns. The emulator matches those of rules.
https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html
https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-pattern-operators.html
"""

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Any, Final

__all__ = ["check_pattern", "matches"]

#: The parts of a wildcard: an escaped character, a star, or other text.
_WILDCARD_PART: Final = re.compile(r"\\[*\\]|\*|[^*\\]+|\\")
_ESCAPED: Final = {r"\*": "*", r"\\": "\\"}


def matches(pattern: dict[str, Any], event: Any) -> bool:
    """Returns whether an event matches a pattern.

    An event matches if each field of the pattern has one of the allowed values. A field whose value
    is a list matches if one of its members does.
    """
    if not isinstance(event, dict):
        return False
    if "$or" in pattern and not any(matches(alternative, event) for alternative in pattern["$or"]):
        return False
    return all(
        _has_field(wanted, event.get(name, [])) for name, wanted in pattern.items() if name != "$or"
    )


def check_pattern(pattern: Any) -> None:
    """Raises ValueError if a pattern is malformed or uses an unsupported rule.

    The error names the field.
    """
    if not isinstance(pattern, dict):
        # ValueError, because the template's value is wrong, not a type in this code.
        raise ValueError("a pattern is a JSON object")  # noqa: TRY004
    for name, wanted in pattern.items():
        if name == "$or":
            if not isinstance(wanted, list) or not wanted:
                raise ValueError("$or: its alternatives must be in a list")
            for alternative in wanted:
                check_pattern(alternative)
        elif isinstance(wanted, dict):
            check_pattern(wanted)
        elif not isinstance(wanted, list) or not wanted:
            raise ValueError(f"{name}: a value must be in a list")
        else:
            for rule in wanted:
                if isinstance(rule, dict):
                    _check_rule(name, rule)


def _check_rule(name: str, rule: dict[str, Any]) -> None:
    if len(rule) != 1 or (kind := next(iter(rule))) not in _SHAPES:
        raise ValueError(f"{name}: the rule {rule} is not one of {', '.join(_SHAPES)}")
    if not _SHAPES[kind](rule[kind]):
        raise ValueError(f"{name}: the rule {rule} has an argument that cannot be used")


def _has_field(wanted: Any, value: Any) -> bool:
    """Returns whether a field's value is allowed. The value of an absent field is an empty list."""
    found = list(_flat(value))
    if isinstance(wanted, dict):
        # Of a list of objects, one of them must match the whole nested pattern.
        objects = [member for member in found if isinstance(member, dict)]
        return any(matches(wanted, member) for member in objects or [{}])
    leaves = [member for member in found if not isinstance(member, dict)]
    return any(_allows(rule, leaves) for rule in wanted)


def _flat(value: Any) -> Iterator[Any]:
    """Yields a value, or the members of a list and of the lists in it."""
    if isinstance(value, list):
        for member in value:
            yield from _flat(member)
    else:
        yield value


def _allows(rule: Any, leaves: list[Any]) -> bool:
    if not isinstance(rule, dict):
        return any(_equal(rule, leaf) for leaf in leaves)
    ((kind, argument),) = rule.items()
    if kind == "exists":
        return bool(leaves) is bool(argument)
    return any(_RULES[kind](argument, leaf) for leaf in leaves)


def _equal(wanted: Any, value: Any) -> bool:
    return (type(wanted) is type(value) and bool(wanted == value)) or (
        _is_number(wanted) and _is_number(value) and bool(wanted == value)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numeric(argument: list[Any], value: Any) -> bool:
    if not _is_number(value):
        return False
    return all(
        _COMPARISONS[sign](value, bound)
        for sign, bound in zip(argument[::2], argument[1::2], strict=True)
    )


def _anything_but(argument: Any, value: Any) -> bool:
    if isinstance(argument, dict):
        ((kind, inner),) = argument.items()
        return not any(_RULES[kind](one, value) for one in _many(inner))
    return not any(_equal(other, value) for other in _many(argument))


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _affix(test: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    def has_affix(argument: Any, value: Any) -> bool:
        if not isinstance(value, str):
            return False
        if isinstance(argument, dict):
            return test(value.casefold(), str(argument["equals-ignore-case"]).casefold())
        return test(value, str(argument))

    return has_affix


def _equal_ignoring_case(argument: str, value: Any) -> bool:
    return isinstance(value, str) and value.casefold() == argument.casefold()


def _wildcard(argument: str, value: Any) -> bool:
    r"""`*` is any text; `\*` is a star and `\\` a backslash."""
    if not isinstance(value, str):
        return False
    text = "".join(
        ".*" if part == "*" else re.escape(_ESCAPED.get(part, part))
        for part in _WILDCARD_PART.findall(argument)
    )
    return re.fullmatch(text, value, re.DOTALL) is not None


def _cidr(argument: str, value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        return ipaddress.ip_address(value) in ipaddress.ip_network(argument, strict=False)
    except ValueError:
        return False


def _is_network(argument: Any) -> bool:
    try:
        ipaddress.ip_network(str(argument), strict=False)
    except ValueError:
        return False
    return "/" in str(argument)


def _is_text(argument: Any) -> bool:
    return isinstance(argument, str)


def _is_affix(argument: Any) -> bool:
    if isinstance(argument, dict):
        return list(argument) == ["equals-ignore-case"] and _is_text(*argument.values())
    return _is_text(argument)


def _is_wildcard(argument: Any) -> bool:
    return _is_text(argument) and "**" not in argument


def _is_exclusion(argument: Any) -> bool:
    if not isinstance(argument, dict):
        excluded = _many(argument)
        return bool(excluded) and (
            all(_is_text(value) for value in excluded)
            or all(_is_number(value) for value in excluded)
        )
    if len(argument) != 1 or (kind := next(iter(argument))) not in _EXCLUDED:
        return False
    return all(_is_text(value) and value for value in _many(argument[kind]))


def _is_comparison(argument: Any) -> bool:
    return (
        isinstance(argument, list)
        and len(argument) in (2, 4)
        and all(sign in _COMPARISONS for sign in argument[::2] if isinstance(sign, str))
        and all(isinstance(sign, str) for sign in argument[::2])
        and all(_is_number(bound) for bound in argument[1::2])
    )


_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": lambda a, b: bool(a == b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}
_RULES: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "anything-but": _anything_but,
    "cidr": _cidr,
    "equals-ignore-case": _equal_ignoring_case,
    "numeric": _numeric,
    "prefix": _affix(str.startswith),
    "suffix": _affix(str.endswith),
    "wildcard": _wildcard,
}
#: Rules that `anything-but` may invert.
_EXCLUDED: Final = {"equals-ignore-case", "prefix", "suffix", "wildcard"}
#: The check of each rule's argument.
_SHAPES: Final[dict[str, Callable[[Any], bool]]] = {
    "anything-but": _is_exclusion,
    "cidr": _is_network,
    "equals-ignore-case": _is_text,
    "exists": lambda argument: isinstance(argument, bool),
    "numeric": _is_comparison,
    "prefix": _is_affix,
    "suffix": _is_affix,
    "wildcard": _is_wildcard,
}
