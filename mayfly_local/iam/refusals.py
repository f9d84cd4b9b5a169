"""Permissions that a function's role lacks: which they are, and how they are reported."""

from collections.abc import Callable
from typing import Any

from mayfly_local.account import ACCOUNT
from mayfly_local.iam.permissions import Permissions
from mayfly_local.iam.requests import SERVICES, UNREADABLE, Permission, Request

__all__ = ["Refusals"]


class Refusals:
    """The refusals of a stack's permissions; `report` is called with the facts of new ones."""

    def __init__(self, permissions: Permissions, report: Callable[[dict[str, Any]], None]) -> None:
        self._permissions = permissions
        self._report = report

    def first(self, function: str, request: Request) -> Permission | None:
        """Returns the first permission that a request lacks, or None."""
        if request.service not in SERVICES:  # The emulator reports an unknown service itself.
            return None
        try:
            permissions = request.permissions()
        except UNREADABLE:  # The body is malformed. The emulator reports the error.
            return None
        return next(
            (
                permission
                for permission in sorted(permissions)
                if not self.allows(function, permission)
            ),
            None,
        )

    def allows(self, function: str, permission: Permission) -> bool:
        """Returns whether a function has a permission, and records it.

        Reports the first refusal of each.
        """
        is_allowed = self._permissions.allows(function, permission)
        if not is_allowed and self._permissions.refused[function, permission] == 1:
            role = self._permissions.roles.get(function)
            facts = {
                "function": function,
                "role": role.name if role else None,
                "action": permission.action,
                "resource": permission.resource,
            }
            self._report({**facts, "advice": self._advice(function, permission)})
        return is_allowed

    def sentence(self, function: str, refused: Permission) -> str:
        """Returns AWS's error message."""
        role = self._permissions.roles.get(function)
        user = f"arn:aws:sts::{ACCOUNT}:assumed-role/{role.name if role else 'none'}/{function}"
        if refused.action.endswith(":?"):
            return (
                f"mayfly does not know which permission this call on {refused.resource} "
                f"needs, and cannot check it for {user}"
            )
        why = f"because no identity-based policy allows the {refused.action} action"
        if self._permissions.denies(function, refused):
            why = "with an explicit deny in an identity-based policy"
        return (
            f"User: {user} is not authorized to perform: {refused.action} on resource: "
            f"{refused.resource} {why}"
        )

    def _advice(self, function: str, refused: Permission) -> str:
        if refused.action.endswith(":?"):
            return "mayfly does not know which permission it needs"
        if self._permissions.denies(function, refused):
            return "a policy of its role denies it"
        role = self._permissions.roles.get(function)
        return f"allow it in the policies of {role.name if role else 'its role'}"
