"""Secrets of the emulator, by the ARN that the policies of roles name."""

import sys

__all__ = ["secret_arn"]


def secret_arn(name: str) -> str | None:
    """Returns the ARN of the secret with a name, or None if there is none."""
    module = sys.modules.get("ministack.services.secretsmanager")
    if module is None:
        return None
    _, secret = module._resolve(name)
    return None if secret is None else str(secret["ARN"])
