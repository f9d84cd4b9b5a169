"""The values of Ref and GetAtt for resources that the emulator does not hold."""

from typing import Any

from mayfly_local.account import ACCOUNT, REGION
from mayfly_local.application.intrinsics import references
from mayfly_local.application.physical_ids import physical_id
from mayfly_local.application.supported import STATE
from mayfly_local.application.template import Template

__all__ = ["Scope", "compute_scope", "qualified"]

#: Values by `(name, None)` for Ref and by `(name, attribute)` for GetAtt.
Scope = dict[tuple[str, str | None], Any]


def compute_scope(template: Template) -> Scope:
    """Returns the values of Ref and GetAtt for resources that the emulator does not hold."""
    scope: Scope = {}
    for name, resource in template.resources.items():
        match resource["Type"]:
            case "AWS::Lambda::Function":
                scope[name, None] = name
                scope[name, "Arn"] = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}"
            case "AWS::Lambda::LayerVersion":
                scope[name, None] = f"layer:{name}"
            case "AWS::Lambda::Alias" | "AWS::Lambda::Version":
                function, qualifier = qualified(resource)
                arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}:{qualifier}"
                scope[name, None] = arn
                scope[name, "AliasArn"] = scope[name, "FunctionArn"] = arn
                scope[name, "Version"] = qualifier
            case "AWS::IAM::Role":
                scope[name, None] = name
                scope[name, "Arn"] = f"arn:aws:iam::{ACCOUNT}:role/{name}"
            case "AWS::Logs::LogGroup":
                scope[name, None] = f"/aws/lambda/{name}"
                scope[name, "Arn"] = (
                    f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/aws/lambda/{name}:*"
                )
            case "AWS::Events::Rule" | "AWS::Scheduler::Schedule":
                scope[name, None] = name
                scope[name, "Arn"] = f"arn:aws:events:{REGION}:{ACCOUNT}:rule/{name}"
            case "AWS::ApiGatewayV2::Api":
                scope[name, None] = "local"
    for name, attribute in references([template.resources, template.outputs]):
        resource = template.resources.get(name)
        if resource and resource["Type"] not in STATE and (name, attribute) not in scope:
            scope[name, attribute] = physical_id(
                template.name, name, resource["Type"], resource.get("Properties") or {}, attribute
            )
    return scope


def qualified(resource: dict[str, Any]) -> tuple[str, str]:
    """Returns the logical id of the function of an alias or a version, and its qualifier.

    A version is always 1, since there is one code.
    """
    properties = resource.get("Properties") or {}
    reference = properties.get("FunctionName", "")
    if isinstance(reference, dict):
        ((_, found),) = reference.items()
        reference = found[0] if isinstance(found, list) else found
    name = str(reference).partition(".")[0]
    is_alias = resource["Type"] == "AWS::Lambda::Alias"
    return name, str(properties.get("Name", "")) if is_alias else "1"
