"""The options of `mayfly up`."""

from dataclasses import dataclass, field
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
    retry_delay: float
    grace: float
    idle: float
    pure_python: bool
    reload: bool
    hosts: frozenset[str]
    any_credentials: bool
    strict: bool = False
    movable_clock: bool = False
    transaction_seconds: float = 0.0
    layers: dict[str, Path] = field(default_factory=dict)
    #: Functions that wait for a debugger.
    debug: tuple[str, ...] = ()
