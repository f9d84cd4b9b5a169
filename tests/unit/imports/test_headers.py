"""CSV files as people have them: what is imported, and what a refusal says."""

import gzip
import io
import zipfile
from typing import Any

import pytest
from mayfly.imports.errors import BadImport
from mayfly.imports.model import Source
from mayfly.imports.rules import PIECE_BYTES, ROW_LIMIT, Tally

PLAIN = "name,amount\na,1\nb,2.5\n"


def imported(data: bytes, piece: int = PIECE_BYTES) -> dict[str, Any]:
    """Imports a file as the task does, piece by piece."""
    tally = Tally(Source("acme/x.csv", len(data), "e"))
    while True:
        some = data[tally.fetched : tally.fetched + piece]
        is_last = tally.fetched + len(some) >= len(data)
        tally.take(some, is_last=is_last)
        if is_last:
            return tally.result()


def refusal(data: bytes, piece: int = PIECE_BYTES) -> str:
    with pytest.raises(BadImport) as refused:
        imported(data, piece)
    text = str(refused.value)
    text.encode()  # or the job could not be stored
    return text.removeprefix("acme/x.csv: ")


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.csv", PLAIN)
    return buffer.getvalue()


@pytest.mark.parametrize("piece", [1, 7, PIECE_BYTES])
@pytest.mark.parametrize(
    ("data", "says"),
    [
        pytest.param(
            b"name,amount,amount\na,1,2\n",
            "columns 2 and 3 have the same name, 'amount'; name each column once",
            id="header-doubled",
        ),
        pytest.param(
            b"a,b,a,a\n1,2,3,4\n",
            "columns 1, 3 and 4 have the same name, 'a'; name each column once",
            id="header-three-times",
        ),
        pytest.param(
            b"name, name\n1,2\n",
            "columns 1 and 2 have the same name, 'name'; name each column once",
            id="header-doubled-but-for-a-blank",
        ),
        pytest.param(
            b"name,amount,\na,1,\n",
            "column 3 has no name in the first row; name it, or remove the comma",
            id="header-trailing-comma",
        ),
        pytest.param(
            b"name, ,c\na,1,2\n",
            "column 2 has no name in the first row; name it, or remove the comma",
            id="header-blank-name",
        ),
        pytest.param(
            "name,amount\u00a0\na,1\n".encode(),
            "the name of column 2, 'amount\\u00a0', has the character U+00A0, which cannot be "
            "printed; remove it",
            id="header-nbsp",
        ),
        pytest.param(
            "name,\ufeffamount\na,1\n".encode(),
            "the name of column 2, '\\ufeffamount', has the character U+FEFF, which cannot be "
            "printed; remove it",
            id="header-bom-inside",
        ),
        pytest.param(
            b'name,"a\nb"\na,1\n',
            "the name of column 2, 'a\\u000ab', has the character U+000A, which cannot be printed; "
            "remove it",
            id="header-line-break-in-name",
        ),
        pytest.param(
            ("name," + "x" * 65 + "\na,1\n").encode(),
            f"the name of column 2, '{'x' * 64}...', has 65 characters; the limit is 64",
            id="header-65-characters",
        ),
        pytest.param(
            "stra\u00dfe,amount\na,1\n".encode("latin-1"),
            "the name of column 1, 'stra\\xdfe', is not UTF-8; save the file as UTF-8",
            id="latin-1-header",
        ),
        pytest.param(
            ",".join(f"c{n}" for n in range(65)).encode() + b"\n",
            "it has 65 columns; the limit is 64",
            id="65-columns",
        ),
        pytest.param(
            PLAIN.encode("utf-16"), "it is in UTF-16; save it as UTF-8", id="utf-16-with-bom"
        ),
        pytest.param(
            b"\xfe\xff" + PLAIN.encode("utf-16-be"),
            "it is in UTF-16; save it as UTF-8",
            id="utf-16-big-endian-with-bom",
        ),
        pytest.param(
            PLAIN.encode("utf-16-le"), "it is in UTF-16; save it as UTF-8", id="utf-16-without-bom"
        ),
        pytest.param(
            PLAIN.encode("utf-16-be"),
            "it is in UTF-16; save it as UTF-8",
            id="utf-16-big-endian-without-bom",
        ),
        pytest.param(
            '"name","amount"\n"a",1\n'.encode("utf-16-le"),
            "it is in UTF-16; save it as UTF-8",
            id="utf-16-without-bom-quoted",
        ),
        pytest.param(PLAIN.encode("utf-32"), "it is in UTF-32; save it as UTF-8", id="utf-32"),
        pytest.param(
            b"na\x00me,amount,and,more\na,1,2,3\n",
            "it has zero bytes, so it is not a text file; save it as CSV in UTF-8",
            id="zero-byte",
        ),
        pytest.param(
            gzip.compress(PLAIN.encode()), "it is compressed by gzip; unpack it", id="gzip"
        ),
        pytest.param(
            zipped(),
            "it is a zip archive, or an Excel workbook; unpack it, or save its sheet as CSV",
            id="zip-and-xlsx",
        ),
        pytest.param(
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00\x00\n",
            "it is an old Excel workbook; save its sheet as CSV",
            id="xls",
        ),
        pytest.param(b"BZh91AY&SY\x00\n", "it is compressed by bzip2; unpack it", id="bzip2"),
        pytest.param(b"\x28\xb5\x2f\xfd\x00\n", "it is compressed by zstd; unpack it", id="zstd"),
        pytest.param(b"PAR1\x15\x04\n", "it is a Parquet file; write it as CSV", id="parquet"),
        pytest.param(b"%PDF-1.7\n", "it is a PDF document", id="pdf"),
        pytest.param(b"<!DOCTYPE html>\n<html>\n", "it is HTML or XML; write it as CSV", id="html"),
        pytest.param(b'[\n{"a": 1}\n]\n', "it is JSON; write it as CSV", id="json"),
        pytest.param(b'{"a": 1, "b": 2}\n', "it is JSON; write it as CSV", id="json-lines"),
        pytest.param(
            b"name;amount\na;1\nb;2\n",
            "its first row has a semicolon and no comma; columns must be separated by commas",
            id="semicolons",
        ),
        pytest.param(
            b"name;price, EUR;note\na;1,5;x\n",
            "its first row has 2 semicolons and a comma; columns must be separated by commas",
            id="semicolons-with-a-comma-in-a-name",
        ),
        pytest.param(
            b"name\tamount\na\t1\nb\t2\n",
            "its first row has a tab and no comma; columns must be separated by commas",
            id="tabs",
        ),
        pytest.param(
            b"name|amount|note\na|1|2\n",
            "its first row has 2 bars and no comma; columns must be separated by commas",
            id="bars",
        ),
        pytest.param(
            b"sep=;\nname;amount\na;1\n",
            "its first row is 'sep=;', which only Excel reads; remove that line, and separate "
            "columns by commas",
            id="sep-line",
        ),
        pytest.param(
            b"sep=,\nname,amount\na,1\n",
            "its first row is 'sep=,', which only Excel reads; remove that line",
            id="sep-line-with-commas",
        ),
        pytest.param(
            b"name,amount\ra,1\rb,2\r",
            "its first row, which must name the columns, is not valid CSV: a carriage return "
            "outside of quotes",
            id="carriage-returns-alone",
        ),
    ],
)
def test_file_that_cannot_be_imported_is_named_for_what_it_is(
    data: bytes, says: str, piece: int
) -> None:
    assert refusal(data, piece) == says


