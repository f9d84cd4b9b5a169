"""Imports of large files: in bounded memory, from the last checkpoint on after a crash, and added
up exactly once."""

from mayfly.imports.service import import_csv
from mayfly.imports.store import Objects

__all__ = ["Objects", "import_csv"]
