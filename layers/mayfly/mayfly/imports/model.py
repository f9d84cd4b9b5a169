"""An object to import, and an upload that asks for it."""

from dataclasses import dataclass

__all__ = ["Source", "Upload"]


@dataclass(frozen=True)
class Source:
    """An object as it was when its import began; `etag` tells it from a replacement."""

    path: str
    size: int
    etag: str


@dataclass(frozen=True)
class Upload:
    """An object that was put into the imports bucket.

    `mark` is equal for two notices of one upload, and for no others.
    """

    tenant: str
    key: str
    mark: str
