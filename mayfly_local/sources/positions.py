"""Stream positions of event source mappings.

The emulator holds them, and drops records that all mappings have read.
"""

from dataclasses import dataclass, field
from typing import Any

from mayfly_local.emulator.control import Control

__all__ = ["Positions"]


@dataclass
class Positions:
    """Sequence numbers by mapping at the start.

    `lost` are mappings whose stream dropped records before they were read.
    """

    control: Control
    read: dict[str, str] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)

    async def declare(self, mappings: dict[str, dict[str, str]]) -> None:
        """Declares all mappings, each with its stream, and reads their positions."""
        known: dict[str, Any] = await self.control.ask("mappings", mappings)
        self.read, self.lost = dict(known["read"]), set(known["lost"])

    async def note(self, mapping: str, sequence_number: str) -> None:
        """Stores the position of a mapping.

        If that fails, records are read again: a batch may be delivered twice.
        """
        await self.control.tell("read", {"mapping": mapping, "sequence_number": sequence_number})

    async def newest_record(self, stream: str, *, known: str, seconds: float) -> str:
        """Returns the sequence number of a stream's newest record, as soon as it is not `known`.

        After `seconds` it returns what there is. Raises aiohttp.ClientError.
        """
        reply = await self.control.ask(
            "records", {"stream": stream, "known": known, "seconds": seconds}
        )
        return str(reply["newest"])

    async def reported(self, mapping: str) -> None:
        """Stores that the on-failure destination has a report of the missed records."""
        await self.control.tell("reported", {"mapping": mapping})
        self.lost.discard(mapping)
