"""The import of a CSV file: one attempt of a job of `csv.import`."""

from typing import Any, Final

from mayfly.imports.rules import CHECKPOINT_BYTES, PIECE_BYTES, Tally
from mayfly.imports.store import Objects
from mayfly.imports.wire import read_key
from mayfly.jobs import Continue, Effects, Job

__all__ = ["import_csv"]

#: If less than this is left, the job continues in another invocation, in seconds. A piece and a
#: checkpoint take less.
_MARGIN_SECONDS: Final = 10


def import_csv(job: Job, effects: Effects, objects: Objects) -> dict[str, Any]:
    """Runs one attempt of `csv.import`, with the payload `{key}`.

    Returns `{bytes, rows, malformed, rejected, columns}`, and counts files and rows.

    ::

        piece - piece - ... - checkpoint (8 MiB) - piece - killed
                                   +-- the next attempt continues here,
                                       and reads at most 8 MiB again
    """
    source = objects.find(job.tenant, read_key(job.payload))
    tally = Tally.resumed(source, job.progress)
    saved = tally.offset
    is_over = False
    while not is_over:
        effects.checkpoint()
        is_late = effects.seconds_left() < _MARGIN_SECONDS
        # With another piece, more than CHECKPOINT_BYTES would depend on one checkpoint.
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
    effects.increment("csv.import.files")
    effects.increment("csv.import.rows", tally.rows)
    effects.increment("csv.import.malformed", tally.malformed)
    return tally.result()
