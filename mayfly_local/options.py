"""The options of `mayfly up`."""

from dataclasses import dataclass
from pathlib import Path

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """The options of `mayfly up`. Times are in seconds."""

    template: Path
    port: int
    work: Path
    state: Path | None
    log: str
    endpoint: str | None
    parameters: dict[str, str]
    ttl_lag: float
    grace: float
    idle: float
    pure_python: bool
    reload: bool
    hosts: frozenset[str]
    any_credentials: bool