@pytest.mark.parametrize(
    ("data", "names"),
    [
        pytest.param(b'\xef\xbb\xbf"name","amount"\n"a",1\n', ["name", "amount"], id="bom"),
        pytest.param(b"name, amount \na, 1\n", ["name", "amount"], id="blanks-around-names"),
        pytest.param(b"id,a|b\n1,2\n", ["id", "a|b"], id="bar-in-a-name"),
        pytest.param(b'"a;b",c\n1,2\n', ["a;b", "c"], id="semicolon-in-a-name"),
        pytest.param(
            b'id,"note; with; semicolons"\n1,x\n',
            ["id", "note; with; semicolons"],
            id="more-semicolons-in-a-name-than-commas",
        ),
        pytest.param(b'"a|b|c",d\n1,2\n', ["a|b|c", "d"], id="more-bars-in-a-name-than-commas"),
        pytest.param(b'"weight; kg"\n1\n', ["weight; kg"], id="one-column-with-a-semicolon"),
        pytest.param(
            b'\n"a ""b""; c; d",e\n1,2\n', ['a "b"; c; d', "e"], id="quotes-in-a-quoted-name"
        ),
        pytest.param(b"amount\n1\n", ["amount"], id="one-column"),
        pytest.param(b"BZhou,PAR1\n1,2\n", ["BZhou", "PAR1"], id="almost-magic"),
        pytest.param("stra\u00dfe,\u0634\n1,2\n".encode(), ["stra\u00dfe", "\u0634"], id="utf-8"),
    ],
)
def test_usual_header_is_accepted(data: bytes, names: list[str]) -> None:
    assert list(imported(data)["columns"]) == names


