"""Parameter Store: texts by path, cached for a while in this process."""

from typing import Any

from mayfly.aws.client import as_client
from mayfly.aws.errors import Refused, Unanswered
from mayfly.core.clock import Clock
from mayfly.core.errors import StoreUnavailable

__all__ = ["Parameters"]


class Parameters:
    """Parameters of this account. Parameter Store allows 40 reads a second, so they are cached.

    https://docs.aws.amazon.com/general/latest/gr/ssm.html#limits_ssm
    """

    def __init__(self, client: Any, clock: Clock, *, seconds: int = 60) -> None:
        self._client = as_client(client)
        self._clock = clock
        self._milliseconds = seconds * 1000
        self._cached: dict[str, tuple[int, str]] = {}

    def read(self, path: str) -> str | None:
        """Returns a decrypted parameter, None if it does not exist. Raises StoreUnavailable."""
        now_ms = self._clock()
        until_ms, text = self._cached.get(path, (0, ""))
        if now_ms < until_ms:
            return text
        try:
            reply = self._client.call("GetParameter", {"Name": path, "WithDecryption": True})
        except Refused as refusal:
            if refusal.code == "ParameterNotFound":
                return None
            raise StoreUnavailable("read secret", refusal.code) from refusal
        except Unanswered as problem:
            raise StoreUnavailable("read secret", problem.reason) from problem
        value = str(reply["Parameter"]["Value"])
        self._cached[path] = (now_ms + self._milliseconds, value)
        return value
