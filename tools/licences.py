"""`make lock` writes docs/dependencies.md: every package of every lock, with its version and
licence, as the installed ones say.
"""

import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Final

__all__ = ["LOCKS", "licence", "locked", "main"]

ROOT: Final = Path(__file__).parent.parent
#: Each lock, and what it is for.
LOCKS: Final = {
    "layers/mayfly/requirements.txt": "The layer: what runs on Lambda",
    "requirements/local.txt": "The local runtime, tests and checks",
    "requirements/sam.txt": "aws-sam-cli alone, to build and deploy",
    "requirements/audit.txt": "pip-audit alone",
    "examples/flask_hits/app/requirements.txt": "The Flask example",
}
_PAGE: Final = ROOT / "docs" / "dependencies.md"
_HEAD: Final = """# Dependencies

Every package that this repository locks, with its licence as its own metadata says; made by `make lock`. `make audit` asks for known
vulnerabilities of all of them. What was looked at when the locks last changed is in [SECURITY.md](../SECURITY.md).
"""
_VENDORED: Final = """## Brought along

`docs/api/swagger-ui-bundle.min.js` and `swagger-ui.min.css` are Swagger UI (Apache-2.0), as the locked Powertools for AWS Lambda brings them;
`make openapi` copies them from there.
"""


def locked(lock: str) -> dict[str, str]:
    """Versions by package."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", (ROOT / lock).read_text(), re.MULTILINE))


def licence(found: Distribution) -> str:
    """What a package says of its licence: its expression, its classifiers, or the first line of its
    licence field.
    """
    metadata = found.metadata
    if "License-Expression" in metadata:
        return str(metadata["License-Expression"])
    classified = [
        each.rpartition(" :: ")[2]
        for each in metadata.get_all("Classifier") or []
        if each.startswith("License :: ")
    ]
    named = [each for each in classified if each != "OSI Approved"]
    if named:
        return ", ".join(named)
    return str(metadata["License"] or "?").strip().splitlines()[0][:60]


def _installed() -> Iterator[Distribution]:
    for environment in (".venv", ".venv-sam", ".venv-audit"):
        yield from distributions(
            path=[str(each) for each in (ROOT / environment).glob("lib/python*/site-packages")]
        )


def main() -> int:
    """Writes the page; 1 where a package is not installed and so says nothing."""
    licences = {
        re.sub(r"[-_.]+", "-", each.metadata["Name"]).lower(): licence(each)
        for each in _installed()
    }
    known = dict(
        re.findall(
            r"^\| ([a-z0-9._-]+) \| [^|]+ \| ([^|]+) \|$",
            _PAGE.read_text() if _PAGE.exists() else "",
            re.MULTILINE,
        )
    )
    lines, missing = [_HEAD], set()
    for lock, purpose in LOCKS.items():
        lines += [
            f"## {purpose}",
            "",
            f"`{lock}`",
            "",
            "| package | version | licence |",
            "|---|---|---|",
        ]
        for name, version in sorted(locked(lock).items()):
            # Packages of other systems are installed nowhere here: what is written of them stands.
            said = next(
                (each for each in (licences.get(name), known.get(name)) if each not in (None, "?")),
                None,
            )
            if said is None:
                missing.add(name)
            lines.append(f"| {name} | {version} | {said or '?'} |")
        lines.append("")
    _PAGE.write_text("\n".join([*lines, _VENDORED]))
    if missing:
        print(
            f"not installed, and so without a licence: {', '.join(sorted(missing))}",
            file=sys.stderr,
        )
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
