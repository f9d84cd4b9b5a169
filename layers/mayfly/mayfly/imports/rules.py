"""Reads CSV piece by piece (RFC 4180, UTF-8), and adds up its columns. No I/O.

It needs memory for a piece and one row, whatever the size of the object. After each row, its whole
state fits into a job's progress.
"""

import csv
import io
import re
from collections.abc import Callable, Sequence
from decimal import Context, Decimal, localcontext
from typing import Any, Final, TypeVar

from mayfly.imports.errors import BadImport
from mayfly.imports.header import FORM_BYTES, BadHeader, check_form, check_text, read_names
from mayfly.imports.model import Source

__all__ = ["CHECKPOINT_BYTES", "PIECE_BYTES", "Tally"]

T = TypeVar("T")
R = TypeVar("R")

#: The size of a piece, which is read at once, in bytes.
PIECE_BYTES: Final = 1024 * 1024
#: The most that is read again after a crash, in bytes.
CHECKPOINT_BYTES: Final = 8 * 1024 * 1024
#: The longest row, in bytes; a longer one ends the import.
ROW_LIMIT: Final = 1024 * 1024
#: The most unreadable rows that are kept; more are only counted.
KEPT: Final = 100

_TEXT_BYTES: Final = 80
_ROWS_AT_ONCE: Final = 2000
#: A number that is added up: plain, with up to thirty digits on each side of the point, so that
#: sums are exact. There may be blanks around it.
_NUMBER: Final = re.compile(r"[ \t]*[+-]?[0-9]{1,30}(?:\.[0-9]{1,30})?[ \t]*", re.ASCII)
_NOT_UTF_8: Final = re.compile("[\udc80-\udcff]")
_EXACT: Final = Context(prec=120)
_BOM: Final = b"\xef\xbb\xbf"
#: The beginning of Python's description of a field above its limit.
_FIELD_TOO_LONG: Final = "field larger than"

# By default, Python refuses fields above 128 KB, and reads what follows as rows of their own. The
# limit is one for the whole process, so it is only raised. A field is at most as long as its row.
csv.field_size_limit(max(csv.field_size_limit(), ROW_LIMIT))


class Tally:
    """The state of an import: its position, and its sums so far."""

    def __init__(self, source: Source) -> None:
        self.source = source
        #: The first byte after the last row that is in the tally.
        self.offset = 0
        self.rows = 0
        self.malformed = 0
        self._kept: list[dict[str, Any]] = []
        self._columns: dict[str, _Column] | None = None
        self._rest = b""
        #: The text of the row that names the columns, once it was read.
        self._header = ""

    @classmethod
    def resumed(cls, source: Source, progress: Any) -> "Tally":
        """Continues from the progress that `progress()` returned.

        Raises BadImport if the object has been replaced.
        """
        tally = cls(source)
        if progress is None:
            return tally
        if progress["etag"] != source.etag:
            raise BadImport(
                source.path, "the object was replaced while it was being imported; submit a new job"
            )
        tally.offset, tally.rows, tally.malformed = (
            progress["bytes"],
            progress["rows"],
            progress["malformed"],
        )
        tally._kept = progress["rejected"]
        if progress["columns"] is not None:
            tally._columns = {stored["name"]: _Column.of(stored) for stored in progress["columns"]}
        return tally

    @property
    def fetched(self) -> int:
        """The first byte that has not been fetched yet."""
        return self.offset + len(self._rest)

    def take(self, piece: bytes, *, is_last: bool) -> None:
        """Takes the next bytes, and adds up their whole rows.

        Raises BadImport.
        """
        block = self._rest + piece
        if self.offset == 0 and (is_last or len(block) >= FORM_BYTES or b"\n" in block):
            self._checked(check_form, block)
        end = len(block) if is_last else block.rfind(b"\n") + 1
        start = len(_BOM) if self.offset == 0 and end and block.startswith(_BOM) else 0
        used = start + self._take_lines(block[start:end], is_last=is_last)
        self._rest = block[used:]
        self.offset += used
        if len(self._rest) > ROW_LIMIT:
            raise self._too_long(self.offset)
        if is_last and self._columns is None:
            raise BadImport(self.source.path, "it is empty; its first row must name the columns")

    def progress(self) -> dict[str, Any]:
        """Returns the state for `resumed`, which users can read meanwhile.

        Columns are a list, since the members of an object have no order.
        """
        columns = (
            None
            if self._columns is None
            else [{"name": name, **column.shown()} for name, column in self._columns.items()]
        )
        return {
            "bytes": self.offset,
            "of_bytes": self.source.size,
            "etag": self.source.etag,
            "rows": self.rows,
            "malformed": self.malformed,
            "rejected": self._kept,
            "columns": columns,
        }

    def result(self) -> dict[str, Any]:
        """Returns the result of the import."""
        progress = self.progress()
        columns = {name: column.shown() for name, column in (self._columns or {}).items()}
        return {
            **{name: progress[name] for name in ("bytes", "rows", "malformed", "rejected")},
            "columns": columns,
        }

    def _take_lines(self, block: bytes, *, is_last: bool) -> int:
        """Takes the whole rows in some whole lines, and returns the number of their bytes.

        A row that continues after these lines is left.
        """
        # Bytes that are not UTF-8 stay in their place, and their row is rejected.
        text = block.decode(errors="surrogateescape")
        # Lines end with \n only; any other line separator is part of its field.
        reader = csv.reader(io.StringIO(text, newline="\n"), strict=True)
        rows: list[list[str]] = []
        lines = 0
        while True:
            try:
                for row in reader:
                    # Only the first row of a block may have begun in the piece before, so no other
                    # one can be longer than a piece.
                    if not lines and _size_of(block, reader.line_num) > ROW_LIMIT:
                        raise self._too_long(self.offset)
                    if self._columns is None and row and not any(rows):
                        self._header = "\n".join(text.split("\n")[lines : reader.line_num])
                    lines = reader.line_num
                    rows.append(row)
                    if len(rows) == _ROWS_AT_ONCE:
                        self._add(rows)
                        rows.clear()
                break
            except csv.Error as problem:
                if str(problem) == "unexpected end of data" and not is_last:
                    break
                # Python would read the rest of such a field as rows of their own.
                if str(problem).startswith(_FIELD_TOO_LONG):
                    raise self._too_long(self.offset + _size_of(block, lines)) from None
                self._add(rows)
                rows.clear()
                if not lines and _size_of(block, reader.line_num) > ROW_LIMIT:
                    raise self._too_long(self.offset) from None
                first, lines = lines, reader.line_num
                own = text.split("\n")[first:lines] if len(self._kept) < KEPT else []
                self._reject(_describe(problem), "\n".join(own))
        self._add(rows)
        is_whole = lines == text.count("\n") + (not text.endswith("\n"))
        return len(block) if is_whole or not text else _size_of(block, lines)

    def _add(self, rows: Sequence[list[str]]) -> None:
        """Adds rows up; the first row of the file names the columns."""
        left = iter(rows)
        if self._columns is None:
            header = next((row for row in left if row), None)
            if header is None:
                return
            names = self._checked(lambda row: read_names(row, self._header), header)
            self._columns = {name: _Column() for name in names}
        width = len(self._columns)
        good = []
        for row in left:
            if len(row) != width:
                if row:  # an empty line is not a row
                    self._reject(f"{len(row)} fields instead of {width}", ",".join(row))
            elif any(map(_NOT_UTF_8.search, row)):
                self._reject("not UTF-8", ",".join(row))
            else:
                good.append(row)
        self.rows += len(good)
        for column, cells in zip(
            self._columns.values(), zip(*good, strict=True), strict=bool(good)
        ):
            column.add(cells)

    def _checked(self, check: Callable[[T], R], beginning: T) -> R:
        """Returns what a check of the file's beginning returns. Raises BadImport."""
        try:
            return check(beginning)
        except BadHeader as problem:
            raise BadImport(self.source.path, str(problem)) from None

    def _too_long(self, at: int) -> BadImport:
        return BadImport(
            self.source.path,
            f"the row at byte {at} is longer than {ROW_LIMIT} bytes; is one of its quotes never "
            "closed?",
        )

    def _reject(self, problem: str, text: str) -> None:
        if self._columns is None:
            self._checked(check_text, text)
            raise BadImport(
                self.source.path,
                f"its first row, which must name the columns, is not valid CSV: {problem}",
            )
        self.malformed += 1
        if len(self._kept) < KEPT:
            shown = "".join(char if char.isprintable() else "\ufffd" for char in text[:_TEXT_BYTES])
            self._kept.append(
                {"problem": problem, "text": shown.encode()[:_TEXT_BYTES].decode(errors="ignore")}
            )


