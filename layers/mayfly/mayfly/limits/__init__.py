"""Rate limits in DynamoDB, shared by all processes: a conditional write decides each admission."""

from mayfly.limits.model import Algorithm, Decision, Limit
from mayfly.limits.service import limited, quota, read, reset, take, take_all
from mayfly.limits.store import LimitStore

__all__ = [
    "Algorithm",
    "Decision",
    "Limit",
    "LimitStore",
    "limited",
    "quota",
    "read",
    "reset",
    "take",
    "take_all",
]
