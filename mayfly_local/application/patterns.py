"""Event filtering of event source mappings: which records a function receives.

https://docs.aws.amazon.com/lambda/latest/dg/invocation-eventfiltering.html
"""

from collections.abc import Callable
from typing import Any, Final

__all__ = ["check_pattern", "matches"]


def matches(pattern: dict[str, Any], event: Any) -> bool:
    """Returns whether an event matches a pattern.

    An event matches if each field of the pattern has one of the allowed values.
    """
    if not isinstance(event, dict):
        return False
    if "$or" in pattern and not any(matches(alternative, event) for alternative in pattern["$or"]):
        return False
    return all(
        matches(wanted, event.get(name, {}))
        if isinstance(wanted, dict)
        else any(_allows(rule, event, name) for rule in wanted)
        for name, wanted in pattern.items()
        if name != "$or"
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
            for alternative in wanted:
                check_pattern(alternative)
        elif isinstance(wanted, dict):
            check_pattern(wanted)
        elif not isinstance(wanted, list) or not wanted:
            raise ValueError(f"{name}: a value must be in a list")
        else:
            for rule in wanted:
                if isinstance(rule, dict) and (len(rule) != 1 or next(iter(rule)) not in _RULES):
                    raise ValueError(f"{name}: the rule {rule} is not one of {', '.join(_RULES)}")


def _allows(rule: Any, event: dict[str, Any], name: str) -> bool:
    if isinstance(rule, dict):
        ((kind, argument),) = rule.items()
        return _RULES[kind](argument, name in event, event.get(name))
    return name in event and _equal(rule, event[name])


def _equal(wanted: Any, value: Any) -> bool:
    return (type(wanted) is type(value) and bool(wanted == value)) or (
        _is_number(wanted) and _is_number(value) and bool(wanted == value)
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _numeric(argument: list[Any], _: object, value: Any) -> bool:
    if not _is_number(value):
        return False
    return all(
        _COMPARISONS[sign](value, bound)
        for sign, bound in zip(argument[::2], argument[1::2], strict=True)
    )


def _anything_but(argument: Any, present: object, value: Any) -> bool:
    if isinstance(argument, dict):
        return bool(present) and not matches({"it": [argument]}, {"it": value})
    excluded = argument if isinstance(argument, list) else [argument]
    return bool(present) and not any(_equal(other, value) for other in excluded)


def _on_text(test: Callable[[str, str], bool]) -> Callable[[Any, bool, Any], bool]:
    return lambda argument, _, value: isinstance(value, str) and test(value, argument)


_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": lambda a, b: bool(a == b),
    "<": lambda a, b: bool(a < b),
    "<=": lambda a, b: bool(a <= b),
    ">": lambda a, b: bool(a > b),
    ">=": lambda a, b: bool(a >= b),
}
_RULES: Final[dict[str, Callable[[Any, bool, Any], bool]]] = {
    "exists": lambda argument, present, _: bool(present == argument),
    "prefix": _on_text(str.startswith),
    "suffix": _on_text(str.endswith),
    "equals-ignore-case": _on_text(lambda value, wanted: value.casefold() == wanted.casefold()),
    "anything-but": _anything_but,
    "numeric": _numeric,
}
