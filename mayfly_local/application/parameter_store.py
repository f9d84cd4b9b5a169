"""Parameters of Systems Manager that the parameters of a template name.

CloudFormation reads them before anything else, so that each `Ref` has the value.
Page cloudformation-supplied-parameter-types of
https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from mayfly_local.application.dynamic_references import DynamicReference, dynamic_references
from mayfly_local.application.intrinsics import Unresolvable

__all__ = ["ParameterStore", "StoredParameter", "type_of_value"]

#: A parameter of this type has the name of a parameter of Systems Manager as its value.
_TYPE: Final = re.compile(r"AWS::SSM::Parameter::Value<(.+)>")


@dataclass(frozen=True)
class StoredParameter:
    """A parameter of Systems Manager that nothing has a value for, and what is in its place."""

    option: str
    name: str
    placeholder: str

    def __str__(self) -> str:
        return f"it is {self.placeholder} here (give it with --parameter {self.option}=VALUE)"


@dataclass
class ParameterStore:
    """Values of parameters: those of `--parameter resolve:ssm:NAME=VALUE`, and the template's."""

    given: Mapping[str, str] = field(default_factory=dict)
    #: Values of parameters that the template itself makes, by name.
    own: dict[str, str] = field(default_factory=dict)
    #: Parameters without a value, by their option.
    unknown: dict[str, StoredParameter] = field(default_factory=dict)

    def learn(self, resources: Mapping[str, Any], static: Callable[[Any], Any]) -> None:
        """Notes the parameters of a template whose values depend on no other resource.

        `static` evaluates an expression. It raises Unresolvable for what is not known yet.
        """
        for resource in resources.values():
            if not isinstance(resource, dict) or resource.get("Type") != "AWS::SSM::Parameter":
                continue
            properties = resource.get("Properties") or {}
            try:
                if "Condition" in resource and not static({"Condition": resource["Condition"]}):
                    continue
                name, value = static(properties.get("Name")), static(properties.get("Value"))
            except Unresolvable:
                continue
            if isinstance(name, str) and isinstance(value, str | int | float):
                self.own[name] = str(value)

    def value(self, name: str, placeholder: str | None) -> str:
        """Returns the value of a parameter, which may have a version (`/name:3`).

        Without one, it is `placeholder`, or the last word of its name.
        """
        reference = _reference(name)
        if reference.option in self.given:
            return self.given[reference.option]
        if reference.name in self.own:
            return self.own[reference.name]
        made = StoredParameter(
            reference.option, reference.name, placeholder or reference.placeholder
        )
        return self.unknown.setdefault(reference.option, made).placeholder

    def is_own(self, name: str) -> bool:
        """Returns whether the value of a parameter is the one that the template itself makes."""
        reference = _reference(name)
        return reference.option not in self.given and reference.name in self.own


def type_of_value(kind: str) -> str | None:
    """Returns the type of the value that a type of parameter names, None for another type.

    It is `List<String>` for `AWS::SSM::Parameter::Value<List<String>>`.
    """
    found = _TYPE.fullmatch(kind)
    return found[1] if found else None


def _reference(name: str) -> DynamicReference:
    found = dynamic_references(f"{{{{resolve:ssm:{name}}}}}")
    return found[0] if found else DynamicReference(f"{{{{resolve:ssm:{name}}}}}", "ssm", name)
