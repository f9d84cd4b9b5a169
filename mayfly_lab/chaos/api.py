"""The API of a stack as a caller reaches it: one connection that is made again when it breaks."""

import http.client
import json
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Answer", "Api"]

#: These always have an object in their body.
_WITH_BODY: Final = (200, 201, 202)
#: Longer than any answer of a stack takes, whatever happens to it.
_SECONDS: Final = 45.0


@dataclass(frozen=True)
class Answer:
    """A status with its body; status 0 if no answer came, or a success that cannot be read."""

    status: int
    body: Any = None

    @property
    def is_unknown(self) -> bool:
        """True if the request may have counted or not."""
        return self.status == 0 or self.status >= 500

    @property
    def code(self) -> str:
        """The code of a problem, or "" for an answer of the gateway itself."""
        return str(self.body.get("code", "")) if isinstance(self.body, dict) else ""


class Api:
    """Requests of one tenant, one after another."""

    def __init__(self, port: int, key: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
        self._key = key

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        repeat_key: str | None = None,
    ) -> Answer:
        """Sends a request. `token` is that of a session, `repeat_key` its Idempotency-Key."""
        headers = {"Authorization": f"Bearer {self._key}"}
        if token is not None:
            headers["Session-Token"] = token
        if repeat_key is not None:
            headers["Idempotency-Key"] = repeat_key
        try:
            self._connection.request(
                method, path, None if body is None else json.dumps(body), headers
            )
            reply = self._connection.getresponse()
            content = reply.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return Answer(0)
        try:
            answer = Answer(reply.status, json.loads(content) if content else None)
        except ValueError:
            answer = Answer(reply.status)
        if answer.status in _WITH_BODY and not isinstance(answer.body, dict):
            return Answer(0)
        return answer

    def close(self) -> None:
        """Closes the connection."""
        self._connection.close()
