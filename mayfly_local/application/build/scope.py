"""The values of Ref and GetAtt for resources that the emulator does not hold."""

from collections import Counter
from typing import Any

from mayfly_local.account import ACCOUNT, REGION
from mayfly_local.application.intrinsics import references
from mayfly_local.application.physical_ids import name_keys, physical_id
from mayfly_local.application.template import Template
from mayfly_local.errors import TemplateError

__all__ = ["Scope", "compute_scope"]

#: Values by `(name, None)` for Ref and by `(name, attribute)` for GetAtt.
Scope = dict[tuple[str, str | None], Any]


def compute_scope(template: Template) -> Scope:
    """Returns the values of Ref and GetAtt for resources that the emulator does not hold."""
    scope: Scope = {}
    versions: Counter[str] = Counter()
    for name, resource in template.resources.items():
        match resource["Type"]:
            case "AWS::Lambda::Function":
                own = _given_name(name, resource, template, "FunctionName")
                scope[name, None] = own
                scope[name, "Arn"] = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{own}"
            case "AWS::Lambda::LayerVersion":
                own = _given_name(name, resource, template, "LayerName")
                versions[own] += 1
                arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:layer:{own}:{versions[own]}"
                scope[name, None] = scope[name, "LayerVersionArn"] = arn
            case "AWS::IAM::Role":
                own = _given_name(name, resource, template, "RoleName")
                path = _given_name("/", resource, template, "Path")
                scope[name, None] = own
                scope[name, "Arn"] = f"arn:aws:iam::{ACCOUNT}:role{path}{own}"
            case "AWS::Logs::LogGroup":
                own = _given_name(f"/aws/lambda/{name}", resource, template, "LogGroupName")
                scope[name, None] = own
                scope[name, "Arn"] = f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{own}:*"
            case "AWS::Events::Rule" | "AWS::Scheduler::Schedule":
                own = _given_name(name, resource, template, "Name")
                scope[name, None] = own
                scope[name, "Arn"] = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{own}"
    for name, attribute in references([template.resources, template.outputs]):
        resource = template.resources.get(name)
        # The values of what the emulator holds are known later, and replace these.
        if resource and (name, attribute) not in scope:
            properties = _with_names(resource, template)
            scope[name, attribute] = physical_id(
                template.name, name, resource["Type"], properties, attribute
            )
    return scope


def _given_name(default: Any, resource: dict[str, Any], template: Template, key: str) -> Any:
    """Returns the name that a property of a resource gives to it, or the default.

    A name that refers to another resource is not known yet.
    """
    given = (resource.get("Properties") or {}).get(key)
    try:
        return str(template.resolve(given, {})) if given else default
    except TemplateError:
        return default


def _with_names(resource: dict[str, Any], template: Template) -> dict[str, Any]:
    """Returns the properties of a resource; those that give it a name are evaluated."""
    properties = dict(resource.get("Properties") or {})
    for key in name_keys(resource["Type"]):
        if isinstance(properties.get(key), dict):
            properties[key] = _given_name(None, resource, template, key)
    return properties
