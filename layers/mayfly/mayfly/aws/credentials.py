"""Credentials of a function: from its environment, or from the endpoint that SnapStart gives it."""

import calendar
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final
from urllib.parse import urlsplit

from mayfly.aws.errors import Unanswered
from mayfly.core.clock import Clock
from mayfly.core.errors import ConfigError

__all__ = ["CredentialSource", "Credentials"]

#: Seconds before their end at which credentials are replaced.
_EARLY_SECONDS: Final = 300
_TIMEOUT_SECONDS: Final = 2


@dataclass(frozen=True)
class Credentials:
    """An access key. `token` is the session token of temporary credentials."""

    key_id: str
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


class CredentialSource:
    """Reads credentials. The variables are read again for each request, since they may change.

    With SnapStart, Lambda gives no key in the environment, but the address of an endpoint:
    https://docs.aws.amazon.com/lambda/latest/dg/snapstart-activate.html
    """

    def __init__(self, env: Mapping[str, str], clock: Clock) -> None:
        self._env = env
        self._clock = clock
        self._fetched: tuple[float, Credentials] | None = None

    def read(self) -> Credentials:
        """Returns the credentials of this moment. Raises ConfigError if there are none.

        Raises Unanswered if the endpoint does not give any.
        """
        key_id, secret = self._env.get("AWS_ACCESS_KEY_ID"), self._env.get("AWS_SECRET_ACCESS_KEY")
        if key_id and secret:
            return Credentials(key_id, secret, self._env.get("AWS_SESSION_TOKEN") or None)
        if url := self._env.get("AWS_CONTAINER_CREDENTIALS_FULL_URI"):
            # Another thread may forget them meanwhile.
            fetched = self._fetched
            if fetched is None or fetched[0] < self._clock() / 1000 + _EARLY_SECONDS:
                fetched = self._fetched = self._fetch(url)
            return fetched[1]
        raise ConfigError(
            ["AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are missing; without credentials no "
            "request can be signed"]
        )  # fmt: skip

    def forget(self, refused: Credentials) -> None:
        """Makes the next read fetch credentials again, if those that were refused are the last."""
        fetched = self._fetched
        if fetched is not None and fetched[1] == refused:
            self._fetched = None

    def _fetch(self, url: str) -> tuple[float, Credentials]:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise ConfigError([f"AWS_CONTAINER_CREDENTIALS_FULL_URI is not http or https: {url!r}"])
        connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        place = f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
        token = self._env.get("AWS_CONTAINER_AUTHORIZATION_TOKEN")
        server = connect(parts.hostname or "", parts.port, timeout=_TIMEOUT_SECONDS)
        try:
            server.request("GET", place, headers={"Authorization": token} if token else {})
            answer = json.loads(server.getresponse().read())
            ends = calendar.timegm(time.strptime(answer["Expiration"], "%Y-%m-%dT%H:%M:%SZ"))
            credentials = Credentials(
                answer["AccessKeyId"], answer["SecretAccessKey"], answer["Token"]
            )
        except (OSError, HTTPException, ValueError, KeyError) as problem:
            raise Unanswered("CredentialRetrievalError") from problem
        finally:
            server.close()
        return ends, credentials
