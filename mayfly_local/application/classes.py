"""The class of each part of a template on this machine: it runs, is accepted, or is absent."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Class", "Part", "Report", "refusals", "table"]


class Class(StrEnum):
    """A class of parts.

    A part that *runs* does the same as on AWS. An *accepted* part has no effect on one machine. An
    *absent* part is missed: references to it have values of the right form, and a call to it fails
    with an error that names it.
    """

    RUNS = "runs"
    ACCEPTED = "accepted"
    ABSENT = "absent"


@dataclass(frozen=True)
class Part:
    """A part of a template with its class: a resource, or what `detail` says about one.

    `type` is the resource's type. `detail` is a property or a reason, and empty for the resource
    as a whole.
    """

    group: Class
    name: str
    type: str = ""
    detail: str = ""

    def __str__(self) -> str:
        short = self.type.removeprefix("AWS::")
        if self.type and self.detail:
            return f"{self.name}.{self.detail} ({short})"
        return f"{self.name}: {short or self.detail}"


@dataclass
class Report:
    """Problems that end the start, and parts with their classes.

    Building continues after each, to find further ones.
    """

    problems: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)
    #: Resources that are absent as a whole.
    missing: set[str] = field(default_factory=set)

    def __call__(self, problem: str) -> None:
        """Adds the sentence of a problem that ends the start."""
        self.problems.append(problem)

    def accepted(self, name: str, detail: str) -> None:
        """Adds something about the resource `name` that has no effect here."""
        self._add(Part(Class.ACCEPTED, name, detail=detail))

    def absent(self, name: str, detail: str) -> None:
        """Adds something about the resource `name` that is missed here."""
        self._add(Part(Class.ABSENT, name, detail=detail))

    def leave_out(self, name: str, detail: str) -> None:
        """Adds the reason why the resource `name` is absent as a whole."""
        self.absent(name, detail)
        self.missing.add(name)

    def with_classes(self, parts: Iterable[Part]) -> tuple[Part, ...]:
        """Returns the parts of a template and those of this report, each resource once."""
        kept = [part for part in parts if part.name not in self.missing]
        return (*kept, *self.parts)

    def _add(self, part: Part) -> None:
        if part not in self.parts:
            self.parts.append(part)


def refusals(parts: Iterable[Part]) -> list[str]:
    """Returns a sentence for each part that `--strict` refuses: what is absent."""
    return [
        f"{part} is absent on this machine (--strict)"
        for part in parts
        if part.group is Class.ABSENT
    ]


def table(parts: Iterable[Part]) -> list[str]:
    """Returns the lines that the terminal shows at start: types that run, and what does not."""
    parts = list(parts)
    lines = []
    if runs := _counted(part for part in parts if part.group is Class.RUNS):
        lines.append(f"{'runs':<9} {', '.join(runs)}")
    accepted = [part for part in parts if part.group is Class.ACCEPTED]
    short = _counted(part for part in accepted if not part.detail)
    short += [str(part) for part in accepted if part.detail]
    if short:
        lines.append(f"{'accepted':<9} {', '.join(short)} (without effect here)")
    absent = [str(part) for part in parts if part.group is Class.ABSENT]
    lines += [f"{'' if at else 'absent':<9} {text}" for at, text in enumerate(absent)]
    return lines


def _counted(parts: Iterable[Part]) -> list[str]:
    counts = Counter(part.type.removeprefix("AWS::") for part in parts if not part.detail)
    return [kind if count == 1 else f"{kind} {count}" for kind, count in sorted(counts.items())]
