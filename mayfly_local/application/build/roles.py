"""The role of a function, with all policies that the template attaches to it."""

from collections.abc import Mapping
from typing import Any

from mayfly_local.application.build.resources import Report, Resources
from mayfly_local.iam.permissions import Role

__all__ = ["build_role"]


def build_role(reference: Any, resources: Resources, report: Report) -> Role | None:
    """Returns the role of an ARN or a name, or None if the role is not in the template.

    Raises TemplateError.
    """
    roles = resources.template.of_type("AWS::IAM::Role")
    name = next((role for role in roles if reference in _names(role, resources)), None)
    if name is None:
        return None
    properties = resources.resolve(name, roles[name])
    documents = [policy["PolicyDocument"] for policy in properties.get("Policies", ())]
    managed_arns = [str(arn) for arn in properties.get("ManagedPolicyArns", ())]
    if "PermissionsBoundary" in properties:
        report.absent(name, "PermissionsBoundary: its calls are not checked")
        return None
    policies = resources.of_type("AWS::IAM::Policy") + resources.of_type("AWS::IAM::ManagedPolicy")
    documents += [
        policy["PolicyDocument"]
        for policy_name, policy in policies
        if _is_attached(policy, name, resources) or policy_name in managed_arns
    ]
    statements = [
        statement for document in documents for statement in _many(document.get("Statement"))
    ]
    if any("NotResource" in statement for statement in statements):
        report.absent(name, "NotResource in a policy: its calls are not checked")
        return None
    return Role(name, tuple(documents), tuple(arn.rpartition("/")[2] for arn in managed_arns))


def _names(role: str, resources: Resources) -> tuple[Any, ...]:
    """Returns what may refer to a role: its ARN, its name, and its logical id."""
    return resources.scope[role, "Arn"], resources.scope[role, None], role


def _is_attached(policy: Mapping[str, Any], role: str, resources: Resources) -> bool:
    return not set(_names(role, resources)).isdisjoint(policy.get("Roles", ()))


def _many(value: Any) -> list[Any]:
    """Returns the statements of a policy as a list; a single one may stand alone."""
    return value if isinstance(value, list) else [] if value is None else [value]
