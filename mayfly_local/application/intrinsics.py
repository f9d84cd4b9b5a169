"""CloudFormation's intrinsic functions, evaluated against known references.

"Intrinsic function reference" of the template reference:
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/
"""

import base64
import ipaddress
import itertools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mayfly_local.account import ACCOUNT, REGION, stack_id
from mayfly_local.errors import LocalError

__all__ = [
    "Unresolvable",
    "named_imports",
    "pseudo_parameters",
    "references",
    "resolve",
]

Attribute = tuple[str, str | None]
_PLACEHOLDER = re.compile(r"\$\{(!?)([^}]+)\}")
_DYNAMIC = re.compile(r"\{\{resolve:[^{}]+\}\}")


class Unresolvable(LocalError):
    """An expression names something that has no value here."""


def resolve(
    value: Any,
    scope: "Mapping[Attribute, Any]",
    *,
    conditions: Mapping[str, Any],
    mappings: Mapping[str, Any],
    imports: Mapping[str, str] | None = None,
    dynamic: Mapping[str, str] | None = None,
) -> Any:
    """Returns `value` with every intrinsic function replaced by its result.

    `scope` gives `(name, None)` for Ref and `(name, attribute)` for GetAtt, `imports` the values of
    `Fn::ImportValue`, and `dynamic` those of `{{resolve:...}}`; others stay. A value of the scope
    may be an expression; what contains it becomes an expression, too. Raises Unresolvable.
    """
    return _Evaluation(scope, conditions, mappings, imports or {}, dynamic or {}).value(value)


def pseudo_parameters(stack: str) -> dict[Attribute, Any]:
    """Returns the values of the pseudo parameters in the stack of this name."""
    return {
        ("AWS::Region", None): REGION,
        ("AWS::AccountId", None): ACCOUNT,
        ("AWS::Partition", None): "aws",
        ("AWS::URLSuffix", None): "amazonaws.com",
        ("AWS::StackName", None): stack,
        ("AWS::StackId", None): stack_id(stack),
        ("AWS::NotificationARNs", None): [],
    }


def named_imports(value: Any, static: Callable[[Any], Any] = lambda name: name) -> list[str]:
    """Returns the name of every `Fn::ImportValue` in a value, as far as `static` evaluates it."""
    names: list[str] = []
    if isinstance(value, dict):
        if set(value) == {"Fn::ImportValue"}:
            try:
                name = static(value["Fn::ImportValue"])
            except Unresolvable:
                name = None
            if isinstance(name, str):
                names.append(name)
        value = list(value.values())
    if isinstance(value, list):
        for member in value:
            names += named_imports(member, static)
    return list(dict.fromkeys(names))


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
                if not literal and name.strip() not in own:
                    yield _dotted(name.strip())
        else:
            for member in value.values():
                yield from references(member)


