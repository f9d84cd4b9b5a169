"""`Metadata.Mayfly` of a template: what a laptop needs to know and AWS does not."""

import re
from pathlib import Path
from typing import Any, Final

__all__ = ["KEYS", "has_libraries", "is_bundled", "libraries", "metadata_problems"]

#: The keys of `Metadata.Mayfly`.
KEYS: Final = ("AfterDeploy", "Libraries", "LocalParameters")
#: The command of a makefile whose result is the function's folder and its packages.
_BUNDLES: Final = re.compile(r"""(?m)^\t.*(?:\bmayfly|\$\(MAYFLY\))["']? bundle """)


def metadata_problems(metadata: Any, folder: Path) -> list[str]:
    """Returns one sentence for each part of a template's Metadata that cannot be used.

    Paths in it are relative to `folder`.
    """
    mayfly = (metadata.get("Mayfly") or {}) if isinstance(metadata, dict) else metadata
    if not isinstance(mayfly, dict):
        return ["Metadata or its part Mayfly is not a mapping"]
    problems = [
        f"Metadata Mayfly: the key {key} is not known (known: {', '.join(KEYS)})"
        for key in mayfly
        if key not in KEYS
    ]
    if not isinstance(mayfly.get("LocalParameters") or {}, dict):
        problems.append("Metadata Mayfly: LocalParameters is not a mapping of names to values")
    for key in ("AfterDeploy", "Libraries"):
        value = mayfly.get(key) or []
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            problems.append(f"Metadata Mayfly: {key} is not a list of texts")
        elif key == "Libraries":
            problems += [
                f"Metadata Mayfly: Libraries has {name}, which is not a folder"
                for name in value
                if not (folder / name).is_dir()
            ]
    return problems


def libraries(metadata: dict[str, Any], folder: Path) -> tuple[Path, ...]:
    """Returns the folders of `Libraries`, resolved.

    They have the form of a layer's content.
    """
    names = (metadata.get("Mayfly") or {}).get("Libraries") or ()
    return tuple((folder / name).resolve() for name in names)


def has_libraries(resource: dict[str, Any]) -> bool:
    """Returns whether the build puts the libraries into this function: a makefile can do so."""
    return (resource.get("Metadata") or {}).get("BuildMethod") == "makefile"


def is_bundled(folder: Path | None) -> bool:
    """Returns whether the makefile in a function's folder calls `mayfly bundle`.

    Such a function is its folder and the packages of its requirements.txt, which is what runs here.
    """
    makefile = None if folder is None else folder / "Makefile"
    return (
        makefile is not None
        and makefile.is_file()
        and _BUNDLES.search(makefile.read_text(encoding="utf-8", errors="replace")) is not None
    )
