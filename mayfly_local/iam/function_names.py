"""The names that clients give to a function: a name, an ARN or a part of one.

https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
"""

import re
from typing import Final, NamedTuple

from mayfly_local.account import ACCOUNT, REGION

__all__ = ["FunctionName"]

_REFERENCE: Final = re.compile(
    r"(?:arn:[a-z-]+:lambda:(?P<region>[a-z0-9-]+):)?(?:(?P<account>\d{12}):)?"
    r"(?:function:)?(?P<name>[A-Za-z0-9_-]+)(?::(?P<qualifier>\$LATEST|[A-Za-z0-9_-]+))?"
)


class FunctionName(NamedTuple):
    """A function's name, and its version or alias; the qualifier is empty if there is none."""

    name: str
    qualifier: str = ""

    @classmethod
    def parse(cls, text: str, qualifier: str = "") -> "FunctionName | None":
        """Returns the name in a reference; None if it is not one, or of another account.

        `qualifier` is the one of the request's query.
        """
        match = _REFERENCE.fullmatch(text)
        if match is None or match["account"] not in (None, ACCOUNT):
            return None
        if match["region"] not in (None, REGION):
            return None
        return cls(match["name"], qualifier or match["qualifier"] or "")

    @property
    def arn(self) -> str:
        """The ARN of the function, with the qualifier."""
        arn = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.name}"
        return f"{arn}:{self.qualifier}" if self.qualifier else arn
