"""Imports of large CSV files, added up exactly once.

They need bounded memory, and continue from the last checkpoint after a crash.
"""

from mayfly.imports.service import import_csv
from mayfly.imports.store import Objects

__all__ = ["Objects", "import_csv"]
