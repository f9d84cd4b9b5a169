"""docs/start.md shows the application that `mayfly init` makes."""

import re

from mayfly_cli.new_application import rendered
from mayfly_testing.stack import ROOT

PAGE = (ROOT / "docs" / "start.md").read_text()
TEST = re.search(r"def test_order_is_counted.*?\n(?=```)", PAGE, re.DOTALL)


def test_page_shows_the_tree() -> None:
    (block,) = re.findall(r"```\nshop/\n(.*?)```", PAGE, re.DOTALL)
    shown = [line.strip() for line in block.splitlines()]
    assert shown == sorted(str(path) for path, _ in rendered("shop", "python3.13"))


def test_readme_of_the_application_names_files_that_exist() -> None:
    files = {str(path): text for path, text in rendered("shop", "python3.13")}
    named = re.findall(r"(?m)^\| `([^`]+)` \|", files["README.md"])
    assert len(named) > 4
    for name in named:
        assert any(path.startswith(name) for path in files), name


def test_test_of_the_page_is_like_the_one_of_the_application() -> None:
    files = {str(path): text for path, text in rendered("shop", "python3.13")}
    assert TEST is not None
    for line in TEST[0].splitlines():
        assert line in files["tests/integration/test_application.py"]
