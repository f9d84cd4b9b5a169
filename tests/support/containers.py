"""The line in a summary of tests that says which of them ran a function in a container."""

from collections.abc import Mapping, Sequence
from typing import Protocol

__all__ = ["MARK", "container_line"]

#: The mark of tests that run a function in a container.
MARK = "container"


class _Report(Protocol):
    nodeid: str
    keywords: Mapping[str, object]


def container_line(reports: Mapping[str, Sequence[_Report]]) -> str | None:
    """Returns the line, or None if no such test was selected.

    `reports` has pytest's reports by outcome: "passed", "failed", "error", "skipped".
    `.ci/run` fails without a line that says "passed".
    """
    parts = []
    for outcome in ("passed", "failed", "error", "skipped"):
        names = [
            report.nodeid.rpartition("::")[2]
            for report in reports.get(outcome, ())
            if MARK in report.keywords
        ]
        if names:
            parts.append(f"{len(names)} {outcome} ({', '.join(sorted(names))})")
    return f"make invoke in a container: {'; '.join(parts)}" if parts else None
