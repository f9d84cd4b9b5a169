"""Stacks within a stack: their resources become those of the parent, under names of their own.

A resource `Table` of the nested stack `Data` is called `DataTable`.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

from mayfly_local.account import stack_id

__all__ = ["inline", "with_values"]

_Attribute = tuple[str, str | None]
_PLACEHOLDER: Final = re.compile(r"\$\{([^!}][^}]*)\}")


def inline(
    parent: dict[str, Any], name: str, child: Mapping[str, Any], given: Mapping[str, Any]
) -> None:
    """Puts the nested stack `name` in place of its resource in the template `parent`.

    `child` is the nested template, without resources of SAM and without nested stacks. `given` has
    a value for each of its parameters: plain, or an expression of the parent.
    """
    stack = parent["Resources"].pop(name)
    names = {own: f"{name}{own}" for own in child["Resources"]}
    sections = {
        section: {own: f"{name}{own}" for own in child.get(section) or {}}
        for section in ("Conditions", "Mappings")
    }
    own_name = f"${{AWS::StackName}}-{name}"
    own_id = {"Fn::Sub": stack_id(own_name, name)}
    values = {**given, "AWS::StackName": {"Fn::Sub": own_name}, "AWS::StackId": own_id}
    rename = _Renaming(names, sections["Conditions"], sections["Mappings"], values)
    for section, renamed in sections.items():
        if renamed:
            own = parent.get(section) or {}
            parent[section] = own | {
                renamed[key]: rename.value(member) for key, member in child[section].items()
            }
    for key, resource in child["Resources"].items():
        moved = {
            part: rename.value(member) for part, member in resource.items() if part != "Condition"
        }
        moved.pop("DependsOn", None)
        wanted = [
            condition
            for condition in (
                stack.get("Condition"),
                sections["Conditions"].get(resource.get("Condition")),
            )
            if condition
        ]
        if len(wanted) == 2:
            both = f"{names[key]}IsWanted"
            parent["Conditions"][both] = {
                "Fn::And": [{"Condition": condition} for condition in wanted]
            }
            wanted = [both]
        if wanted:
            moved["Condition"] = wanted[0]
        parent["Resources"][names[key]] = moved
    outputs: dict[_Attribute, Any] = {
        (name, f"Outputs.{key}"): rename.value(output.get("Value"))
        for key, output in (child.get("Outputs") or {}).items()
    }
    outputs[name, None] = own_id
    use = _Renaming({}, {}, {}, {}, outputs)
    for section in ("Resources", "Outputs", "Conditions"):
        if section in parent:
            parent[section] = use.value(parent[section])


def with_values(value: Any, parameters: Mapping[str, Any]) -> Any:
    """Returns an expression with the values of some parameters in place of their references."""
    return _Renaming({}, {}, {}, parameters).value(value)


class _Renaming:
    """Replaces references in expressions.

    `names`, `conditions` and `mappings` have new names, `values` the values of Ref, and
    `attributes` those of `(name, attribute)`.
    """

    def __init__(
        self,
        names: Mapping[str, str],
        conditions: Mapping[str, str],
        mappings: Mapping[str, str],
        values: Mapping[str, Any],
        attributes: Mapping[_Attribute, Any] | None = None,
    ) -> None:
        self._names = names
        self._conditions = conditions
        self._mappings = mappings
        self._values: dict[_Attribute, Any] = {
            (name, None): value for name, value in values.items()
        }
        self._values |= attributes or {}

    def value(self, value: Any) -> Any:  # noqa: C901 - a case for each function
        """Returns an expression with every reference replaced."""
        if isinstance(value, list):
            return [self.value(member) for member in value]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((function, argument),) = value.items()
            match function, argument:
                case "Ref", str():
                    return self._reference(argument, None)
                case "Fn::GetAtt", str():
                    return self._reference(*_split(argument))
                case "Fn::GetAtt", [str(name), *rest]:
                    return self._reference(name, ".".join(map(str, rest)))
                case "Fn::Sub", str():
                    return self._sub(argument, {})
                case "Fn::Sub", [str(text), dict(own)]:
                    return self._sub(text, own)
                case "Condition", str():
                    return {function: self._conditions.get(argument, argument)}
                case "Fn::If", [str(condition), *rest]:
                    known = self._conditions.get(condition, condition)
                    return {function: [known, *self.value(rest)]}
                case "Fn::FindInMap", [str(table), *rest]:
                    return {function: [self._mappings.get(table, table), *self.value(rest)]}
        return {key: self.value(member) for key, member in value.items()}

    def _reference(self, name: str, attribute: str | None) -> Any:
        if (name, attribute) in self._values:
            return self._values[name, attribute]
        new = self._names.get(name, name)
        return {"Ref": new} if attribute is None else {"Fn::GetAtt": [new, attribute]}

    def _sub(self, text: str, own: dict[str, Any]) -> Any:
        variables = {name: self.value(member) for name, member in own.items()}

        def replaced(placeholder: re.Match[str]) -> str:
            name = placeholder[1].strip()
            if name in own:
                return placeholder[0]
            head, attribute = _split(name)
            if (head, attribute) not in self._values:
                new = self._names.get(head, head)
                return f"${{{new}}}" if attribute is None else f"${{{new}.{attribute}}}"
            value = self._values[head, attribute]
            if isinstance(value, str):
                return value.replace("${", "${!")
            variable = re.sub(r"[^A-Za-z0-9]", "", name)
            variables[variable] = value
            return f"${{{variable}}}"

        text = _PLACEHOLDER.sub(replaced, text)
        return {"Fn::Sub": [text, variables] if variables else text}


def _split(name: str) -> tuple[str, str | None]:
    head, dot, tail = name.partition(".")
    return (head, tail) if dot else (head, None)
