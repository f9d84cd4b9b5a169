"""Checks of a project's files: its mayfly.yaml, the requirements of its functions, its build."""

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

from mayfly import __version__
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from mayfly_cli.findings import Finding, problem, unchecked
from mayfly_cli.new_application import PART
from mayfly_cli.parts import is_as_written, nested, release, wanted
from mayfly_local.application.template import Template

__all__ = ["file_checks", "installed_checks", "requirement_checks"]

DISTRIBUTION: Final = "mayfly-serverless"
_VERSION: Final = re.compile(r'(?m)^__version__ = "([^"]+)"')


def installed_checks() -> Iterator[Finding]:
    """Compares the version of the package with that of the library in it."""
    try:
        installed = version(DISTRIBUTION)
    except PackageNotFoundError:
        yield unchecked("package", DISTRIBUTION, f"{DISTRIBUTION} is not installed here")
        return
    if installed != __version__:
        yield problem(
            "package",
            DISTRIBUTION,
            f"the package is {installed}, and the library that Python finds is {__version__}",
            f"install {DISTRIBUTION} again, or remove the other copy of mayfly from the path",
        )


def file_checks(folder: Path) -> Iterator[Finding]:
    """Checks the files next to a template, which need not be readable: mayfly.yaml, the build."""
    part = folder / PART
    if part.exists():
        yield from _part(part)
    yield from _build(folder / ".aws-sam" / "build")


def _part(part: Path) -> Iterator[Finding]:
    """Checks who wrote a mayfly.yaml, and whether the installed release would write the same."""
    try:
        text = part.read_text(encoding="utf-8").replace("\r\n", "\n")
    except (OSError, UnicodeDecodeError) as failure:
        yield unchecked("mayfly.yaml", str(part), f"it cannot be read: {failure}")
        return
    writer = release(text)
    if writer is None:
        yield problem(
            "hand edits",
            str(part),
            "its first line does not say which release has written it",
            "keep your changes elsewhere, then write it again: mayfly add PART... --force",
        )
        return
    if not is_as_written(text):
        yield problem(
            "hand edits",
            str(part),
            f"it was changed by hand since mayfly {writer} wrote it, so it is not updated",
            "move the changes, such as to Parameters of the nested application, then run "
            "mayfly add --force",
        )
    if _number(writer) > _number(__version__):
        yield problem(
            "mayfly.yaml",
            str(part),
            f"mayfly {writer} wrote it, and the library here is {__version__}",
            f"install {DISTRIBUTION} {writer}",
        )
    elif writer != __version__:
        yield problem(
            "mayfly.yaml",
            str(part),
            f"mayfly {writer} wrote it, and the library here is {__version__}",
            "run mayfly add, then sam build and sam deploy",
        )
    elif is_as_written(text) and text != nested(wanted(text)):
        yield problem(
            "mayfly.yaml",
            str(part),
            f"another build of mayfly {writer} wrote it, with other content",
            "run mayfly add, then sam build and sam deploy",
        )


def requirement_checks(template: Template) -> Iterator[Finding]:
    """Finds functions whose requirements ask for another release than the installed one."""
    for file in sorted({folder / "requirements.txt" for folder in _code_folders(template)}):
        if not file.exists():
            continue
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                wanted_package = Requirement(line.partition("#")[0].strip())
            except InvalidRequirement:
                continue  # an option, a path or a link
            if canonicalize_name(wanted_package.name) != DISTRIBUTION:
                continue
            if not wanted_package.specifier.contains(__version__, prereleases=True):
                yield problem(
                    "requirements",
                    _shown(file),
                    f"it asks for {wanted_package}, and the library here is {__version__}",
                    f"write {DISTRIBUTION}~={__version__}, then sam build and sam deploy",
                )


def _code_folders(template: Template) -> Iterator[Path]:
    for properties in template.of_type("AWS::Lambda::Function").values():
        code = properties.get("Code")
        key = code.get("S3Key") if isinstance(code, dict) else None
        if isinstance(key, str):
            yield template.folder / key


def _build(folder: Path) -> Iterator[Finding]:
    """Finds functions that `sam build` has bundled with another release."""
    files = [*folder.glob("*/mayfly/__init__.py"), *folder.glob("*/*/mayfly/__init__.py")]
    for file in sorted(files):
        built = _VERSION.search(file.read_text(encoding="utf-8", errors="replace"))
        if built is not None and built[1] != __version__:
            yield problem(
                "build",
                _shown(file.parent.parent),
                f"it was built with mayfly {built[1]}, and the library here is {__version__}",
                "run sam build before the next sam deploy",
            )


def _shown(path: Path) -> str:
    """Returns a path as it is written from this folder."""
    here = Path.cwd()
    path = path.absolute()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _number(release: str) -> Version:
    try:
        return Version(release)
    except InvalidVersion:
        return Version("0")
