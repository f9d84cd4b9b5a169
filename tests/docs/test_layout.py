"""Every path that a document names exists, and every name after a path."""

import ast
import re
from pathlib import Path

import pytest

from mayfly_testing.stack import ROOT

PAGES = ["CONTRIBUTING.md", "SECURITY.md", "README.md"]
PAGES += [str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md"))]
#: Files that a reader of the tutorial and the guides makes, and those of an application.
TASKS = ("functions/tasks/orders_", "functions/tasks/parcels_")
MADE = (
    ".mayfly/",
    "dist/",
    "before-",
    ".venv",
    "docs/api/",
    "src/",
    "hello_world/",
    "mayfly_code/",
    *TASKS,
)
#: The first parts of this repository's paths. A bare name is one of the library's.
TOPS = {path.name for path in ROOT.iterdir()}
LIBRARY = ROOT / "layers" / "mayfly"


def named(page: str) -> set[str]:
    """Returns the paths in code quotes of a page: with a slash and a file's or folder's name."""
    quoted = re.findall(r"`([A-Za-z0-9_./-]+)`", (ROOT / page).read_text())
    return {
        each
        for each in quoted
        if re.fullmatch(r"(?:[\w.-]+/)+(?:[\w-]+\.(?:py|md|yaml|toml|json))?", each)
    }


def exists(path: str) -> bool:
    top = path.partition("/")[0]
    places: list[Path] = (
        [ROOT / path]
        if top in TOPS
        else [LIBRARY / path, LIBRARY / "mayfly" / path, *(ROOT / "mayfly_local").glob(path)]
    )
    return any(each.exists() for each in places)


@pytest.mark.parametrize("page", PAGES)
def test_every_path_that_a_page_names_exists(page: str) -> None:
    missing = {path for path in named(page) if not path.startswith(MADE) and not exists(path)}
    assert not missing


def definitions(tree: ast.Module | ast.ClassDef) -> dict[str, ast.stmt]:
    """Returns the functions, classes and annotated constants of a module or class, by name."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name: node for node in tree.body if isinstance(node, kinds)} | {
        node.target.id: node
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_name_after_a_path_is_defined_in_that_file(page: str) -> None:
    """Follows references such as `functions/hello/app.py: build` and `...: Class.method`."""
    references = re.findall(r"`([\w./-]+\.py): ([\w.]+)`", (ROOT / page).read_text())
    missing = set()
    for path, reference in references:
        scope: ast.stmt | ast.Module | None = ast.parse((ROOT / path).read_text())
        for name in reference.split("."):
            is_scope = isinstance(scope, ast.Module | ast.ClassDef)
            scope = definitions(scope).get(name) if is_scope else None  # type: ignore[arg-type]
        if scope is None:
            missing.add(f"{path}: {reference}")
    assert not missing


@pytest.mark.parametrize("page", ["docs/architecture.md", "docs/layout.md"])
def test_page_names_functions_and_classes_after_paths(page: str) -> None:
    assert len(re.findall(r"\.py: [\w.]+`", (ROOT / page).read_text())) > 8


def test_layout_names_every_top_folder_of_the_product() -> None:
    folders = {
        f"{path.name}/"
        for path in ROOT.iterdir()
        if path.is_dir() and list(path.rglob("*.py")) and not path.name.startswith(".")
    }
    text = (ROOT / "docs" / "layout.md").read_text()
    assert {
        each for each in folders - {"layers/", "docs/", "examples/"} if f"`{each}`" not in text
    } == set()
