"""Findings of `mayfly doctor`: each is about one thing, and says what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Weight", "has_problem", "note", "problem", "unchecked"]


class Weight(StrEnum):
    """The weight of a finding: something must be done, it is good to know, it was not checked."""

    PROBLEM = "problem"
    NOTE = "note"
    UNCHECKED = "not checked"


@dataclass(frozen=True)
class Finding:
    """A finding about one thing. `check` names the check; `action` is empty for a note."""

    weight: Weight
    check: str
    thing: str
    what: str
    action: str = ""


def problem(check: str, thing: str, what: str, action: str) -> Finding:
    """Returns a finding that asks for an action."""
    return Finding(Weight.PROBLEM, check, thing, what, action)


def note(check: str, thing: str, what: str, action: str = "") -> Finding:
    """Returns a finding that is good to know."""
    return Finding(Weight.NOTE, check, thing, what, action)


def unchecked(check: str, thing: str, reason: str) -> Finding:
    """Returns what could not be checked, and why."""
    return Finding(Weight.UNCHECKED, check, thing, reason)


def has_problem(findings: Sequence[Finding]) -> bool:
    """Returns whether something must be done."""
    return any(finding.weight is Weight.PROBLEM for finding in findings)
