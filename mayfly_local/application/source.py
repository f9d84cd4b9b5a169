"""The text of a template, as CloudFormation reads it: YAML 1.1 or JSON."""

import contextlib
import json
from pathlib import Path
from typing import Any

import yaml
from samtranslator.yaml_helper import intrinsics_multi_constructor

from mayfly_local.errors import TemplateError

__all__ = ["parse", "read", "read_yaml"]


class _Loader(yaml.SafeLoader):
    """Reads short forms of intrinsic functions, and dates as the texts that they are written as.

    CloudFormation has no dates, so `AWSTemplateFormatVersion: 2010-09-09` needs no quotes.
    """


_Loader.yaml_implicit_resolvers = {
    first: [rule for rule in rules if rule[0] != "tag:yaml.org,2002:timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_multi_constructor("!", intrinsics_multi_constructor)


def parse(path: Path, text: str | None = None) -> dict[str, Any]:
    """Returns the template as written, with short forms of intrinsic functions spelled out.

    Raises TemplateError if the file is not a YAML template.
    """
    template = read_yaml(path, read(path) if text is None else text)
    if not isinstance(template, dict) or not isinstance(template.get("Resources"), dict):
        raise TemplateError(path, ["it has no Resources"])
    return template


def read_yaml(path: Path, text: str) -> Any:
    """Returns the value of a YAML or JSON text of the file `path`. Raises TemplateError."""
    # JSON may be indented by tabs, which YAML does not allow.
    if text.lstrip().startswith(("{", "[")):
        with contextlib.suppress(ValueError):
            return json.loads(text)
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as problem:
        raise TemplateError(path, [f"it is not valid YAML: {problem}"]) from None
    except ValueError as problem:  # such as an integer of too many digits
        raise TemplateError(path, [f"it has a value that cannot be read: {problem}"]) from None


def read(path: Path) -> str:
    """Returns the text of a file. Raises TemplateError."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as problem:
        raise TemplateError(path, [f"it cannot be read: {problem.strerror}"]) from None
    except UnicodeDecodeError as problem:
        raise TemplateError(
            path, [f"it is not UTF-8 ({problem.reason} at byte {problem.start})"]
        ) from None
