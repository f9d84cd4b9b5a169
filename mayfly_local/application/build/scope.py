"""The values of Ref and GetAtt for resources that the emulator does not hold."""

from typing import Any

from mayfly_local.account import ACCOUNT, REGION
from mayfly_local.application.build.qualifiers import qualifier_scope
from mayfly_local.application.intrinsics import references
from mayfly_local.application.physical_ids import physical_id
from mayfly_local.application.template import Template

__all__ = ["Scope", "compute_scope"]

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
    scope |= qualifier_scope(template)
    for name, attribute in references([template.resources, template.outputs]):
        resource = template.resources.get(name)
        # The values of what the emulator holds are known later, and replace these.
        if resource and (name, attribute) not in scope:
            scope[name, attribute] = physical_id(
                template.name, name, resource["Type"], resource.get("Properties") or {}, attribute
            )
    return scope
