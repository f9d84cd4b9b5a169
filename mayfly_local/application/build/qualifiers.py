"""Aliases and versions of functions, which are the functions themselves here.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-aliases.html
"""

from mayfly_local.account import ACCOUNT, REGION
from mayfly_local.application.build.scope import Scope
from mayfly_local.application.template import Template
from mayfly_local.errors import TemplateError

__all__ = ["qualifier_scope", "qualifiers_of"]


def qualifier_scope(template: Template, scope: Scope) -> Scope:
    """Returns the values of Ref and GetAtt for aliases and versions: ARNs with a qualifier."""
    values: Scope = {}
    for name, properties in template.of_type("AWS::Lambda::Alias", "AWS::Lambda::Version").items():
        is_alias = "Name" in properties
        try:
            function = str(template.resolve(properties.get("FunctionName", ""), scope))
            qualifier = str(template.resolve(properties["Name"], scope)) if is_alias else "1"
        except TemplateError:  # The alias of a function that is not in the template.
            continue
        arn = (
            function
            if function.startswith("arn:")
            else f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{function}"
        )
        values[name, None] = values[name, "FunctionArn"] = f"{arn}:{qualifier}"
        values[name, "AliasArn"] = f"{arn}:{qualifier}"
        if not is_alias:
            values[name, "Version"] = qualifier
    return values


def qualifiers_of(arn: str, template: Template, scope: Scope) -> tuple[str, ...]:
    """Returns the names of the aliases, and the versions, of the function with an ARN."""
    names = template.of_type("AWS::Lambda::Alias", "AWS::Lambda::Version")
    found = [str(scope.get((name, None), "")).rpartition(":") for name in names]
    return tuple(qualifier for function, _, qualifier in found if function == arn)