class _Column:
    """The sums of one column."""

    def __init__(self) -> None:
        self.empty = 0
        self.texts = 0
        self.numbers = 0
        self.sum = Decimal(0)
        self.min: Decimal | None = None
        self.max: Decimal | None = None

    @classmethod
    def of(cls, shown: dict[str, Any]) -> "_Column":
        column = cls()
        column.empty, column.texts, column.numbers = (
            shown["empty"],
            shown["texts"],
            shown["numbers"],
        )
        column.sum = Decimal(shown["sum"])
        column.min, column.max = (
            None if shown[name] is None else Decimal(shown[name]) for name in ("min", "max")
        )
        return column

    def add(self, cells: Sequence[str]) -> None:
        filled = [cell for cell in cells if cell]
        self.empty += len(cells) - len(filled)
        numbers = filled
        if not all(map(_NUMBER.fullmatch, filled)):
            numbers = [cell for cell in filled if _NUMBER.fullmatch(cell)]
            self.texts += len(filled) - len(numbers)
        if not numbers:
            return
        self.numbers += len(numbers)
        values: list[Any] = list(
            map(Decimal if any("." in cell for cell in numbers) else int, numbers)
        )
        with localcontext(_EXACT):
            self.sum += sum(values)
        low, high = Decimal(min(values)), Decimal(max(values))
        self.min = low if self.min is None else min(self.min, low)
        self.max = high if self.max is None else max(self.max, high)

    def shown(self) -> dict[str, Any]:
        """Returns sums and bounds as texts, since not every reader of JSON keeps all digits."""
        low, high = (None if bound is None else f"{bound:f}" for bound in (self.min, self.max))
        return {
            "empty": self.empty,
            "texts": self.texts,
            "numbers": self.numbers,
            "sum": f"{self.sum:f}",
            "min": low,
            "max": high,
        }


def _size_of(block: bytes, lines: int) -> int:
    """Returns the number of bytes in the first lines of a block."""
    return len(block) - len(block.split(b"\n", lines)[-1])


def _describe(problem: csv.Error) -> str:
    """Returns Python's description of a malformed row, without its advice to programmers."""
    text = str(problem)
    return "a carriage return outside of quotes" if text.startswith("new-line character") else text
