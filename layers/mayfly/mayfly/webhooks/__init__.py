"""Webhooks: signed, at least once, each under one id, and to public addresses only."""

from mayfly.webhooks.service import Courier, deliver

__all__ = ["Courier", "deliver"]
