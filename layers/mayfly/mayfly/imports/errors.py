"""Errors of imports."""

from mayfly.core.errors import MayflyError

__all__ = ["BadImport"]


class BadImport(MayflyError):
    """A file cannot be imported; `path` is its place in the imports bucket."""

    retryable = False

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
