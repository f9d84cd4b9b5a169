"""A webhook, where it goes, and where webhooks may go."""

from dataclasses import dataclass
from typing import Any

__all__ = ["LOCAL", "PUBLIC", "Endpoint", "Policy", "Webhook"]


@dataclass(frozen=True)
class Webhook:
    """What to send: any JSON as `body`, headers beside the signature's, and the name of the secret
    that signs it.
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
        """How errors name it: without path and query, which may hold what is nobody's business."""
        return f"{self.scheme}://{self.authority}"


@dataclass(frozen=True)
class Policy:
    """Where webhooks may go: by which schemes, to which ports (None: any), and whether to this
    machine itself.
    """

    schemes: frozenset[str]
    ports: frozenset[int] | None
    allows_loopback: bool


#: On Lambda: HTTPS, port 443, public addresses.
PUBLIC = Policy(frozenset({"https"}), frozenset({443}), allows_loopback=False)
#: On the local stack, whose receivers run on the same machine.
LOCAL = Policy(frozenset({"https", "http"}), None, allows_loopback=True)
