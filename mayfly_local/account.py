"""The account, the region and the stack in the ARNs of the local stack."""

import uuid
from typing import Final

__all__ = ["ACCOUNT", "REGION", "stack_id"]

REGION: Final = "us-east-1"
ACCOUNT: Final = "000000000000"


def stack_id(stack: str, name: str = "") -> str:
    """Returns the ARN of a stack, whose last part is a UUID: templates split it to get a suffix.

    The UUID is that of `name`, or of the stack's own, so that it is the same at every start.
    """
    part = uuid.uuid5(uuid.NAMESPACE_URL, f"mayfly:{name or stack}")
    return f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/{stack}/{part}"