def test_latin_1_in_a_row_is_one_malformed_row() -> None:
    result = imported("name,amount\nstra\u00dfe,1\nb,2\n".encode("latin-1"))
    assert (result["rows"], result["malformed"]) == (1, 1)
    assert result["rejected"][0]["problem"] == "not UTF-8"


def test_file_of_two_files_has_a_byte_order_mark_in_the_middle() -> None:
    result = imported(b"\xef\xbb\xbfname,amount\na,1\n\xef\xbb\xbfb,2\n")
    assert (result["rows"], result["columns"]["amount"]["sum"]) == (2, "3")


@pytest.mark.parametrize("cell", [" 1", "1 ", "\t1", " 1.0 ", '" 1"'])
def test_number_may_have_blanks_around_it(cell: str) -> None:
    column = imported(f"name, amount\na,{cell}\nb, 2\n".encode())["columns"]["amount"]
    assert (column["numbers"], column["texts"], column["min"]) == (2, 0, column["min"])
    assert float(column["sum"]) == 3


# ---------------------------------------------------------------- long fields


def test_quoted_field_above_128_kb_is_one_row_whatever_its_lines_look_like() -> None:
    field = "x,1000\n" * 30_000
    result = imported(f'note,amount\n"{field}",1\nplain,2\n'.encode())
    assert (result["rows"], result["malformed"]) == (2, 0)
    assert result["columns"]["amount"]["sum"] == "3"


def test_field_above_128_kb_in_one_line_is_one_row() -> None:
    result = imported(f'note,amount\n"{"x" * 200_000}",1\nplain,2\n'.encode())
    assert (result["rows"], result["malformed"]) == (2, 0)


#: A row of 100 bytes.
ROW = "b" * 97 + ",1\n"


@pytest.mark.parametrize("before", [0, 100_000, 600_000, 1_000_000])
@pytest.mark.parametrize(
    "row",
    [
        pytest.param('"{}",1\n', id="one-field"),
        pytest.param('"{}",1,2\n', id="another-width"),
        pytest.param('"{}"x,1\n', id="not-valid-csv"),
        pytest.param('"{0:.700000}","{0:.700000}"\n', id="two-fields"),
        pytest.param('"{0:.700000}","{0:.700000}"x\n', id="two-fields-not-valid-csv"),
        pytest.param('"{}\n', id="quote-never-closed"),
    ],
)
def test_row_above_a_mebibyte_ends_the_import_wherever_it_begins(row: str, before: int) -> None:
    """Not one of its lines is taken for a row."""
    first = "note,amount\n" + ROW * (before // len(ROW))
    lines = "x,1000\n" * (ROW_LIMIT // 7 + 2)
    data = (first + row.format(lines) + "plain,2\n" * 10).encode()
    assert refusal(data) == (
        f"the row at byte {len(first)} is longer than {ROW_LIMIT} bytes; is one of its quotes "
        "never closed?"
    )


@pytest.mark.parametrize("before", [0, 100_000, 600_000, 1_000_000])
def test_row_of_a_mebibyte_is_a_row_wherever_it_begins(before: int) -> None:
    count = before // len(ROW)
    first = "note,amount\n" + ROW * count
    row = '"' + "x" * (ROW_LIMIT - 5) + '",1\n'
    result = imported((first + row + "plain,2\n").encode())
    assert (len(row), result["rows"]) == (ROW_LIMIT, count + 2)
    assert result["columns"]["amount"]["sum"] == str(count + 3)


def test_quote_that_is_never_closed_is_one_malformed_row_up_to_the_end() -> None:
    result = imported(('note,amount\na,1\n"b,2\n' + "c,3\n" * 1000).encode())
    assert (result["rows"], result["malformed"]) == (1, 1)
    assert result["rejected"][0]["problem"] == "unexpected end of data"
