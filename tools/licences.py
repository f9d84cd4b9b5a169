"""`make lock` writes docs/dependencies.md: the packages of all locks, with version and licence.

The licences come from the metadata of the installed packages, and from npm's lock.
"""

import json
import re
import sys
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Final

__all__ = ["LOCKS", "NODE_LOCK", "licence", "locked", "locked_by_npm", "main"]

ROOT: Final = Path(__file__).parent.parent
#: Each lock, and its purpose.
LOCKS: Final = {
    "layers/mayfly/requirements.txt": "Packages on Lambda, next to handlers and library",
    "requirements/local.txt": "The local runtime, tests and checks",
    "requirements/sam.txt": "aws-sam-cli alone, to build and deploy",
    "requirements/audit.txt": "pip-audit alone",
    "requirements/starlette/0.46.txt": "Starlette 0.46, for `make test-starlette`",
    "requirements/starlette/0.52.txt": "Starlette 0.52, for `make test-starlette`",
    "requirements/dist.txt": "The tools that build and check the distribution",
    "examples/flask_hits/app/requirements.txt": "The Flask example",
}
#: The lock of the one program that runs under Node: it may make byte-code when functions are built.
NODE_LOCK: Final = "mayfly_cli/bundling/pyodide/package-lock.json"
_PAGE: Final = ROOT / "docs" / "dependencies.md"
_HEAD: Final = """# Dependencies

Every package that this repository locks, with the licence in its metadata; written by `make lock`.
`make audit` checks all of them for known vulnerabilities, except the old versions of Starlette.
They have some, and only tests use them.
[SECURITY.md](../SECURITY.md) describes the review of the last change of the locks.
"""
_VENDORED: Final = """## Copied files

The viewer that `make openapi` writes to `docs/api/` is Swagger UI (Apache-2.0).
`make openapi` copies it from the locked Powertools for AWS Lambda.
"""


def locked(lock: str) -> dict[str, str]:
    """Returns versions by package."""
    return dict(re.findall(r"^([a-z0-9._-]+)==([^ ;\\]+)", (ROOT / lock).read_text(), re.MULTILINE))


def locked_by_npm() -> dict[str, dict[str, str]]:
    """Returns what npm's lock says about each package, by name."""
    packages = json.loads((ROOT / NODE_LOCK).read_text())["packages"]
    return {path.removeprefix("node_modules/"): said for path, said in packages.items() if path}


def licence(package: Distribution) -> str:
    """Returns the licence in a package's metadata.

    It is the licence expression, the classifiers, or the first line of the licence field.
    """
    metadata = package.metadata
    if "License-Expression" in metadata:
        return str(metadata["License-Expression"])
    classified = [
        classifier.rpartition(" :: ")[2]
        for classifier in metadata.get_all("Classifier") or []
        if classifier.startswith("License :: ")
    ]
    named = [classifier for classifier in classified if classifier != "OSI Approved"]
    if named:
        return ", ".join(named)
    return str(metadata["License"] or "?").strip().splitlines()[0][:60]


def _installed() -> Iterator[Distribution]:
    for environment in (".venv", ".venv-sam", ".venv-audit", ".venv-dist"):
        yield from distributions(
            path=[str(folder) for folder in (ROOT / environment).glob("lib/python*/site-packages")]
        )
    yield from distributions(path=[str(folder) for folder in ROOT.glob(".venv-starlette-*")])


def main() -> int:
    """Writes the page; returns 1 if a package is not installed and its licence is unknown."""
    licences = {
        re.sub(r"[-_.]+", "-", package.metadata["Name"]).lower(): licence(package)
        for package in _installed()
    }
    known = dict(
        re.findall(
            r"^\| ([a-z0-9._-]+) \| [^|]+ \| ([^|]+) \|$",
            _PAGE.read_text() if _PAGE.exists() else "",
            re.MULTILINE,
        )
    )
    lines, missing = [_HEAD], set()

    def start(lock: str, purpose: str) -> None:
        lines.extend(
            [
                f"## {purpose}",
                "",
                f"`{lock}`",
                "",
                "| package | version | licence |",
                "|---|---|---|",
            ]
        )

    for lock, purpose in LOCKS.items():
        start(lock, purpose)
        for name, version in sorted(locked(lock).items()):
            # Packages of other systems are not installed here, so their licence on the page stays.
            said = next(
                (text for text in (licences.get(name), known.get(name)) if text not in (None, "?")),
                None,
            )
            if said is None:
                missing.add(name)
            lines.append(f"| {name} | {version} | {said or '?'} |")
        lines.append("")
    start(NODE_LOCK, "Pyodide alone, to make byte-code on a machine without the template's Python")
    for name, said in sorted(locked_by_npm().items()):
        lines.append(f"| {name} | {said['version']} | {said['license']} |")
    lines.append("")
    _PAGE.write_text("\n".join([*lines, _VENDORED]))
    if missing:
        print(
            f"not installed, so the licence is unknown: {', '.join(sorted(missing))}",
            file=sys.stderr,
        )
    return int(bool(missing))


if __name__ == "__main__":
    sys.exit(main())
