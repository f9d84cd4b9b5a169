"""The text of an application's template, to which entries are added and nothing else is changed.

Libraries that write YAML format the whole text again: indentation, spaces and long lines change.
So the new lines are inserted as text, at a place that the events of PyYAML's parser give.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from typing import Final

import yaml

from mayfly_local.errors import LocalError

__all__ = ["Entry", "TemplateText"]

#: Page sam-specification-template-anatomy of
#: https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/
_TRANSFORM: Final = "AWS::Serverless-2016-10-31"
_NEWLINE: Final = re.compile(r"\r\n|\n|\r")
#: The end of a line, and a line without text.
_BLANK_LINE: Final = re.compile(r"(?>\r\n|\n|\r)[ \t]*(?:\r\n|\n|\r)")
#: A comment, with the blank lines above it.
_COMMENT: Final = re.compile(r"(?:[ \t]*(?:\r\n|\n|\r))*( *)#.*?(?:\r\n|\n|\r|\Z)")

_Starts = yaml.events.CollectionStartEvent
_Ends = yaml.events.CollectionEndEvent


@dataclass(frozen=True)
class Entry:
    """A new entry of a section: its lines with their depths, and the same in flow style."""

    name: str
    lines: tuple[tuple[int, str], ...]
    flow: str


@dataclass(frozen=True)
class _Section:
    """A section of the template: its events, and those of its entries' keys."""

    events: Sequence[yaml.Event]
    keys: Sequence[yaml.Event]

    @property
    def is_flow(self) -> bool:
        """True for a mapping in braces."""
        first = self.events[0]
        return isinstance(first, yaml.MappingStartEvent) and bool(first.flow_style)


class TemplateText:
    """The text of a template in YAML, with the line ends that it has.

    `name` is how messages call it. Raises LocalError if it is not a template of SAM in YAML.
    """

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text
        if text.lstrip("\ufeff \t\r\n").startswith("{"):
            raise LocalError(
                f"{name} is a template in JSON: mayfly add changes only YAML; "
                "nest the output of mayfly template in it yourself"
            )
        try:
            self._events = list(yaml.parse(text, Loader=yaml.SafeLoader))
            self._root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as problem:
            raise LocalError(f"{name} is not YAML: {_in_one_line(problem)}") from None
        if not isinstance(self._root, yaml.MappingNode):
            raise LocalError(f"{name} is not a template: it has no sections such as Resources")
        if _TRANSFORM not in _scalars(_member(self._root, "Transform")):
            raise LocalError(f"{name} is not a template of SAM: it has no Transform: {_TRANSFORM}")

    def names(self, section: str) -> list[str]:
        """Returns the names of the entries of a section."""
        node = _member(self._root, section)
        if not isinstance(node, yaml.MappingNode):
            return []
        return [str(key.value) for key, _ in node.value]

    def nests(self, part: str) -> str | None:
        """Returns the logical id of the application whose location is the file `part`."""
        for name in self.names("Resources"):
            where = self.value("Resources", name, "Properties", "Location")
            if where is not None and PurePosixPath(where) == PurePosixPath(part):
                return name
        return None

    def value(self, *path: str) -> str | None:
        """Returns the text of a scalar at a path of keys, None if there is none."""
        node = self._root
        for key in path:
            node = _member(node, key)
        return str(node.value) if isinstance(node, yaml.ScalarNode) else None

    def values(self, *path: str) -> list[str]:
        """Returns the texts of a list or of a scalar at a path of keys; empty if there is none."""
        node = self._root
        for key in path:
            node = _member(node, key)
        return _scalars(node)

    def with_entry(self, section: str, entry: Entry) -> "TemplateText":
        """Returns the template with an entry at the end of a section, made if it is missing.

        Raises LocalError if the entry cannot be inserted there without a change of other lines.
        """
        found = self._sections.get(section, [])
        if len(found) > 1:
            raise LocalError(f"{self.name} has two sections {section}")
        empty = found[0].events[0] if found and _is_empty(found[0].events[0]) else None
        place, addition = self._insertion(section, found[0] if found else None, entry)
        text = self.text[:place] + addition + self.text[place:]
        try:
            changed = TemplateText(self.name, text)
        except LocalError:
            changed = self
        is_there = changed.names(section).count(entry.name) == 1
        if not (is_there and self._is_extended_by(changed, empty)):
            raise LocalError(
                f"{self.name}: no line can be inserted into {section}; add it yourself: "
                f"{entry.flow}"
            )
        return changed

    @cached_property
    def _sections(self) -> dict[str, list[_Section]]:
        sections: dict[str, list[_Section]] = {}
        for key, events in _pairs(self._events[2:-2]):
            keys = [name for name, _ in _pairs(events)] if _is_mapping(events) else []
            name = str(getattr(key, "value", ""))
            sections.setdefault(name, []).append(_Section(events, keys))
        return sections

    def _insertion(self, name: str, section: _Section | None, entry: Entry) -> tuple[int, str]:
        """Returns the place of an insertion, and its text."""
        margin = _column(self._events[2:-2][1])
        step = 2
        for resources in self._sections.get("Resources", []):
            if resources.keys and not resources.is_flow:
                step = _column(resources.keys[0]) - margin
        if section is None:
            lines = ((0, f"{name}:"), *((depth + 1, line) for depth, line in entry.lines))
            return self._block(self._events[2:-2], margin, step, lines)
        first = section.events[0]
        if section.is_flow:
            comma = ", " if section.keys else ""
            # The last event is the closing brace.
            return _content_end(section.events[:-1]), comma + entry.flow
        if isinstance(first, yaml.MappingStartEvent):
            column = _column(section.keys[0])
            return self._block(section.events, column, step, entry.lines)
        if _is_empty(first):
            return self._block(section.events, margin + step, step, entry.lines)
        raise LocalError(f"{self.name}: {name} is not a mapping of entries")

    def _block(
        self,
        events: Sequence[yaml.Event],
        column: int,
        step: int,
        lines: Sequence[tuple[int, str]],
    ) -> tuple[int, str]:
        """Returns the place after the last line of events, and the text of new lines there."""
        place = _content_end(events)
        last = events[_last_content(events)]
        ends_in_block = isinstance(last, yaml.ScalarEvent) and last.style in ("|", ">")
        if not ends_in_block:
            line_end = _NEWLINE.search(self.text, place)
            place = line_end.end() if line_end else len(self.text)
        # A comment that is indented as the entries are, or deeper, belongs to the section.
        while (comment := _COMMENT.match(self.text, place)) and len(comment[1]) >= max(column, 1):
            place, ends_in_block = comment.end(), False
        before = self.text[:place]
        newline = (_NEWLINE.search(self.text) or ["\n"])[0]
        text = "".join(f"{' ' * (column + depth * step)}{line}{newline}" for depth, line in lines)
        # Blank lines at the end of a block of text may be a part of it.
        if self._is_spaced(events) and not ends_in_block:
            text = newline + text
        if not before.endswith(("\n", "\r")):
            text = newline + text.removesuffix(newline)
        return place, text

    def _is_spaced(self, events: Sequence[yaml.Event]) -> bool:
        """Returns whether a blank line is between two entries of a mapping."""
        end: int | None = None
        for key, value in _pairs(events) if _is_mapping(events) else ():
            if end is not None and _BLANK_LINE.search(self.text, end, _begin(key)):
                return True
            end = _content_end(value)
        return False

    def _is_extended_by(self, other: "TemplateText", empty: yaml.Event | None) -> bool:
        """Returns whether the other one has the same events, and new ones in one place.

        `empty` is the value of a section that had no entry: the new ones replace it.
        """
        mine = [_content(event) for event in self._events if event is not empty]
        theirs = [_content(event) for event in other._events]
        new = len(theirs) - len(mine)
        same = 0
        while same < len(mine) and mine[same] == theirs[same]:
            same += 1
        return new > 0 and theirs[same + new :] == mine[same:]


