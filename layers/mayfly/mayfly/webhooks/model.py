"""A webhook, its endpoint, and the endpoints that are allowed."""

from dataclasses import dataclass
from typing import Any

__all__ = ["LOCAL", "PUBLIC", "Endpoint", "Policy", "Webhook"]


@dataclass(frozen=True)
class Webhook:
    """The content of a webhook: any JSON as `body`, headers, and the name of its secret.

    The headers are those of the caller, without those of the signature.
    """

    url: str
    body: Any
    headers: dict[str, str]
    secret_name: str


@dataclass(frozen=True)
class Endpoint:
    """The parts of a URL that a delivery needs.

    `target` is path and query, as the request line has them.
    """

    url: str
    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        default = {"https": 443, "http": 80}[self.scheme]
        return host if self.port == default else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """The endpoint's name in errors: without path and query, which may contain secrets."""
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True)
class Policy:
    """The endpoints to which webhooks may be sent.

    They have one of `schemes` and one of `ports` (None: any). `allows_loopback` allows this machine
    itself.
    """

    schemes: frozenset[str]
    ports: frozenset[int] | None
    allows_loopback: bool


#: On Lambda: HTTPS, port 443, public addresses.
PUBLIC = Policy(frozenset({"https"}), frozenset({443}), allows_loopback=False)
#: On the local stack, whose receivers run on the same machine.
LOCAL = Policy(frozenset({"https", "http"}), None, allows_loopback=True)
