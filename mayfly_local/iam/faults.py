"""Faults that tests request for the calls of functions."""

from fnmatch import fnmatchcase
from typing import Any, Final

from mayfly_local.iam.requests import UNREADABLE, Request

__all__ = ["KILLS", "KINDS", "Faults"]

#: The kinds of faults.
KINDS: Final = ("refuse", "lose", "conflict", "throttle", "silence")
#: Faults that kill the calling process: before its call takes effect, and afterwards.
KILLS: Final = ("kill", "kill-after")


class Faults:
    """The faults that have not struck yet.

    With `refuse` a call never takes effect. With `lose` it takes effect, and its response is lost.
    With `conflict` a transaction takes the call's item just before it (`Transactions.hold`). With
    `throttle` DynamoDB refuses it for load, and with `silence` it is not answered at all. With
    `kill` and `kill-after` its process is killed: before it takes effect, and afterwards.
    """

    def __init__(self) -> None:
        self._wanted: list[dict[str, Any]] = []

    def add(self, wanted: dict[str, Any]) -> None:
        """Adds a fault for the next calls of a function's action.

        The fault is `{function, action, kind, times}`; the action may be a pattern with `*`. With
        `containing`, it is for calls whose body has this text.
        """
        self._wanted.append(dict(wanted))

    def clear(self) -> int:
        """Removes all faults; returns for how many calls they were still meant."""
        left = sum(int(fault["times"]) for fault in self._wanted)
        self._wanted.clear()
        return left

    def strike(self, function: str, request: Request) -> dict[str, Any] | None:
        """Returns the fault of a request, or None."""
        if not self._wanted:
            return None
        try:
            actions = {permission.action for permission in request.permissions()}
        except UNREADABLE:
            return None
        for fault in self._wanted:
            if (
                fault["function"] == function
                and any(fnmatchcase(action, fault["action"]) for action in actions)
                and fault.get("containing", "").encode() in request.body
            ):
                fault["times"] -= 1
                if not fault["times"]:
                    self._wanted.remove(fault)
                return fault
        return None
