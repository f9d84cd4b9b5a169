"""The changes of `mayfly add` to a project: files, and advice to its owner."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from mayfly import __version__
from packaging.version import Version

from mayfly_cli.grants import lines
from mayfly_cli.new_application import MAKEFILE, PART, RUNTIMES, runtime_here
from mayfly_cli.parts import FEATURES, Wanted, is_as_written, nested, release, wanted
from mayfly_cli.template_text import Entry, TemplateText
from mayfly_local.errors import LocalError

__all__ = ["Addition", "Choices", "planned"]

_ID: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,63}")
_MODULE: Final = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*", re.ASCII)
_FOLDER: Final = re.compile(r"[\w.-]+(?:/[\w.-]+)*/?", re.ASCII)
_REQUIREMENT: Final = f"mayfly-serverless~={__version__}"
#: A requirement that some release of `mayfly add` has written.
_REQUIRED: Final = re.compile(r"(?m)^mayfly-serverless~=[\w.]+(?=\r?$)")
_TASKS: Final = '"""The tasks of this application, a file each."""\n'
#: Features whose functions are all that run no task.
_WITHOUT_TASKS: Final = frozenset({"sessions", "limits", "counters"})


@dataclass(frozen=True)
class Choices:
    """Values of the caller. An empty value is the one of mayfly.yaml, or the default."""

    parts: Collection[str]
    name: str = ""
    code: str = ""
    tasks: str = ""
    runtime: str = ""


@dataclass(frozen=True)
class Addition:
    """Files with their contents before and after, None if there was none, and lines to print."""

    files: Mapping[Path, tuple[bytes | None, bytes]]
    advice: list[str]


def planned(path: Path, choices: Choices, *, force: bool) -> Addition:
    """Returns the addition to the project of a template. Changes nothing.

    `force` allows to replace a mayfly.yaml that was changed by hand, or by a newer release. Raises
    LocalError if a part is not known, a file cannot be read or changed, or a name is taken.
    """
    for part in choices.parts:
        if part not in FEATURES:
            raise LocalError(f"no part is called {part}; there are {', '.join(FEATURES)}")
    template = TemplateText(str(path), _text(path))
    folder = path.parent
    part_before = _text(folder / PART).replace("\r\n", "\n") if (folder / PART).exists() else None
    if part_before is not None and not force:
        _check(folder / PART, part_before)
    chosen = _chosen(template, part_before, choices)
    changed, name = _with_part(template, choices.name)
    contents = {
        folder / PART: nested(chosen),
        **_code(folder / chosen.code, chosen),
        # The last one, so that a template never nests what is not there.
        path: changed.text,
    }
    before = {file: file.read_bytes() if file.exists() else None for file in contents}
    files = {
        file: (before[file], text.encode())
        for file, text in contents.items()
        if _lines(before[file]) != _lines(text.encode())
    }
    return Addition(files, _advice(folder, name, chosen))


def _text(path: Path) -> str:
    """Returns the text of a file, with its line ends."""
    try:
        return path.read_bytes().decode("utf-8")
    except OSError as problem:
        raise LocalError(f"{path} cannot be read: {problem.strerror}") from None
    except UnicodeDecodeError as problem:
        raise LocalError(f"{path} is not UTF-8 (at byte {problem.start})") from None


def _lines(content: bytes | None) -> list[bytes] | None:
    return None if content is None else content.replace(b"\r\n", b"\n").split(b"\n")


def _check(part: Path, text: str) -> None:
    """Raises LocalError if a mayfly.yaml has changes that an update would lose."""
    if not is_as_written(text):
        raise LocalError(
            f"{part} was changed by hand: move the changes, such as to Parameters of the nested "
            "application, or replace it with --force"
        )
    writer = release(text)
    if writer is not None and Version(writer) > Version(__version__):
        raise LocalError(
            f"{part} was written by mayfly {writer}, and this is {__version__}: install the newer "
            "one, or replace it with --force"
        )


def _chosen(template: TemplateText, part: str | None, choices: Choices) -> Wanted:
    """Returns the choices for the new mayfly.yaml: those of now, of the last time, and defaults."""
    old = wanted(part or "")
    features = [name for name in FEATURES if name in {*old.features, *choices.parts}]
    if not features:
        raise LocalError(f"name the parts to add: {', '.join(FEATURES)}")
    runtime = choices.runtime or old.runtime or _runtime(template)
    if runtime not in RUNTIMES:
        raise LocalError(
            f"{runtime} is not a runtime that Mayfly supports: choose one of "
            f"{', '.join(RUNTIMES)} with --runtime"
        )
    code = str(PurePosixPath(choices.code or old.code or "mayfly_code"))
    if not _FOLDER.fullmatch(code) or ".." in code.split("/"):
        raise LocalError(f"--code {code!r} is not a folder of this project")
    has_tasks = not set(features) <= _WITHOUT_TASKS
    tasks = choices.tasks or old.tasks or ("tasks" if has_tasks else "")
    if tasks and not _MODULE.fullmatch(tasks):
        raise LocalError(f"--tasks {tasks!r} is not the name of a package")
    return Wanted(features, code, runtime, tasks if has_tasks else "")


def _runtime(template: TemplateText) -> str:
    """Returns the runtime of the project's functions, or of this Python."""
    found = [template.value("Globals", "Function", "Runtime")]
    found += [
        template.value("Resources", name, "Properties", "Runtime")
        for name in template.names("Resources")
    ]
    return next((runtime for runtime in found if runtime in RUNTIMES), None) or runtime_here()


