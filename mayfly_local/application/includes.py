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
#: In place of the content of a file that is not here. The property that would hold it is left out.
_GONE: Final = object()


class Includes:
    """The files that a template includes.

    `static` evaluates values that depend on parameters only. `files` gets every file that
    is read, and `absent` the location of every file that is not here.
    """

    def __init__(
        self,
        path: Path,
        static: Callable[[Any], Any],
        files: set[Path],
        absent: Callable[[str], None],
    ) -> None:
        self._path = path
        self._static = static
        self._files = files
        self._absent = absent

    def expand(self, template: dict[str, Any]) -> dict[str, Any]:
        """Returns a template with the contents of local files in place of `AWS::Include`.

        A property whose content is in a file that is not here is left out. Raises TemplateError if
        a file includes itself.
        """
        transforms = template.get("Transform")
        for transform in transforms if isinstance(transforms, list) else [transforms]:
            if _is_include(transform):
                content = self._content(transform, self._path.parent, 0)
                template = template if content is _GONE else {**content, **template}
        expanded: dict[str, Any] = self._expanded(template, self._path.parent, 0)
        return expanded

    def _expanded(self, value: Any, folder: Path, depth: int) -> Any:
        if isinstance(value, list):
            items = [self._expanded(member, folder, depth) for member in value]
            return [item for item in items if item is not _GONE]
        if not isinstance(value, dict):
            return value
        members = {
            key: self._expanded(member, folder, depth)
            for key, member in value.items()
            if not (key == _TRANSFORM and _is_include(member))
        }
        rest = {key: member for key, member in members.items() if member is not _GONE}
        if not _is_include(value.get(_TRANSFORM)):
            return rest
        content = self._content(value[_TRANSFORM], folder, depth)
        if content is _GONE:
            return rest or _GONE
        return {**content, **rest} if rest else content

    def _content(self, transform: dict[str, Any], folder: Path, depth: int) -> Any:
        location = self._static((transform.get("Parameters") or {}).get("Location"))
        path = folder / str(location)
        if "://" in str(location):
            # The template is usually next to the file that was uploaded.
            path = folder / str(location).rpartition("/")[2]
        if depth > _DEEPEST:
            raise TemplateError(
                self._path, [f"AWS::Include of {location}: more than {_DEEPEST} files in files"]
            )
        if not path.is_file():
            self._absent(str(location))
            return _GONE
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
