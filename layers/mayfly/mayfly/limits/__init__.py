"""Rate limits that no process keeps: each admission is decided by a conditional write."""

from mayfly.limits.model import Algorithm, Decision, Limit
from mayfly.limits.service import limited, quota, take, take_all
from mayfly.limits.store import LimitStore

__all__ = ["Algorithm", "Decision", "Limit", "LimitStore", "limited", "quota", "take", "take_all"]
