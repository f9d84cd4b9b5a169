"""Functions of images: what a Dockerfile says, as far as a folder of Python files can do the same.

Nothing is built. A line without effect here is named, since the function may miss what it does.
https://docs.docker.com/reference/dockerfile/
"""

import json
import os
import re
import shlex
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from packaging.requirements import InvalidRequirement, Requirement

from mayfly_local.application.template import Template

__all__ = ["Image", "read_image"]

#: Images of AWS with Python and nothing else, and the ones that mirror them.
_BASE_IMAGE: Final = re.compile(
    r"(?:--platform=\S+ +)?(?:public\.ecr\.aws/lambda/|(?:docker\.io/)?amazon/aws-lambda-)"
    r"python(?:[:@](?P<version>3\.\d+)?)\S*"
)
_TASK_ROOT: Final = re.compile(r"\$\{?LAMBDA_TASK_ROOT\}?|/var/task")
#: Instructions that are read here, or that leave no trace in an image.
_KNOWN: Final = {"ARG", "CMD", "COPY", "ENV", "FROM", "LABEL", "RUN", "WORKDIR"}
#: The runtime of a function whose Dockerfile names no version of Python.
_ANY_RUNTIME: Final = f"python{sys.version_info[0]}.{sys.version_info[1]}"
_PIP: Final = re.compile(
    r"(?:python[\d.]* +-m +)?(?:uv +)?pip[\d.]* +install +(?P<arguments>.*)", re.DOTALL
)
#: Options of pip that do not change which packages a function gets.
_SWITCHES: Final = {
    "--disable-pip-version-check", "--no-cache", "--no-cache-dir", "--no-compile", "--no-input",
    "--prefer-binary", "--quiet", "--root-user-action=ignore", "--system", "--upgrade", "-U", "-q",
}  # fmt: skip
_REQUIREMENTS: Final = "requirements.txt"
_VARIABLE: Final = re.compile(r"\$(?:\{(?P<name>\w+)\}|(?P<bare>\w+))")
#: Packages that install others.
_TOOLS: Final = {"pip", "setuptools", "wheel"}
#: Most letters of a line that a message shows.
_SHOWN: Final = 60


