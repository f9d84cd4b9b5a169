"""Parts of a template that are written elsewhere: `AWS::Include` of a local file, and loops.

CloudFormation expands both before it reads the rest, and before SAM does.
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/transform-aws-include.html
Page intrinsic-function-reference-foreach of
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeGuard

from mayfly_local.application.source import read, read_yaml
from mayfly_local.errors import TemplateError

__all__ = ["Includes", "expand_loops"]

_TRANSFORM: Final = "Fn::Transform"
_INCLUDE: Final = "AWS::Include"
_LOOP: Final = "Fn::ForEach::"
#: More than this many files within files is taken for a file that includes itself.
_DEEPEST: Final = 10


class Includes:
    """The files that a template includes.

    `static` evaluates values that depend on parameters only. `files` gets every file that
    is read.
    """

    def __init__(self, path: Path, static: Callable[[Any], Any], files: set[Path]) -> None:
        self._path = path
        self._static = static
        self._files = files

    def expand(self, template: dict[str, Any]) -> dict[str, Any]:
        """Returns a template with the contents of local files in place of `AWS::Include`.

        Raises TemplateError if a file is not there.
        """
        transforms = template.get("Transform")
        for transform in transforms if isinstance(transforms, list) else [transforms]:
            if _is_include(transform):
                template = {**self._content(transform, self._path.parent, 0), **template}
        expanded: dict[str, Any] = self._expanded(template, self._path.parent, 0)
        return expanded

    def _expanded(self, value: Any, folder: Path, depth: int) -> Any:
        if isinstance(value, list):
            return [self._expanded(member, folder, depth) for member in value]
        if not isinstance(value, dict):
            return value
        rest = {
            key: self._expanded(member, folder, depth)
            for key, member in value.items()
            if not (key == _TRANSFORM and _is_include(member))
        }
        if len(rest) == len(value):
            return rest
        content = self._content(value[_TRANSFORM], folder, depth)
        return {**content, **rest} if rest else content

    def _content(self, transform: dict[str, Any], folder: Path, depth: int) -> Any:
        location = self._static((transform.get("Parameters") or {}).get("Location"))
        path = folder / str(location)
        if "://" in str(location):
            # The template is usually next to the file that was uploaded.
            path = folder / str(location).rpartition("/")[2]
        if depth > _DEEPEST or not path.is_file():
            raise TemplateError(
                self._path, [f"AWS::Include of {location}: only a local file can be included here"]
            )
        self._files.add(path.resolve())
        content = read_yaml(path, read(path))
        return self._expanded(content, path.parent, depth + 1)


def expand_loops(value: Any, static: Callable[[Any], Any]) -> Any:
    """Returns a value with every `Fn::ForEach` replaced by what it repeats."""
    if isinstance(value, list):
        return [expand_loops(member, static) for member in value]
    if not isinstance(value, dict):
        return value
    expanded: dict[str, Any] = {}
    for key, member in value.items():
        if not str(key).startswith(_LOOP):
            expanded[key] = expand_loops(member, static)
            continue
        variable, items, body = member
        values = static(items)
        for item in values.split(",") if isinstance(values, str) else values:
            expanded |= expand_loops(_substituted(body, str(variable), str(item)), static)
    return expanded


def _substituted(value: Any, variable: str, item: str) -> Any:
    if isinstance(value, list):
        return [_substituted(member, variable, item) for member in value]
    if isinstance(value, dict):
        if value == {"Ref": variable}:
            return item
        return {
            _substituted(key, variable, item): _substituted(member, variable, item)
            for key, member in value.items()
        }
    if not isinstance(value, str):
        return value
    plain = re.sub(r"[^A-Za-z0-9]", "", item)
    return value.replace(f"${{{variable}}}", item).replace(f"&{{{variable}}}", plain)


def _is_include(transform: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(transform, dict) and transform.get("Name") == _INCLUDE
