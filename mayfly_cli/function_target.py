"""The runtime and the architecture of one function, as its template says."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mayfly_cli.bundling.target import PLATFORMS, Target
from mayfly_cli.new_application import PART
from mayfly_cli.template_text import TemplateText
from mayfly_local.errors import LocalError

__all__ = ["FoundFunction", "find_function"]

_NAMES: Final = ("template.yaml", "template.yml", PART)
_RUNTIME: Final = re.compile(r"python(3\.\d+)")
#: Types of functions, with the property that has the folder of their code.
_TYPES: Final = {"AWS::Serverless::Function": "CodeUri", "AWS::Lambda::Function": "Code"}


@dataclass(frozen=True)
class FoundFunction:
    """A function's target, and the file of its template."""

    template: Path
    target: Target


def find_function(name: str, code: Path, template: Path | None = None) -> FoundFunction:
    """Returns the function with this logical id whose code is the folder `code`.

    Without a template, those in the folder of the code are searched, then those in the folders
    above it. Raises LocalError if there is no such function, or if its runtime or architecture is
    not written out.
    """
    code = code.resolve()
    if template is not None:
        places = [template]
    else:
        places = [folder / file for folder in (code, *code.parents) for file in _NAMES]
    for path in places:
        if not path.is_file() and template is None:
            continue
        text = _read(path)
        if _code(text, name, path.parent) == code:
            return FoundFunction(path, _target(text, name))
    where = template or f"{code} or a folder above it"
    raise LocalError(
        f"no template in {where} has the function {name} with the CodeUri {code}; if it has "
        "another name, add --template FILE to mayfly bundle in the Makefile"
    )


def _read(path: Path) -> TemplateText:
    try:
        return TemplateText(str(path), path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as problem:
        raise LocalError(f"{path} cannot be read: {problem}") from None


def _code(template: TemplateText, name: str, folder: Path) -> Path | None:
    """Returns the folder of a function's code, None if it is not a function or has none."""
    key = _TYPES.get(template.value("Resources", name, "Type") or "")
    if key is None:
        return None
    written = template.value("Resources", name, "Properties", key) or template.value(
        "Globals", "Function", key
    )
    return (folder / written).resolve() if written else None


def _target(template: TemplateText, name: str) -> Target:
    runtime, *_ = _texts(template, name, "Runtime") or ["none"]
    version = _RUNTIME.fullmatch(runtime)
    if version is None:
        raise LocalError(
            f"{template.name}: the Runtime of {name} is {runtime}; mayfly bundle needs one such as "
            "python3.13, written out"
        )
    # Page sam-resource-function of the Developer Guide of SAM has the default.
    architecture, *_ = _texts(template, name, "Architectures") or ["x86_64"]
    if architecture not in PLATFORMS:
        raise LocalError(
            f"{template.name}: the architecture of {name} is {architecture}; write out one of "
            f"{', '.join(PLATFORMS)}"
        )
    return Target(version[1], PLATFORMS[architecture])


def _texts(template: TemplateText, name: str, key: str) -> list[str]:
    """Returns the values of a property of a function, or of all functions."""
    own = template.values("Resources", name, "Properties", key)
    return own or template.values("Globals", "Function", key)
