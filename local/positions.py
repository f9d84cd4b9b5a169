"""How far event source mappings have read their streams. The embedded store keeps it, and drops records that all have read."""

from dataclasses import dataclass, field
from typing import Any

from local.control import Control

__all__ = ["Positions"]


@dataclass
class Positions:
    """Sequence numbers by mapping, as they were at the start; `lost` are mappings that have missed records since."""

    control: Control
    read: dict[str, str] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)

    async def declare(self, mappings: dict[str, str]) -> None:
        """Tells the store of all mappings, each with its stream, and asks it what it knows of them."""
        known: dict[str, Any] = await self.control.ask("mappings", mappings)
        self.read, self.lost = dict(known["read"]), set(known["lost"])

    async def note(self, mapping: str, sequence_number: str) -> None:
        """Keeps that a mapping has read up to a record. One that is not kept is read again: a batch may come twice."""
        await self.control.tell("read", {"mapping": mapping, "sequence_number": sequence_number})

    async def reported(self, mapping: str) -> None:
        """Keeps that its on-failure destination knows what a mapping has missed."""
        await self.control.tell("reported", {"mapping": mapping})
