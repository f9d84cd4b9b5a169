"""Webhooks: signed, delivered at least once, each with one id, and only to public addresses."""

from mayfly.webhooks.receivers import Receivers
from mayfly.webhooks.service import Deps, deliver, rest_seconds

__all__ = ["Deps", "Receivers", "deliver", "rest_seconds"]
