"""The permissions of each function's role, and the ones that were used.

An explicit Deny wins over every Allow, and what no statement allows is refused:
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html
Conditions are not evaluated. An Allow with a condition counts without the condition, and a Deny
with a condition is left out.
"""

import importlib.util
import json
import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import distribution
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
        """Sets the roles of a stack."""
        self.roles, self._decisions = roles, {}

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
        role = self.roles.get(function)
        return role is not None and any(
            statement.is_deny and statement.concerns(permission) for statement in _statements(role)
        )

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
        concerned = [s for s in _statements(role) if s.concerns(permission)]
        if not concerned or any(statement.is_deny for statement in concerned):
            return False, ()
        return True, tuple(grant for grant in _grants(function, role) if _covers(grant, permission))


@dataclass(frozen=True)
class _Statement:
    """A statement of a policy. Without an element it concerns every action or resource."""

    is_deny: bool
    actions: tuple[str, ...] | None
    not_actions: tuple[str, ...] | None
    resources: tuple[str, ...] | None
    not_resources: tuple[str, ...] | None

    @classmethod
    def of(cls, statement: dict[str, Any]) -> "_Statement":
        """Returns a statement of a document. Actions are the same in upper and lower case."""
        actions, not_actions, resources, not_resources = (
            tuple(map(str, _many(statement[name]))) if name in statement else None
            for name in ("Action", "NotAction", "Resource", "NotResource")
        )
        return cls(
            statement.get("Effect") == "Deny",
            actions and tuple(action.lower() for action in actions),
            not_actions and tuple(action.lower() for action in not_actions),
            resources,
            not_resources,
        )

    def concerns(self, permission: Permission) -> bool:
        """Returns whether both the action and the resource match."""
        action = permission.action.lower()
        return (
            (self.actions is None or _matches(self.actions, action))
            and (self.not_actions is None or not _matches(self.not_actions, action))
            and (self.resources is None or _matches(self.resources, permission.resource))
            and (
                self.not_resources is None or not _matches(self.not_resources, permission.resource)
            )
        )


def _covers(grant: Grant, permission: Permission) -> bool:
    element = "NotAction" if grant.action.startswith("!") else "Action"
    action = grant.action.lstrip("!")
    return _Statement.of({element: action, "Resource": grant.resource}).concerns(permission)


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


def _statements(role: Role) -> tuple[_Statement, ...]:
    return _statements_of(json.dumps([role.documents, role.managed]))


@cache
def _statements_of(text: str) -> tuple[_Statement, ...]:
    documents, managed = json.loads(text)
    documents += [_managed()[name] for name in managed if name in _managed()]
    return tuple(
        _Statement.of(statement)
        for document in documents
        for statement in _many(document.get("Statement"))
        if not (statement.get("Effect") == "Deny" and "Condition" in statement)
    )


@cache
def _managed() -> dict[str, Any]:
    """Returns AWS's own policies by name.

    moto brings them in a module. It is loaded alone, since its package takes long to load.
    """
    path = distribution("moto").locate_file("moto/iam/aws_managed_policies.py")
    spec = importlib.util.spec_from_file_location("mayfly_managed_policies", str(path))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {
        name: policy["Document"]
        for name, policy in json.loads(module.aws_managed_policies_data).items()
    }


def _matches(patterns: tuple[str, ...], text: str) -> bool:
    return any(_pattern(pattern).fullmatch(text) for pattern in patterns)


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """Returns a pattern of IAM as a regular expression: `*` is any text, `?` any character.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_resource.html
    """
    parts = ({"*": ".*", "?": "."}.get(letter) or re.escape(letter) for letter in text)
    return re.compile("".join(parts), re.DOTALL)


def _many(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]
