"""The running stack, as CloudFormation describes it to clients.

The emulator has only a part of it: the state, with outputs for the runtime. Clients see the whole
template: https://docs.aws.amazon.com/AWSCloudFormation/latest/APIReference/API_DescribeStacks.html
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from ministack.core.responses import now_iso
from ministack.services import cloudformation
from ministack.services.cloudformation import handlers, helpers

from mayfly_local.account import stack_id
from mayfly_local.emulator.secrets import secret_arn
from mayfly_local.iam.identities import OWNER

__all__ = ["RunningStack", "hook_stacks"]

#: Operations that show stacks.
_SHOW: Final = (
    "DescribeStackResource", "DescribeStackResources", "DescribeStacks", "ListStackResources",
    "ListStacks",
)  # fmt: skip
_Action = Callable[[Mapping[str, Any]], Any]


class RunningStack:
    """The stack that the runtime has handed over. `now` returns the time, in ISO 8601."""

    def __init__(self, now: Callable[[], str] = now_iso) -> None:
        self._now = now
        self.name = ""
        self._described: Mapping[str, Any] = {}
        self._created = ""

    def set(self, described: Mapping[str, Any]) -> None:
        """Sets the stack: `name`, `text`, `outputs`, and `resources` by logical id.

        An output is one of DescribeStacks. A resource is a list of its type and its Ref.
        """
        self.name, self._described = described["name"], described
        self._created = self._created or self._now()

    def record(self, stored: Mapping[str, Any] | None) -> dict[str, Any]:
        """Returns ministack's record of the whole stack.

        `stored` is its record of the state, or None if the template has no state.
        """
        base = stored or {
            "StackName": self.name,
            "StackStatus": "CREATE_COMPLETE",
            "CreationTime": self._created,
            "LastUpdatedTime": self._created,
        }
        return {
            **base,
            "StackId": stack_id(self.name),
            "Description": self._described["text"],
            "Outputs": self._described["outputs"],
            "_resources": {
                name: {
                    "PhysicalResourceId": _reference(kind, reference),
                    "ResourceType": kind,
                    "ResourceStatus": "CREATE_COMPLETE",
                    "Timestamp": base["LastUpdatedTime"],
                }
                for name, (kind, reference) in self._described["resources"].items()
            },
        }


def hook_stacks(stack: RunningStack) -> None:
    """Makes the emulator's CloudFormation show the running stack to everyone but the runtime."""
    for name in _SHOW:
        handlers._ACTION_HANDLERS[name] = _showing(stack, handlers._ACTION_HANDLERS[name])


def _showing(stack: RunningStack, act: _Action) -> _Action:
    def acted(params: Mapping[str, Any]) -> Any:
        if OWNER.get() == "runtime" or not stack.name:
            return act(params)
        stored = cloudformation._stacks
        shown = {**dict(stored.items()), stack.name: stack.record(stored.get(stack.name))}
        asked = helpers._p(params, "StackName")
        physical = helpers._p(params, "PhysicalResourceId")
        if physical and not asked:
            holder = _holder(physical, shown)
            if holder is None:
                return helpers._error("ValidationError", f"Stack for {physical} does not exist")
            params = {**params, "StackName": [holder]}
        if asked and asked not in {*shown, *(one["StackId"] for one in shown.values())}:
            text = f"Stack with id {asked} does not exist; {stack.name} runs on this machine"
            return helpers._error("ValidationError", text)
        # The actions do not wait for anything, so no other code sees the exchanged stacks.
        cloudformation._stacks = shown
        try:
            return act(params)
        finally:
            cloudformation._stacks = stored

    return acted


def _holder(physical: str, stacks: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Returns the name of the stack that has a resource of this physical id, or None."""
    return next(
        (
            name
            for name, record in stacks.items()
            for resource in record.get("_resources", {}).values()
            if resource.get("PhysicalResourceId") == physical
        ),
        None,
    )


def _reference(kind: str, reference: str) -> str:
    # AWS's Ref of a secret is its ARN; the emulator's is its name.
    if kind == "AWS::SecretsManager::Secret":
        return secret_arn(reference) or reference
    return reference
