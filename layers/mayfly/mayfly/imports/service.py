"""Imports of large files: in bounded memory, from the last checkpoint on after a crash, and added
up exactly once.
"""

from typing import Any, Final

from mayfly.core.errors import InvalidRequest
from mayfly.imports.errors import BadImport
from mayfly.imports.rules import CHECKPOINT_BYTES, PIECE_BYTES, Tally
from mayfly.imports.store import Objects
from mayfly.imports.wire import read_key
from mayfly.jobs import Continue, Effects, Job, Permanent

__all__ = ["import_csv"]

#: With less than this left, the job goes on in another invocation, in seconds: more than a piece
#: and a checkpoint take.
_MARGIN_SECONDS: Final = 10


def import_csv(job: Job, effects: Effects, objects: Objects) -> dict[str, Any]:
    """The body of `csv.import`. Payload `{key}`; gives `{bytes, rows, malformed, rejected,
    columns}`, and counts files and rows.

    ::

        piece - piece - ... - checkpoint (8 MiB) - piece - killed
                                   +-- the next attempt goes on from here: at most a checkpoint is read again
    """
    try:
        source = objects.find(job.tenant, read_key(job.payload))
        tally = Tally.resumed(source, job.progress)
        saved = tally.offset
        is_over = False
        while not is_over:
            effects.checkpoint()
            is_late = effects.seconds_left() < _MARGIN_SECONDS
            # Before what was read since the last checkpoint would be more than one.
            if is_late or tally.fetched + PIECE_BYTES - saved > CHECKPOINT_BYTES:
                if tally.offset > saved:
                    effects.checkpoint(tally.progress())
                    saved = tally.offset
                if is_late:
                    raise Continue
            start = tally.fetched
            piece = objects.read(source, start, PIECE_BYTES) if start < source.size else b""
            is_over = start + len(piece) >= source.size
            tally.take(piece, is_last=is_over)
    except (BadImport, InvalidRequest) as problem:
        raise Permanent(str(problem)) from None
    effects.increment("csv.import.files")
    effects.increment("csv.import.rows", tally.rows)
    effects.increment("csv.import.malformed", tally.malformed)
    return tally.result()
