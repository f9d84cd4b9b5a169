"""A folder in the form of this repository: the lab copies functions and the library from it."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mayfly

__all__ = ["checkout"]


@contextmanager
def checkout() -> Iterator[Path]:
    """Yields the root of the repository, or a folder like it that links to the installed wheel."""
    here = Path(__file__).parent
    if (here.parent / "functions").is_dir():
        yield here.parent
        return
    with tempfile.TemporaryDirectory(prefix="mayfly-") as name:
        root = Path(name)
        library = root / "layers" / "mayfly"
        library.mkdir(parents=True)
        (library / "mayfly").symlink_to(Path(mayfly.__file__).parent)
        # In place of the lock: what the library needs is installed here.
        (library / "requirements.txt").write_text("mayfly-serverless\n")
        (root / "functions").symlink_to(here.parent / "mayfly_functions")
        (root / "template.yaml").symlink_to(here / "template.yaml")
        yield root
