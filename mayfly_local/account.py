"""The account and region of everything in the local stack, by the names that ARNs have."""

from typing import Final

__all__ = ["ACCOUNT", "REGION"]

REGION: Final = "us-east-1"
ACCOUNT: Final = "000000000000"
