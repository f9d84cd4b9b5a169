"""`make lint` checks that Markdown pages have one sentence a line; `make fix` rewrites their lines.

A change of one sentence is then a change of one line. Tables, code blocks and headings keep their
own form, and so do generated pages. A bold label at the start of a line belongs to the sentence
after it.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.token import Token

__all__ = ["fix", "main", "pages", "problems"]

ROOT: Final = Path(__file__).parent.parent
#: Pages that programs write.
GENERATED: Final = {"docs/dependencies.md"}
CONTINUES: Final = "a sentence continues on the next line: join the two lines (`make fix` does)"
TWO_SENTENCES: Final = "two sentences on one line: start a new line at {!r} (`make fix` does)"

_PARSER: Final = MarkdownIt("commonmark").enable("table")
#: Parts of a line whose dots end no sentence: code, link targets, bold labels, abbreviations.
_NOT_PROSE: Final = re.compile(
    r"(?<!`)(`+)(?!`).*?(?<!`)\1(?!`)|\]\([^)]*\)|<[^>]*>|^\*\*[^*]+\*\*|"
    r"\b(?:e\.g|i\.e|cf|vs)\.|\.\.\."
)
_END: Final = r"[.!?][\"')\]*_]*"
_BOUNDARY: Final = re.compile(rf"{_END}(\s+)(?![a-z]|$)")
_ENDS: Final = re.compile(rf"{_END}$")


def _boundaries(line: str) -> list[tuple[int, int]]:
    """The spaces between sentences of a line, as (start, end)."""
    masked = _NOT_PROSE.sub(lambda part: "`" * len(part[0]), line)
    return [match.span(1) for match in _BOUNDARY.finditer(masked)]


def _paragraphs(text: str) -> Iterator[Token]:
    """Paragraphs of prose; an inline token follows the token that opens its block."""
    tokens = _PARSER.parse(text)
    for opening, token in pairwise(tokens):
        if opening.type == "paragraph_open":
            yield token


def problems(text: str) -> list[tuple[int, str]]:
    """Returns what breaks the rule, as (line number, message)."""
    breaches = []
    for paragraph in _paragraphs(text):
        assert paragraph.map is not None
        lines = paragraph.content.split("\n")
        for number, line in enumerate(lines, paragraph.map[0] + 1):
            breaches += [
                (number, TWO_SENTENCES.format(line[end:][:30])) for _, end in _boundaries(line)
            ]
            if line is not lines[-1] and not _ENDS.search(line):
                breaches.append((number, CONTINUES))
    return breaches


def fix(text: str) -> str:
    """Returns the text with lines joined and broken so that each holds one sentence."""
    source = text.split("\n")
    for paragraph in reversed(list(_paragraphs(text))):
        assert paragraph.map is not None
        first, last = paragraph.map
        lines = paragraph.content.split("\n")
        marker = source[first][: source[first].index(lines[0])]
        indent = re.sub(r"[^\s>]", " ", marker)
        joined = ""
        for line in lines:
            joined += line + ("\n" if _ENDS.search(line) else " ")
        sentences = []
        for line in joined.strip().split("\n"):
            starts = [0, *(end for _, end in _boundaries(line))]
            ends = [*(start for start, _ in _boundaries(line)), len(line)]
            sentences += [line[start:end] for start, end in zip(starts, ends, strict=True)]
        source[first:last] = [
            marker + sentences[0],
            *(indent + sentence for sentence in sentences[1:]),
        ]
    return "\n".join(source)


def pages() -> list[str]:
    """The tracked pages that people write; none outside a git checkout."""
    tracked = subprocess.run(
        ["git", "ls-files", "-z", "*.md"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    return [path for path in tracked if path and path not in GENERATED]


def main(arguments: list[str]) -> int:
    """Prints each problem, or rewrites the pages with --fix; returns 1 if problems remain."""
    parser = argparse.ArgumentParser(prog="python -m tools.markdown", description=__doc__)
    parser.add_argument("--fix", action="store_true", help="rewrite the lines of the pages")
    parser.add_argument("paths", nargs="*", help="pages; all tracked ones by default")
    chosen = parser.parse_args(arguments)
    failed = False
    for path in chosen.paths or pages():
        page = ROOT / path
        text = page.read_text(encoding="utf-8")
        if chosen.fix:
            text = fix(text)
            page.write_text(text, encoding="utf-8")
        for number, message in problems(text):
            print(f"{path}:{number}: {message}")
            failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
