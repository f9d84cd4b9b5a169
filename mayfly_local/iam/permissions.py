"""What the role of each function allows, and what of it was used. Policies are evaluated by moto's
engine.

Of a policy, conditions are not evaluated: a statement that allows is taken to, one that denies
under a condition is left out.
"""

import json
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final

from mayfly_local.iam.requests import Permission

__all__ = ["Grant", "Permissions", "Role"]

#: Decisions that are remembered; there are few but for objects in buckets.
_REMEMBERED: Final = 20_000
#: Refusals that are told apart; there are few but for objects in buckets.
_COUNTED: Final = 1_000
#: What everybody may do who has credentials at all.
_ALWAYS: Final = {"sts:GetCallerIdentity"}


@dataclass(frozen=True)
class Role:
    """A role: its name, its policy documents, and the names of AWS's own policies among them."""

    name: str
    documents: tuple[dict[str, Any], ...]
    managed: tuple[str, ...] = ()

    @property
    def has_conditions(self) -> bool:
        """Whether a statement of its own has a condition, which nobody evaluates here."""
        return any(
            "Condition" in each
            for document in self.documents
            for each in _many(document.get("Statement"))
        )


@dataclass(frozen=True)
class Grant:
    """One action on one resource that a function's role allows, both as patterns of the policy."""

    function: str
    action: str
    resource: str


@dataclass
class Permissions:
    """The roles of all functions, asked for each call.

    A function that is not among `roles` may do nothing. One whose role is None, since nobody here
    knows its policies, may do anything.
    """

    roles: dict[str, Role | None] = field(default_factory=dict)
    used: Counter[Grant] = field(default_factory=Counter)
    refused: Counter[tuple[str, Permission]] = field(default_factory=Counter)
    _decisions: dict[tuple[str, Permission], tuple[bool, tuple[Grant, ...]]] = field(
        default_factory=dict
    )

    def set(self, roles: dict[str, Role | None]) -> None:
        """Takes the roles of a stack. Loads the engine, so that no call has to wait for it."""
        self.roles, self._decisions = roles, {}
        for role in roles.values():
            if role is not None:
                _policies(json.dumps([role.documents, role.managed]))

    def allows(self, function: str, asked: Permission) -> bool:
        """Whether a function may, and notes that it did or wanted to."""
        is_allowed, grants = self._decision(function, asked)
        if is_allowed:
            self.used.update(grants)
        elif len(self.refused) < _COUNTED or (function, asked) in self.refused:
            self.refused[function, asked] += 1
        return is_allowed

    def may(self, function: str, asked: Permission) -> bool:
        """Whether a function may; notes nothing."""
        return self._decision(function, asked)[0]

    def denies(self, function: str, asked: Permission) -> bool:
        """Whether a statement of the role denies it, whatever others allow."""
        from moto.iam.access_control import PermissionResult

        role = self.roles.get(function)
        return role is not None and PermissionResult.DENIED in _verdicts(role, asked)

    def grants(self) -> list[Grant]:
        """Everything that is allowed, in the order of the policies, AWS's own among them;
        `NotAction` is written as `!` and the action.
        """
        return [
            grant
            for function, role in self.roles.items()
            if role is not None
            for grant in _grants(function, role)
        ]

    def _decision(self, function: str, asked: Permission) -> tuple[bool, tuple[Grant, ...]]:
        known = self._decisions.get((function, asked))
        if known is None:
            if len(self._decisions) >= _REMEMBERED:
                self._decisions.clear()
            known = self._decisions[function, asked] = self._decide(function, asked)
        return known

    def _decide(self, function: str, asked: Permission) -> tuple[bool, tuple[Grant, ...]]:
        if asked.action in _ALWAYS:
            return True, ()
        if function not in self.roles:
            return False, ()
        role = self.roles[function]
        if role is None:
            return True, ()
        from moto.iam.access_control import PermissionResult

        action, verdicts = asked.action.lower(), _verdicts(role, asked)
        if PermissionResult.DENIED in verdicts or PermissionResult.PERMITTED not in verdicts:
            return False, ()
        return True, tuple(
            grant for grant in _grants(function, role) if _covers(grant, action, asked.resource)
        )


def _verdicts(role: Role, asked: Permission) -> list[Any]:
    policies = _policies(json.dumps([role.documents, role.managed]))
    return [each.is_action_permitted(asked.action.lower(), asked.resource) for each in policies]


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
            *(f"!{each}" for each in _many(statement.get("NotAction"))),
        )
        for resource in _many(statement.get("Resource"))
    ]


@cache
def _policies(text: str) -> list[Any]:
    from moto.iam.access_control import IAMPolicy

    documents, managed = json.loads(text)
    documents += [_managed()[name] for name in managed if name in _managed()]
    return [IAMPolicy(json.dumps(_plain(each))) for each in documents]


@cache
def _managed() -> dict[str, Any]:
    from moto.iam.aws_managed_policies import aws_managed_policies_data

    return {name: each["Document"] for name, each in json.loads(aws_managed_policies_data).items()}


def _plain(document: dict[str, Any]) -> dict[str, Any]:
    """A document as the engine takes it: actions in one case, since IAM does not mind it; patterns
    as regular expressions that are right once it has made `.*` of each star, which is all that it
    does; no conditions."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                **{name: value for name, value in statement.items() if name != "Condition"},
                **{
                    name: [_pattern(each.lower()) for each in _many(statement[name])]
                    for name in ("Action", "NotAction")
                    if name in statement
                },
                **(
                    {"Resource": [_pattern(each) for each in _many(statement["Resource"])]}
                    if "Resource" in statement
                    else {}
                ),
            }
            for statement in _many(document.get("Statement"))
            if not (statement.get("Effect") == "Deny" and "Condition" in statement)
        ],
    }


def _pattern(text: str) -> str:
    """https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html:
    `*` is any text, `?` any character.
    """
    return (
        "(?s:" + "".join({"*": "*", "?": "."}.get(each) or re.escape(each) for each in text) + ")"
    )


def _many(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
