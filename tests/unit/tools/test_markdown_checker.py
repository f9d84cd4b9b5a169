"""The rule of Markdown pages: one sentence a line."""

from pathlib import Path

import pytest

from tools import markdown


@pytest.mark.parametrize(
    "text",
    [
        "A sentence.\nAnother one.\n",
        "A job ended with 1.5 s to go, e.g. `a. B`, as [the page](a.md) says (see 0.1.0).\n",
        "- An item without an end\n- **A label.** Its sentence.\n  The next sentence.\n",
        "After 5 s, 5 min ... with the same id.\n",
        "# A heading. Of two sentences\n",
        "| a | b |\n|---|---|\n| One. Two. | Three. Four. |\n",
        "```sh\none. Two\nthree\n```\n",
        "<!-- shows: one. Two -->\n",
        "The commands are:\n\n- `a`\n",
    ],
)
def test_a_sentence_a_line_is_right_and_other_blocks_are_left_alone(text: str) -> None:
    assert markdown.problems(text) == []
    assert markdown.fix(text) == text


def test_a_sentence_that_continues_on_the_next_line_is_named_by_its_line() -> None:
    text = "# Title\n\nA sentence goes\nover two lines.\n"
    assert markdown.problems(text) == [(3, markdown.CONTINUES)]
    assert markdown.fix(text) == "# Title\n\nA sentence goes over two lines.\n"


@pytest.mark.parametrize(
    "line", ["One. Two.", "One! Two.", "One? Two.", "(One.) Two.", "One. `Two` it is."]
)
def test_two_sentences_on_one_line_are_named_with_the_start_of_the_second(line: str) -> None:
    ((number, message),) = markdown.problems(f"{line}\n")
    second = line.partition(" ")[2]
    assert (number, message) == (1, markdown.TWO_SENTENCES.format(second))
    assert markdown.fix(f"{line}\n") == f"{line.replace(' ', chr(10), 1)}\n"


def test_what_was_broken_in_a_list_keeps_its_indentation() -> None:
    text = "- One. Two goes\n  on.\n  - Three. Four.\n\n> Five. Six.\n"
    assert (
        markdown.fix(text) == "- One.\n  Two goes on.\n  - Three.\n    Four.\n\n> Five.\n> Six.\n"
    )


def test_generated_pages_are_left_to_the_programs_that_write_them() -> None:
    pages = markdown.pages()
    if not pages:
        pytest.skip("no git checkout: nothing says which pages belong to the repository")
    assert "docs/architecture.md" in pages
    assert not markdown.GENERATED & set(pages)


def test_a_failure_is_printed_as_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("One. Two.\n", encoding="utf-8")
    assert markdown.main([str(page)]) == 1
    assert capsys.readouterr().out == f"{page}:1: {markdown.TWO_SENTENCES.format('Two.')}\n"
    assert markdown.main(["--fix", str(page)]) == 0
    assert page.read_text(encoding="utf-8") == "One.\nTwo.\n"
