"""Aliases and versions of functions. Each is the function itself, since there is one code."""

from typing import Any, Final

from mayfly_local.application.template import Template
from mayfly_local.iam.function_names import FunctionName

__all__ = ["qualifier_scope", "qualifiers_of"]

_ALIAS: Final = "AWS::Lambda::Alias"
_VERSION: Final = "AWS::Lambda::Version"
#: The number of every version.
_NUMBER: Final = "1"


def qualifiers_of(function: str, template: Template) -> tuple[str, ...]:
    """Returns the names of the aliases, and the versions, of a function by its logical id."""
    found = [_qualified(resource) for resource in _resources(template).values()]
    return tuple(name.qualifier for name in found if name.name == function)


def qualifier_scope(template: Template) -> dict[tuple[str, str | None], Any]:
    """Returns the values of Ref and GetAtt for aliases and versions: ARNs with a qualifier."""
    scope: dict[tuple[str, str | None], Any] = {}
    for logical_id, resource in _resources(template).items():
        name = _qualified(resource)
        scope[logical_id, None] = name.arn
        scope[logical_id, "AliasArn"] = scope[logical_id, "FunctionArn"] = name.arn
        scope[logical_id, "Version"] = _NUMBER
    return scope


def _resources(template: Template) -> dict[str, Any]:
    return {
        name: resource
        for name, resource in template.resources.items()
        if resource["Type"] in (_ALIAS, _VERSION)
    }


def _qualified(resource: dict[str, Any]) -> FunctionName:
    """Returns the logical id of the function, and the qualifier."""
    properties = resource.get("Properties") or {}
    reference = properties.get("FunctionName", "")
    if isinstance(reference, dict):  # Ref or GetAtt
        (reference,) = reference.values()
    if isinstance(reference, list):
        reference = reference[0]
    is_alias = resource["Type"] == _ALIAS
    return FunctionName(
        str(reference).partition(".")[0], str(properties.get("Name", "")) if is_alias else _NUMBER
    )
