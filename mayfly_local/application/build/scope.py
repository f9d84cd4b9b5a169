"""The values of Ref and GetAtt for resources that the emulator does not hold."""

from typing import Any

from mayfly_local.account import ACCOUNT, REGION
from mayfly_local.application.intrinsics import references
from mayfly_local.application.physical_ids import physical_id
from mayfly_local.application.template import Template
from mayfly_local.errors import TemplateError

__all__ = ["Scope", "compute_scope"]

#: Values by `(name, None)` for Ref and by `(name, attribute)` for GetAtt.
Scope = dict[tuple[str, str | None], Any]


def compute_scope(template: Template) -> Scope:
    """Returns the values of Ref and GetAtt for resources that the emulator does not hold."""
    scope: Scope = {}
    for name, resource in template.resources.items():
        match resource["Type"]:
            case "AWS::Lambda::Function":
                own = _function_name(name, resource, template)
                scope[name, None] = own
                scope[name, "Arn"] = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{own}"
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
    for name, attribute in references([template.resources, template.outputs]):
        resource = template.resources.get(name)
        # The values of what the emulator holds are known later, and replace these.
        if resource and (name, attribute) not in scope:
            scope[name, attribute] = physical_id(
                template.name, name, resource["Type"], resource.get("Properties") or {}, attribute
            )
    return scope


def _function_name(name: str, resource: dict[str, Any], template: Template) -> str:
    """Returns the name that the template gives to a function, or its logical id.

    A name that refers to another resource is not known yet.
    """
    given = (resource.get("Properties") or {}).get("FunctionName")
    try:
        return str(template.resolve(given, {})) if given else name
    except TemplateError:
        return name