class _Evaluation:
    def __init__(
        self,
        scope: Mapping[Attribute, Any],
        conditions: Mapping[str, Any],
        mappings: Mapping[str, Any],
        imports: Mapping[str, str],
        dynamic: Mapping[str, str],
    ) -> None:
        self._scope = scope
        self._conditions = conditions
        self._mappings = mappings
        self._imports = imports
        self._dynamic = dynamic
        self._functions: dict[str, Callable[[Any], Any]] = {
            "Ref": lambda name: self._lookup((name, None)),
            "Fn::GetAtt": lambda path: self._lookup(_attribute(path)),
            "Fn::Sub": self._sub,
            "Fn::Join": self._join,
            "Fn::Split": self._split,
            "Fn::Select": self._select,
            "Fn::Base64": self._base64,
            "Fn::FindInMap": self._find_in_map,
            "Fn::Cidr": self._cidr,
            "Fn::GetAZs": lambda region: [f"{REGION}{zone}" for zone in "abc"],
            "Fn::ImportValue": self._import,
            "Fn::Length": lambda members: len(self.value(members)),
            "Fn::ToJsonString": lambda value: json.dumps(self.value(value), separators=(",", ":")),
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
        if isinstance(value, str):
            return _DYNAMIC.sub(lambda found: self._dynamic.get(found[0], found[0]), value)
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
        found = self._scope[attribute]
        # A parameter's value may have a dynamic reference.
        return self.value(found) if isinstance(found, str) else found

    def _join(self, spec: Any) -> Any:
        between, parts = self.value(spec[0]), self.value(spec[1])
        if isinstance(parts, dict):
            return {"Fn::Join": [between, parts]}
        return self._joined(str(between), parts)

    def _joined(self, between: str, parts: list[Any]) -> Any:
        if any(isinstance(part, dict) for part in parts):
            return {"Fn::Join": [between, parts]}
        return self.value(between.join(_as_text(part) for part in parts))

    def _sub(self, spec: Any) -> Any:
        text, own = spec if isinstance(spec, list) else (spec, {})
        parts, end = [], 0
        for placeholder in _PLACEHOLDER.finditer(text):
            literal, name = placeholder[1], placeholder[2].strip()
            parts.append(text[end : placeholder.start()])
            end = placeholder.end()
            if literal:
                parts.append(f"${{{placeholder[2]}}}")
            else:
                value = self.value(own[name]) if name in own else self._lookup(_dotted(name))
                parts.append("" if value is _NO_VALUE else value)
        return self._joined("", [*parts, text[end:]])

    def _split(self, spec: Any) -> Any:
        between, text = self.value(spec[0]), self.value(spec[1])
        return {"Fn::Split": [between, text]} if isinstance(text, dict) else text.split(between)

    def _select(self, spec: Any) -> Any:
        index, members = self.value(spec[0]), self.value(spec[1])
        if isinstance(members, dict):
            return {"Fn::Select": [index, members]}
        if not 0 <= int(index) < len(members):
            raise Unresolvable(f"Fn::Select finds no value at index {index} of {members}")
        return members[int(index)]

    def _base64(self, argument: Any) -> Any:
        text = self.value(argument)
        if isinstance(text, dict):
            return {"Fn::Base64": text}
        return base64.b64encode(str(text).encode()).decode()

    def _find_in_map(self, spec: Any) -> Any:
        table, row, column = (self.value(part) for part in spec[:3])
        try:
            return self._mappings[table][str(row)][str(column)]
        except KeyError:
            if len(spec) > 3 and isinstance(spec[3], dict) and "DefaultValue" in spec[3]:
                return self.value(spec[3]["DefaultValue"])
            raise Unresolvable(f"Mappings has no {table}.{row}.{column}") from None

    def _import(self, spec: Any) -> str:
        name = str(self.value(spec))
        return self._imports.get(name, name)

    def _cidr(self, spec: Any) -> list[str]:
        """Returns the first blocks of an IP network; the third argument is their host bits."""
        block, count, bits = (self.value(part) for part in [*spec, 8][:3])
        network = ipaddress.ip_network(str(block), strict=False)
        subnets = network.subnets(new_prefix=network.max_prefixlen - int(bits))
        return [str(subnet) for subnet in itertools.islice(subnets, int(count))]

    def _holds(self, name: str) -> bool:
        if name not in self._conditions:
            raise Unresolvable(f"there is no condition {name}")
        return bool(self.value(self._conditions[name]))


_NO_VALUE = object()


def _as_text(value: Any) -> str:
    """Returns a value as CloudFormation writes it into a text."""
    if isinstance(value, list):
        return ",".join(_as_text(member) for member in value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _attribute(path: Any) -> Attribute:
    if isinstance(path, str):
        return _dotted(path)
    return path[0], ".".join(path[1:])


def _dotted(name: str) -> Attribute:
    head, dot, tail = name.partition(".")
    return (head, tail) if dot else (head, None)