@dataclass(frozen=True)
class Image:
    """A function of an image: its folder and handler, and what else its Dockerfile gives it.

    `packages` are requirements that it installs by name, `variables` those of ENV. `handler` is
    None without a CMD.
    """

    folder: Path
    handler: str | None
    runtime: str = _ANY_RUNTIME
    variables: dict[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    #: Lines without effect here, each with its number and its file.
    missed: tuple[str, ...] = ()


class _Line(NamedTuple):
    """An instruction, with the number of its first line."""

    number: int
    word: str
    text: str


def read_image(metadata: dict[str, Any], template: Template) -> Image | str:
    """Returns what a function's Dockerfile says, or the reason why its image is needed.

    A Dockerfile of one stage counts, from AWS's image for Python, that copies one folder to the
    task root, and names the handler in CMD. `metadata` is the function's.
    """
    context = template.folder / str(metadata.get("DockerContext") or ".")
    path = context / str(metadata.get("Dockerfile") or "Dockerfile")
    if not path.is_file():
        return "its image has no Dockerfile here"
    arguments = metadata.get("DockerBuildArgs") or {}
    lines = list(_expanded(_lines(path.read_text(errors="replace")), arguments))
    bases = [line.text for line in lines if line.word == "FROM"]
    base = _BASE_IMAGE.fullmatch(re.sub(r"(?i) +AS +\S+$", "", bases[0])) if bases else None
    if len(bases) != 1 or base is None:
        return "its image is not AWS's for Python"
    if other := next((line.word for line in lines if line.word not in _KNOWN), None):
        return f"its Dockerfile has {other}"
    commands = [line.text for line in lines if line.word == "CMD"]
    # The last one counts.
    handlers = re.findall(r'"([^"]+)"', commands[-1]) if commands else [None]
    if len(handlers) != 1:
        return "its Dockerfile has no handler in CMD"
    folder = _copied_folder(lines, context)
    if isinstance(folder, str):
        return folder
    where = os.path.relpath(path, template.folder)
    listed = context / _REQUIREMENTS
    version = base["version"]
    return _with_effects(
        Image(folder, handlers[0], f"python{version}" if version else _ANY_RUNTIME),
        lines,
        where,
        listed if any(_copies_requirements(line) for line in lines) else None,
    )


def _expanded(lines: Iterable[_Line], given: Mapping[str, Any]) -> Iterator[_Line]:
    """Yields the instructions with the values of ARG and ENV, as far as they are known.

    `given` are the arguments of the build, which come before the values of ARG.
    https://docs.docker.com/reference/dockerfile/#environment-replacement
    """
    before: dict[str, str] = {}
    known: dict[str, str] = {}
    for line in lines:
        # The shell of a container would expand CMD, and Lambda has none.
        text = line.text if line.word == "CMD" else _replaced(line.text, known)
        match line.word:
            case "FROM":  # Earlier arguments end here, unless an ARG names them again.
                before, known = known, {}
            case "ENV":
                known |= _variables(text) or {}
            case "ARG":
                for name, value in _arguments(text).items():
                    chosen = given.get(name, before.get(name) if value is None else value)
                    if chosen is not None:
                        known[name] = str(chosen)
        yield line._replace(text=text)


def _replaced(text: str, known: Mapping[str, str]) -> str:
    return _VARIABLE.sub(
        lambda match: known.get(match["name"] or match["bare"], match[0]),
        text,
    )


def _arguments(text: str) -> dict[str, str | None]:
    """Returns the names of ARG, each with its value, or None if it has none."""
    try:
        pairs = [word.partition("=") for word in shlex.split(text)]
    except ValueError:
        return {}
    return {name: value if sign else None for name, sign, value in pairs}


def _copies_requirements(line: _Line) -> bool:
    """Returns whether an instruction copies the requirements.txt of the context alone."""
    if line.word != "COPY" or line.text.startswith("--"):
        return False
    *sources, _ = re.findall(r'[^\s\[\],"]+', line.text) or [""]
    return [source.removeprefix("./") for source in sources] == [_REQUIREMENTS]


def _with_effects(image: Image, lines: list[_Line], where: str, listed: Path | None) -> Image:
    """Returns an image with the effects of its RUN, ENV and WORKDIR, and the lines without one.

    `listed` is a requirements.txt that is copied next to the folder.
    """
    variables: dict[str, str] = {}
    packages: list[str] = []
    missed = []
    for line in lines:
        if line.word == "ENV":
            has_effect = (found := _variables(line.text)) is not None
            variables |= found or {}
        elif line.word == "RUN":
            has_effect = (names := _installed(line.text, image.folder, listed)) is not None
            packages += names or []
        elif line.word == "WORKDIR":
            has_effect = not _below_root(line.text)
        else:
            continue
        if not has_effect:
            text = " ".join(f"{line.word} {line.text}".split())
            short = text if len(text) <= _SHOWN else f"{text[:_SHOWN]} ..."
            missed.append(f"line {line.number} of {where}: {short}")
    return Image(
        image.folder, image.handler, image.runtime, variables, tuple(packages), tuple(missed)
    )


def _copied_folder(lines: list[_Line], context: Path) -> Path | str:
    """Returns the folder whose content COPY puts into the task root, or the reason against it."""
    folders, lists, work = set[Path](), set[Path](), ""
    for line in lines:
        if line.word == "WORKDIR":
            work = line.text
        if line.word != "COPY":
            continue
        *sources, target = re.findall(r'[^\s\[\],"]+', line.text)
        if _below_root(target) or line.text.startswith("--"):
            return f"its Dockerfile copies to {target}"
        if _below_root(work) and not target.startswith(("/", "$")):
            return f"its Dockerfile copies to {target} of {work}"
        if _copies_requirements(line):
            lists.add(context)
            continue
        for source in sources:
            folders |= {_copied(context, source)}
    # A requirements.txt comes from the context, and is also copied next to another folder.
    folders = folders or lists
    if len(folders) > 1:
        return "its Dockerfile copies more than one folder"
    folder = next(iter(folders), context).resolve()
    return folder if folder.is_dir() else "its Dockerfile copies a missing folder"


def _below_root(path: str) -> str:
    """Returns what is left of a path in the image without the task root. It is empty for that."""
    return _TASK_ROOT.sub("", path).strip("./")


def _copied(context: Path, source: str) -> Path:
    """Returns the folder whose content an argument of COPY puts into the target."""
    path = context / re.sub(r"/?\*+$", "", _TASK_ROOT.sub(".", source))
    return path if path.is_dir() else path.parent


def _variables(text: str) -> dict[str, str] | None:
    """Returns the variables of ENV, or None if their values are made of others."""
    if "$" in _TASK_ROOT.sub("", text):
        return None
    try:
        words = shlex.split(_TASK_ROOT.sub("/var/task", text))
    except ValueError:
        return None
    if words and "=" not in words[0]:  # The old form: one name, and the rest is its value.
        return {words[0]: " ".join(words[1:])}
    pairs = [word.partition("=") for word in words]
    return {name: value for name, _, value in pairs}


def _installed(text: str, folder: Path, listed: Path | None) -> list[str] | None:
    """Returns the packages that RUN installs by name, or None if it does something else, too.

    The function's own requirements.txt is installed in any case.
    """
    names: list[str] = []
    for command in re.split(r"&&|;", _shell(text)):
        match = _PIP.fullmatch(command.strip())
        if match is None or (found := _requirements(match["arguments"], folder, listed)) is None:
            return None
        names += found
    return [name for name in names if Requirement(name).name.lower() not in _TOOLS]


def _shell(text: str) -> str:
    """Returns the command of RUN without options of Docker, and as a text if it is a JSON list."""
    if text.startswith("["):
        try:
            return shlex.join(json.loads(text))
        except (TypeError, ValueError):
            return text
    return re.sub(r"^(?:--\S+ +)+", "", text)


def _requirements(arguments: str, folder: Path, listed: Path | None) -> list[str] | None:
    """Returns the names of `pip install`, or None if it installs otherwise than pip does here."""
    try:
        words = iter(shlex.split(arguments))
    except ValueError:
        return None
    names: list[str] = []
    for word in words:
        option, _, value = word.partition("=") if word.startswith("--") else (word, "", "")
        if word in _SWITCHES:
            continue
        if option in ("-t", "--target"):
            if _below_root(value or next(words, "-")):
                return None
        elif option in ("-r", "--requirement"):
            found = _names_of(_below_root(value or next(words, "-")), folder, listed)
            if found is None:
                return None
            names += found
        elif _is_requirement(word):
            names.append(word)
        else:
            return None
    return names


def _names_of(file: str, folder: Path, listed: Path | None) -> list[str] | None:
    """Returns the packages of `pip install -r` that are not installed in any case, or None."""
    if file != _REQUIREMENTS:
        return None
    if (folder / file).is_file():
        return []
    return None if listed is None else _names_in(listed)


def _names_in(file: Path) -> list[str] | None:
    """Returns the packages that a requirements.txt names, or None if it has anything else."""
    if not file.is_file():
        return None
    lines = [re.sub(r"(^|\s)#.*", "", line).strip() for line in file.read_text().splitlines()]
    names = [line for line in lines if line]
    return names if all(map(_is_requirement, names)) else None


def _is_requirement(word: str) -> bool:
    try:
        return Requirement(word).url is None
    except InvalidRequirement:
        return False


def _lines(text: str) -> Iterator[_Line]:
    """Yields the instructions of a Dockerfile. Comments may stand between parts of one."""
    number, parts = 0, list[str]()
    for at, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        number = number if parts else at
        parts.append(line.removesuffix("\\"))
        if line.endswith("\\"):
            continue
        word, _, rest = " ".join(parts).partition(" ")
        yield _Line(number, word.upper(), rest.strip())
        parts = []
