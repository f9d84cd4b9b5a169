"""Access keys and the callers that they identify, and the caller of the request in progress."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from hmac import compare_digest
from typing import Final

__all__ = ["OWNER", "SERVICE", "Identities"]

#: The caller of the request in progress: `runtime`, `people` or `function NAME`.
OWNER: Final[ContextVar[str]] = ContextVar("OWNER", default="")
#: The service that the request in progress is signed for.
SERVICE: Final[ContextVar[str]] = ContextVar("SERVICE", default="")


@dataclass
class Identities:
    """Access key ids, and the callers that they identify.

    `functions` maps the id of each function to its name; `secrets` maps ids to secrets. With
    `any_credentials`, every unknown key identifies people.
    """

    people: str = ""
    runtime: str = ""
    any_credentials: bool = False
    functions: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)

    def of(self, key: str) -> str | None:
        """Returns the owner of a key, or None if the key is unknown.

        The owner is `runtime`, `people` or `function NAME`.
        """
        if key in self.functions:
            return f"function {self.functions[key]}"
        for owner, own in (("runtime", self.runtime), ("people", self.people)):
            if key and compare_digest(key.encode(), own.encode()):
                return owner
        return "people" if self.any_credentials else None
