"""The account and region in the ARNs of the local stack."""

from typing import Final

__all__ = ["ACCOUNT", "REGION"]

REGION: Final = "us-east-1"
ACCOUNT: Final = "000000000000"
