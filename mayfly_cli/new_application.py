"""The application of `mayfly init`: its files, and the values that they are written with.

The files are in the folder `starter`, in the form that cookiecutter reads, so that `sam init
--location` makes the same application. Only `{{cookiecutter.NAME}}` is used of that form.
"""

import keyword
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mayfly_cli.parts import Wanted, nested

__all__ = [
    "FOLDER",
    "MAKEFILE",
    "PART",
    "RUNTIMES",
    "name_problem",
    "part",
    "rendered",
    "runtime_here",
]

FOLDER: Final = Path(__file__).with_name("starter") / "{{cookiecutter.project_name}}"
#: The file with Mayfly's own resources.
PART: Final = "mayfly.yaml"
#: The Makefile of a folder of functions, which `sam build` runs. It has no placeholders.
MAKEFILE: Final = FOLDER / "src" / "Makefile"
#: Lambda's names of the Python versions that Mayfly runs on.
RUNTIMES: Final = ("python3.11", "python3.12", "python3.13", "python3.14")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_PLACEHOLDER: Final = re.compile(r"\{\{cookiecutter\.(\w+)\}\}")


def runtime_here() -> str:
    """Returns Lambda's name of the Python that runs this."""
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def name_problem(name: str) -> str:
    """Returns why a name cannot be that of an application and its package, or an empty text."""
    if not _NAME.fullmatch(name) or keyword.iskeyword(name):
        return (
            "is not a name of a package: use a lower-case letter, then lower-case letters, "
            "digits and _, at most 40 characters and no keyword"
        )
    found = find_spec(name)
    # A folder without code of its own has no origin, such as one that happens to be here.
    if name in sys.stdlib_module_names or (found is not None and found.origin is not None):
        return "is the name of a package that is installed here: choose another one"
    if name in ("src", "tests"):
        return "is the name of a folder of the application: choose another one"
    return ""


def rendered(name: str, runtime: str) -> Iterator[tuple[Path, str]]:
    """Yields the path of each file of an application, and its text."""
    values = {
        "project_name": name,
        "runtime": runtime,
        "__python": runtime.removeprefix("python"),
        "__stack": name.replace("_", "-"),
    }
    for path in sorted(FOLDER.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            inner = str(path.relative_to(FOLDER))
            yield Path(_filled(inner, values)), _filled(path.read_text(encoding="utf-8"), values)


def part() -> str:
    """Returns the text of the starter's file PART, with placeholders."""
    return nested(
        Wanted(
            features=("counters", "jobs"),
            code="src",
            runtime="{{cookiecutter.runtime}}",
            tasks="{{cookiecutter.project_name}}.tasks",
        )
    )


def _filled(text: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: values[match[1]], text)