def _pairs(events: Sequence[yaml.Event]) -> Iterator[tuple[yaml.Event, Sequence[yaml.Event]]]:
    """Yields the first event of each key of a mapping, and the events of its value."""
    at = 1
    while at < len(events) - 1:
        middle = _node_end(events, at)
        end = _node_end(events, middle)
        yield events[at], events[middle:end]
        at = end


def _node_end(events: Sequence[yaml.Event], at: int) -> int:
    depth = 0
    while True:
        event = events[at]
        depth += isinstance(event, _Starts) - isinstance(event, _Ends)
        at += 1
        if depth == 0:
            return at


def _is_mapping(events: Sequence[yaml.Event]) -> bool:
    return isinstance(events[0], yaml.MappingStartEvent)


def _is_empty(event: yaml.Event) -> bool:
    return isinstance(event, yaml.ScalarEvent) and _begin(event) == _end(event)


def _last_content(events: Sequence[yaml.Event]) -> int:
    """Returns the index of the last event that has text: the end of a block has none."""
    flows: list[bool] = []
    last = 0
    for index, event in enumerate(events):
        if isinstance(event, _Starts):
            flows.append(bool(event.flow_style))
        has_text = not isinstance(event, _Ends) or flows.pop()
        if has_text:
            last = index
    return last


def _content_end(events: Sequence[yaml.Event]) -> int:
    return _end(events[_last_content(events)])


def _begin(event: yaml.Event) -> int:
    assert event.start_mark is not None  # The parser gives each event its marks.
    return event.start_mark.index


def _end(event: yaml.Event) -> int:
    assert event.end_mark is not None
    return event.end_mark.index


def _column(event: yaml.Event) -> int:
    assert event.start_mark is not None
    return event.start_mark.column


def _content(event: yaml.Event) -> tuple[object, ...]:
    names = ("anchor", "tag", "value", "style", "flow_style", "explicit")
    return (type(event), *(getattr(event, name, None) for name in names))


def _member(node: yaml.Node | None, key: str) -> yaml.Node | None:
    if isinstance(node, yaml.MappingNode):
        found: Iterator[yaml.Node] = (value for name, value in node.value if name.value == key)
        return next(found, None)
    return None


def _scalars(node: yaml.Node | None) -> list[str]:
    members = node.value if isinstance(node, yaml.SequenceNode) else [node]
    return [str(member.value) for member in members if isinstance(member, yaml.ScalarNode)]


def _in_one_line(problem: yaml.YAMLError) -> str:
    mark = getattr(problem, "problem_mark", None)
    where = f"line {mark.line + 1}: " if mark is not None else ""
    return where + " ".join(str(getattr(problem, "problem", None) or problem).split())
