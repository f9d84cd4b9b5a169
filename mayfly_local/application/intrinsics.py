"""CloudFormation's intrinsic functions, evaluated against known references.

"Intrinsic function reference" of the template reference:
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/
"""

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mayfly_local.errors import LocalError

__all__ = ["Unresolvable", "references", "resolve"]

Attribute = tuple[str, str | None]
_PLACEHOLDER = re.compile(r"\$\{(!?)([^}]+)\}")


class Unresolvable(LocalError):
    """An expression names something that has no value here."""


def resolve(
    value: Any,
    scope: "Mapping[Attribute, Any]",
    *,
    conditions: Mapping[str, Any],
    mappings: Mapping[str, Any],
) -> Any:
    """Returns `value` with every intrinsic function replaced by its result.

    `scope` gives `(name, None)` for Ref and `(name, attribute)` for GetAtt. Raises Unresolvable.
    """
    return _Evaluation(scope, conditions, mappings).value(value)


def references(value: Any) -> Iterator[Attribute]:
    """Yields every `(name, attribute)` that a value refers to; the attribute of a Ref is None."""
    if isinstance(value, list):
        for member in value:
            yield from references(member)
    elif isinstance(value, dict):
        if set(value) == {"Ref"}:
            yield value["Ref"], None
        elif set(value) == {"Fn::GetAtt"}:
            yield _attribute(value["Fn::GetAtt"])
        elif set(value) == {"Fn::Sub"}:
            text, own = (
                value["Fn::Sub"] if isinstance(value["Fn::Sub"], list) else (value["Fn::Sub"], {})
            )
            yield from references(own)
            for literal, name in _PLACEHOLDER.findall(text):
                if not literal and name not in own:
                    yield _dotted(name)
        else:
            for member in value.values():
                yield from references(member)


class _Evaluation:
    def __init__(
        self,
        scope: Mapping[Attribute, Any],
        conditions: Mapping[str, Any],
        mappings: Mapping[str, Any],
    ) -> None:
        self._scope = scope
        self._conditions = conditions
        self._mappings = mappings
        self._functions: dict[str, Callable[[Any], Any]] = {
            "Ref": lambda name: self._lookup((name, None)),
            "Fn::GetAtt": lambda path: self._lookup(_attribute(path)),
            "Fn::Sub": self._sub,
            "Fn::Join": lambda spec: str(self.value(spec[0])).join(
                str(part) for part in self.value(spec[1])
            ),
            "Fn::Split": lambda spec: self.value(spec[1]).split(self.value(spec[0])),
            "Fn::Select": lambda spec: self.value(spec[1])[int(self.value(spec[0]))],
            "Fn::Base64": lambda text: base64.b64encode(str(self.value(text)).encode()).decode(),
            "Fn::FindInMap": self._find_in_map,
            "Fn::If": lambda spec: self.value(spec[1] if self._holds(spec[0]) else spec[2]),
            "Fn::Equals": lambda spec: str(self.value(spec[0])) == str(self.value(spec[1])),
            "Fn::And": lambda spec: all(self.value(part) for part in spec),
            "Fn::Or": lambda spec: any(self.value(part) for part in spec),
            "Fn::Not": lambda spec: not self.value(spec[0]),
            "Condition": self._holds,
        }

    def value(self, value: Any) -> Any:
        if isinstance(value, list):
            return [
                resolved for member in value if (resolved := self.value(member)) is not _NO_VALUE
            ]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name in self._functions and (name != "Condition" or isinstance(argument, str)):
                return self._functions[name](argument)
            if name.startswith("Fn::"):
                raise Unresolvable(f"the function {name} is not supported locally")
        return {
            name: resolved
            for name, member in value.items()
            if (resolved := self.value(member)) is not _NO_VALUE
        }

    def _lookup(self, attribute: Attribute) -> Any:
        if attribute == ("AWS::NoValue", None):
            return _NO_VALUE
        if attribute not in self._scope:
            name, part = attribute
            raise Unresolvable(f"{name}{'.' + part if part else ''} has no value here")
        return self._scope[attribute]

    def _sub(self, spec: Any) -> str:
        text, own = spec if isinstance(spec, list) else (spec, {})

        def replaced(placeholder: re.Match[str]) -> str:
            literal, name = placeholder.groups()
            if literal:
                return f"${{{name}}}"
            return str(self.value(own[name]) if name in own else self._lookup(_dotted(name)))

        return _PLACEHOLDER.sub(replaced, text)

    def _find_in_map(self, spec: Any) -> Any:
        table, row, column = (self.value(part) for part in spec[:3])
        try:
            return self._mappings[table][row][column]
        except KeyError:
            raise Unresolvable(f"Mappings has no {table}.{row}.{column}") from None

    def _holds(self, name: str) -> bool:
        if name not in self._conditions:
            raise Unresolvable(f"there is no condition {name}")
        return bool(self.value(self._conditions[name]))


_NO_VALUE = object()


def _attribute(path: Any) -> Attribute:
    if isinstance(path, str):
        return _dotted(path)
    return path[0], ".".join(path[1:])


def _dotted(name: str) -> Attribute:
    head, dot, tail = name.partition(".")
    return (head, tail) if dot else (head, None)