def _with_part(template: TemplateText, name: str) -> tuple[TemplateText, str]:
    """Returns the template with the nested application, and the logical id of it."""
    existing = template.nests(PART)
    if existing is not None:
        if name and name != existing:
            raise LocalError(f"{template.name} nests {PART} as {existing} already, not as {name}")
        return template, existing
    name = name or "Mayfly"
    if not _ID.fullmatch(name):
        raise LocalError(f"{name!r} is not a logical id: use letters and digits")
    for section, thing in (("Resources", name), ("Parameters", name), ("Outputs", f"{name}Url")):
        if thing in template.names(section):
            raise LocalError(
                f"{template.name} has {thing} in {section} already: choose another logical id "
                "with --name"
            )
    kind = "AWS::Serverless::Application"
    resource = Entry(
        name,
        (
            (0, f"{name}:"),
            (1, f"Type: {kind}"),
            (1, "Properties:"),
            (2, f"Location: {PART}"),
        ),
        f"{name}: {{Type: {kind}, Properties: {{Location: {PART}}}}}",
    )
    value = f"Value: !GetAtt {name}.Outputs.ApiUrl"
    output = Entry(
        f"{name}Url",
        ((0, f"{name}Url:"), (1, "Description: The URL of Mayfly's API."), (1, value)),
        f"{name}Url: {{{value}}}",
    )
    return template.with_entry("Resources", resource).with_entry("Outputs", output), name


def _code(folder: Path, chosen: Wanted) -> dict[Path, str]:
    """Returns the files of the folder of code: requirements, Makefile, and package of tasks.

    A requirement that `mayfly add` has written is updated. Other files that exist are left alone.
    """
    files: dict[Path, str] = {}
    requirements = folder / "requirements.txt"
    if not requirements.exists():
        files[requirements] = f"{_REQUIREMENT}\n"
    elif _REQUIRED.search(before := _text(requirements)):
        files[requirements] = _REQUIRED.sub(_REQUIREMENT, before)
    if not (folder / "Makefile").exists():
        files[folder / "Makefile"] = MAKEFILE.read_text(encoding="utf-8")
    package = folder.joinpath(*chosen.tasks.split("."))
    if chosen.tasks and not package.exists() and not package.with_suffix(".py").exists():
        files[package / "__init__.py"] = _TASKS
    return files


def _advice(folder: Path, name: str, chosen: Wanted) -> list[str]:
    """Returns what the owner of the project has to do."""
    text = [
        f"A function of yours that uses the stores needs {_REQUIREMENT} in its requirements.txt, "
        "and these properties:",
        "",
        *(f"      {line}" for line in lines(name, chosen.features)),
    ]
    requirements = folder / chosen.code / "requirements.txt"
    if requirements.exists() and "mayfly-serverless" not in _text(requirements):
        text += ["", f"Add this line to {requirements}:", "", f"      {_REQUIREMENT}"]
    makefile = folder / chosen.code / "Makefile"
    if makefile.exists() and "bundle" not in _text(makefile):
        rule = MAKEFILE.read_text(encoding="utf-8").rstrip("\n").split("\n")
        text += ["", f"Add these lines to {makefile}:", "", *(f"      {line}" for line in rule)]
    if chosen.tasks:
        place = "/".join([chosen.code, *chosen.tasks.split(".")])
        text += ["", f"Tasks are files in {place}/."]
    samconfig = folder / "samconfig.toml"
    if not samconfig.exists() or "CAPABILITY_AUTO_EXPAND" not in _text(samconfig):
        text += [
            "",
            "A nested application needs a second capability, in samconfig.toml:",
            "",
            "      [default.deploy.parameters]",
            '      capabilities = "CAPABILITY_IAM CAPABILITY_AUTO_EXPAND"',
        ]
    text += [
        "",
        "mayfly up runs the project; mayfly keys development makes a key for Mayfly's API.",
    ]
    return text
