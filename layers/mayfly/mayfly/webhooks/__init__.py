"""Webhooks: signed, delivered at least once, each with one id, and only to public addresses."""

from mayfly.webhooks.service import Deps, deliver

__all__ = ["Deps", "deliver"]
