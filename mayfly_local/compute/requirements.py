"""The packages that a folder of code asks for: requirements.txt, or pyproject.toml with uv.lock."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

__all__ = ["Requirements"]

_LOCK: Final = "uv.lock"


@dataclass(frozen=True)
class Requirements:
    """The text of a requirements file, the versions that are locked for it, and its origin.

    `folder` is where relative paths of the text start.
    """

    text: str
    constraints: str
    origin: str
    folder: Path

    @classmethod
    def of_folder(cls, folder: Path) -> "Requirements | None":
        """Returns what a folder asks for, or None. A requirements.txt comes first, as for SAM."""
        path = folder / "requirements.txt"
        if path.exists():
            return cls(
                path.read_text(encoding="utf-8-sig", errors="replace"), "", str(path), folder
            )
        path = folder / "pyproject.toml"
        if not path.exists():
            return None
        project = _toml(path).get("project")
        dependencies = project.get("dependencies") if isinstance(project, dict) else None
        if not isinstance(dependencies, list) or not dependencies:
            return None
        text = "".join(f"{dependency}\n" for dependency in dependencies)
        return cls(text, _locked(folder / _LOCK), str(path), folder)

    @classmethod
    def of_packages(cls, packages: tuple[str, ...]) -> "Requirements":
        """Returns requirements that no file has."""
        return cls("".join(f"{package}\n" for package in packages), "", ", ".join(packages), Path())


def _locked(path: Path) -> str:
    """Returns the versions of a lock file of uv as constraints of pip."""
    packages = _toml(path).get("package") if path.exists() else None
    return "".join(
        f"{package['name']}=={package['version']}\n"
        for package in packages or ()
        if isinstance(package, dict) and "registry" in (package.get("source") or {})
    )


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError:  # pip reports the same problem, if it matters
        return {}
