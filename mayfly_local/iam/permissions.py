"""The permissions of each function's role, and the ones that were used.

moto's engine evaluates the policies. It does not evaluate their conditions. An Allow with a
condition counts without the condition, and a Deny with a condition is left out.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from mayfly_local.iam.requests import Permission

__all__ = ["Grant", "Permissions", "Role"]

#: Most decisions that are cached. Few exist, except for objects in buckets.
_REMEMBERED: Final = 20_000
#: Most refusals that are counted separately. Few exist, except for objects in buckets.
_COUNTED: Final = 1_000
#: Actions that every caller with credentials may use.
_ALWAYS: Final = {"sts:GetCallerIdentity"}


@dataclass(frozen=True)
class Role:
    """A role: its name, its policy documents, and the names of AWS's own policies among them."""

    name: str
    documents: tuple[dict[str, Any], ...]
    managed: tuple[str, ...] = ()

    @property
    def has_conditions(self) -> bool:
        """True if one of its own statements has a condition; conditions are not evaluated here."""
        return any(
            "Condition" in statement
            for document in self.documents
            for statement in _many(document.get("Statement"))
        )


@dataclass(frozen=True)
class Grant:
    """One action on one resource that a function's role allows, both as patterns of the policy."""

    function: str
    action: str
    resource: str


@dataclass
class Permissions:
    """The roles of all functions, which decide on each call.

    A function that is not in `roles` may do nothing. A function whose role is None may do anything,
    because its policies are not known here.
    """

    roles: dict[str, Role | None] = field(default_factory=dict)
    used: Counter[Grant] = field(default_factory=Counter)
    refused: Counter[tuple[str, Permission]] = field(default_factory=Counter)
    _decisions: dict[tuple[str, Permission], tuple[bool, tuple[Grant, ...]]] = field(
        default_factory=dict
    )

    def set(self, roles: dict[str, Role | None]) -> None:
        """Sets the roles of a stack. Loads the engine, so that calls need not wait for it."""
        self.roles, self._decisions = roles, {}
        for role in roles.values():
            if role is not None:
                _policies(json.dumps([role.documents, role.managed]))

    def allows(self, function: str, permission: Permission) -> bool:
        """Returns whether a function has a permission, and records the use or the refusal."""
        is_allowed, grants = self._decision(function, permission)
        if is_allowed:
            self.used.update(grants)
        elif len(self.refused) < _COUNTED or (function, permission) in self.refused:
            self.refused[function, permission] += 1
        return is_allowed

    def may(self, function: str, permission: Permission) -> bool:
        """Returns whether a function has a permission, without recording it."""
        return self._decision(function, permission)[0]

    def denies(self, function: str, permission: Permission) -> bool:
        """Returns whether a statement of the role denies the permission."""
        from moto.iam.access_control import PermissionResult

        role = self.roles.get(function)
        return role is not None and PermissionResult.DENIED in _verdicts(role, permission)

    def grants(self) -> list[Grant]:
        """Returns everything that is allowed, in the order of the policies, including AWS's own.

        `NotAction` is written as `!` and the action.
        """
        return [
            grant
            for function, role in self.roles.items()
            if role is not None
            for grant in _grants(function, role)
        ]

    def _decision(self, function: str, permission: Permission) -> tuple[bool, tuple[Grant, ...]]:
        known = self._decisions.get((function, permission))
        if known is None:
            if len(self._decisions) >= _REMEMBERED:
                self._decisions.clear()
            known = self._decisions[function, permission] = self._decide(function, permission)
        return known

    def _decide(self, function: str, permission: Permission) -> tuple[bool, tuple[Grant, ...]]:
        if permission.action in _ALWAYS:
            return True, ()
        if function not in self.roles:
            return False, ()
        role = self.roles[function]
        if role is None:
            return True, ()
        from moto.iam.access_control import PermissionResult

        action, verdicts = permission.action.lower(), _verdicts(role, permission)
        if PermissionResult.DENIED in verdicts or PermissionResult.PERMITTED not in verdicts:
            return False, ()
        return True, tuple(
            grant
            for grant in _grants(function, role)
            if _covers(grant, action, permission.resource)
        )


def _verdicts(role: Role, permission: Permission) -> list[Any]:
    policies = _policies(json.dumps([role.documents, role.managed]))
    return [
        policy.is_action_permitted(permission.action.lower(), permission.resource)
        for policy in policies
    ]


def _covers(grant: Grant, action: str, resource: str) -> bool:
    from moto.iam.access_control import IAMPolicyStatement, PermissionResult

    element = "NotAction" if grant.action.startswith("!") else "Action"
    statement = {"Effect": "Allow", element: grant.action.lstrip("!"), "Resource": grant.resource}
    (plain,) = _plain({"Statement": statement})["Statement"]
    return bool(
        IAMPolicyStatement(plain).is_action_permitted(action, resource)
        is PermissionResult.PERMITTED
    )


def _grants(function: str, role: Role) -> list[Grant]:
    managed = (
        [_managed()[name] for name in role.managed if name in _managed()] if role.managed else []
    )
    return [
        Grant(function, action, resource)
        for document in (*role.documents, *managed)
        for statement in _many(document.get("Statement"))
        if statement.get("Effect") == "Allow"
        for action in (
            *_many(statement.get("Action")),
            *(f"!{action}" for action in _many(statement.get("NotAction"))),
        )
        for resource in _many(statement.get("Resource"))
    ]


@cache
def _policies(text: str) -> list[Any]:
    from moto.iam.access_control import IAMPolicy

    documents, managed = json.loads(text)
    documents += [_managed()[name] for name in managed if name in _managed()]
    return [IAMPolicy(json.dumps(_plain(document))) for document in documents]


@cache
def _managed() -> dict[str, Any]:
    from moto.iam.aws_managed_policies import aws_managed_policies_data

    return {
        name: policy["Document"] for name, policy in json.loads(aws_managed_policies_data).items()
    }


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """Returns a document in the form that the engine needs.

    Actions are in lower case, because IAM ignores the case. Patterns are regular expressions, which
    are right once the engine has replaced each star by `.*`; it replaces nothing else. Conditions
    are left out.
    """
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                **{name: value for name, value in statement.items() if name != "Condition"},
                **{
                    name: [_pattern(action.lower()) for action in _many(statement[name])]
                    for name in ("Action", "NotAction")
                    if name in statement
                },
                **(
                    {"Resource": [_pattern(resource) for resource in _many(statement["Resource"])]}
                    if "Resource" in statement
                    else {}
                ),
            }
            for statement in _many(document.get("Statement"))
            if not (statement.get("Effect") == "Deny" and "Condition" in statement)
        ],
    }


def _pattern(text: str) -> str:
    """Returns a pattern of IAM as a regular expression: `*` is any text, `?` any character.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html
    """
    return (
        "(?s:"
        + "".join({"*": "*", "?": "."}.get(character) or re.escape(character) for character in text)
        + ")"
    )


def _many(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
