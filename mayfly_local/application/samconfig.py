"""The values of parameters that `sam` saved next to a template: samconfig.toml, .yaml or .yml.

Pages serverless-sam-cli-config and sam-cli-command-reference-sam-deploy of
https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/
"""

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any, Final

from mayfly_local.application.parameters import parameter_text
from mayfly_local.application.source import read, read_yaml
from mayfly_local.errors import TemplateError

__all__ = ["saved_overrides"]

#: Of several files, `sam` reads the first one of this order.
_FILES: Final = ("samconfig.toml", "samconfig.yaml", "samconfig.yml")
#: Commands of `sam`; the last one is the nearest to `mayfly up`, and its values count most.
_COMMANDS: Final = ("global", "build", "deploy", "local_start_api")


def saved_overrides(folder: Path) -> dict[str, str]:
    """Returns `parameter_overrides` of the default environment in samconfig.

    It is a mapping, a text or a list; `sam deploy` writes `Name=Value` or
    `ParameterKey=..,ParameterValue=..`. `file://NAME` is a file of the same forms. Raises
    TemplateError if a file cannot be read or has another form.
    """
    path = next((file for name in _FILES if (file := folder / name).is_file()), None)
    if path is None:
        return {}
    settings = _settings(path)
    found: dict[str, str] = {}
    for command in _COMMANDS:
        section: Any = settings
        for key in ("default", command, "parameters", "parameter_overrides"):
            section = section.get(key) if isinstance(section, dict) else None
        found |= _overrides(path, section)
    return found


def _settings(path: Path) -> Any:
    text = read(path)
    if path.suffix != ".toml":
        return read_yaml(path, text)
    try:
        return tomllib.loads(text)
    except ValueError as problem:
        raise TemplateError(path, [f"it cannot be read: {problem}"]) from None


def _overrides(path: Path, section: Any) -> dict[str, str]:
    """Returns the overrides in a value of the file `path`. Raises TemplateError."""
    if isinstance(section, dict):
        if set(section) == {"ParameterKey", "ParameterValue"}:  # as the AWS CLI writes them
            return {str(section["ParameterKey"]): parameter_text(section["ParameterValue"])}
        return {str(name): parameter_text(value) for name, value in section.items()}
    # Each member of a list is one override. A text has several, which may be in quotes.
    words = section if isinstance(section, list) else _words(str(section or ""))
    found: dict[str, str] = {}
    for word in words:
        if isinstance(word, dict):
            found |= _overrides(path, word)
        elif match := re.fullmatch(
            r"ParameterKey=([^,]+),ParameterValue=(.*)", str(word), re.DOTALL
        ):
            found[match[1]] = match[2].strip("\"'")
        elif str(word).startswith("file://"):
            file = path.parent / str(word).removeprefix("file://")
            found |= _overrides(file, read_yaml(file, read(file)))
        elif "=" in str(word):
            name, _, value = str(word).partition("=")
            found[name] = value.strip("\"'")
    if words and not found:  # `sam` drops other words only next to overrides.
        raise TemplateError(
            path, [f"parameter_overrides is {section!r}; an override is NAME=VALUE"]
        )
    return found


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:  # a quote that is not closed is part of a value
        return text.split()
