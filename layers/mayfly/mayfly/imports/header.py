"""The beginning of a file: which form it has, and the names of its columns.

Files that are not CSV in UTF-8 are refused here, and the reason names what they are and what to do.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final

__all__ = ["FORM_BYTES", "BadHeader", "check_form", "check_text", "read_names"]

_COLUMN_LIMIT: Final = 64
_COLUMN_CHARACTERS: Final = 64
#: The bytes that `check_form` needs: fewer only if they are all or hold a line break.
FORM_BYTES: Final = 16
#: The bytes with which a file of another form begins, and how to get CSV from it. None has a line
#: break.
_FORMS: Final = (
    (b"\x1f\x8b", "compressed by gzip; unpack it"),
    *((b"BZh%d1AY&SY" % level, "compressed by bzip2; unpack it") for level in range(1, 10)),
    (b"\xfd7zXZ\x00", "compressed by xz; unpack it"),
    (b"\x28\xb5\x2f\xfd", "compressed by zstd; unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive; unpack it"),
    (b"PK\x03\x04", "a zip archive, or an Excel workbook; unpack it, or save its sheet as CSV"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook; save its sheet as CSV"),
    (b"%PDF-", "a PDF document"),
    (b"PAR1\x15", "a Parquet file; write it as CSV"),
    (b"\xff\xfe\x00\x00", "in UTF-32; save it as UTF-8"),
    (b"\x00\x00\xfe\xff", "in UTF-32; save it as UTF-8"),
    (b"\xff\xfe", "in UTF-16; save it as UTF-8"),
    (b"\xfe\xff", "in UTF-16; save it as UTF-8"),
)  # fmt: skip
#: The first cell of text in another form.
_MARKUP: Final = re.compile(r"\s*<(!doctype|html|\?xml)", re.IGNORECASE)
_JSON: Final = re.compile(r"\s*[\[{]\s*([\"\[{\]}]|\Z)")
#: Characters that other programs put between columns, in place of a comma.
_SEPARATORS: Final = {";": "semicolon", "\t": "tab", "|": "bar"}
#: The line in which a file tells Excel its separator.
_EXCEL_LINE: Final = re.compile(r"sep=(.?)", re.IGNORECASE)
#: A name in quotes (RFC 4180): what is in it separates nothing.
_QUOTED: Final = re.compile(r'"(?:[^"]|"")*"')
_NOT_UTF_8: Final = re.compile("[\udc80-\udcff]")


class BadHeader(ValueError):
    """A file does not begin as a CSV file with a usable first row."""


def check_form(beginning: bytes) -> None:
    """Raises BadHeader if a file that begins with these bytes is not text in UTF-8."""
    for magic, form in _FORMS:
        if beginning.startswith(magic):
            raise BadHeader(f"it is {form}")


def check_text(first: str) -> None:
    """Raises BadHeader if the first row shows that the file is not text in UTF-8."""
    zeros = first.count("\0")
    if zeros * 4 >= len(first) > 0:  # in UTF-16, every second byte of an ASCII text is zero
        raise BadHeader("it is in UTF-16; save it as UTF-8")
    if zeros:
        raise BadHeader("it has zero bytes, so it is not a text file; save it as CSV in UTF-8")
    if _MARKUP.match(first):
        raise BadHeader("it is HTML or XML; write it as CSV")
    if _JSON.match(first):
        raise BadHeader("it is JSON; write it as CSV")


def read_names(row: Sequence[str], text: str) -> list[str]:
    """Returns the names of columns in the first row of a file, without blanks around them.

    `text` is that row as it is in the file. Raises BadHeader with the number and the name of a
    column that cannot be used.
    """
    check_text(",".join(row))
    _check_separator(row, text)
    if len(row) > _COLUMN_LIMIT:
        raise BadHeader(f"it has {len(row)} columns; the limit is {_COLUMN_LIMIT}")
    names = [name.strip(" \t") for name in row]
    for number, name in enumerate(names, 1):
        _check_name(name, number)
    for name, count in Counter(names).items():
        if count > 1:
            numbers = [str(number) for number, other in enumerate(names, 1) if other == name]
            raise BadHeader(
                f"columns {', '.join(numbers[:-1])} and {numbers[-1]} have the same name, "
                f"{_shown(name)}; name each column once"
            )
    return names


def _check_separator(row: Sequence[str], text: str) -> None:
    """Raises BadHeader if the first row uses another separator more often than the comma.

    Characters in quotes do not count.
    """
    if line := _EXCEL_LINE.fullmatch(row[0]):
        separator = "," if len(row) > 1 else line[1]
        advice = "" if separator == "," else ", and separate columns by commas"
        raise BadHeader(
            f"its first row is {_shown(f'sep={separator}')}, which only Excel reads; remove that "
            f"line{advice}"
        )
    unquoted = _QUOTED.sub("", text)
    counts = {name: unquoted.count(mark) for mark, name in _SEPARATORS.items()}
    name, commas = max(counts, key=lambda name: counts[name]), unquoted.count(",")
    if counts[name] > commas:
        raise BadHeader(
            f"its first row has {_number(counts[name], name)} and {_number(commas, 'comma')}; "
            "columns must be separated by commas"
        )


def _number(count: int, name: str) -> str:
    """Returns a count with its noun: `no comma`, `a comma`, `2 commas`."""
    return f"{count} {name}s" if count > 1 else f"{'a' if count else 'no'} {name}"


def _check_name(name: str, number: int) -> None:
    if not name:
        raise BadHeader(
            f"column {number} has no name in the first row; name it, or remove the comma"
        )
    if _NOT_UTF_8.search(name):
        raise BadHeader(
            f"the name of column {number}, {_shown(name)}, is not UTF-8; save the file as UTF-8"
        )
    if len(name) > _COLUMN_CHARACTERS:
        raise BadHeader(
            f"the name of column {number}, {_shown(name)}, has {len(name)} characters; the limit "
            f"is {_COLUMN_CHARACTERS}"
        )
    if odd := next((char for char in name if not char.isprintable()), None):
        raise BadHeader(
            f"the name of column {number}, {_shown(name)}, has the character U+{ord(odd):04X}, "
            "which cannot be printed; remove it"
        )


def _shown(name: str) -> str:
    """Returns a name in quotes, short, with escapes for what cannot be printed."""
    short = name if len(name) <= _COLUMN_CHARACTERS else f"{name[:_COLUMN_CHARACTERS]}..."
    return "'" + "".join(char if char.isprintable() else _escaped(char) for char in short) + "'"


def _escaped(char: str) -> str:
    """Returns the escape of a character; bytes that are not UTF-8 were read as U+DC80 to U+DCFF."""
    code = ord(char)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
