"""Names of functions, as people write them."""

from collections.abc import Iterable

__all__ = ["find_function"]


def find_function(wanted: str, names: Iterable[str]) -> str | None:
    """Returns the logical id of a function that is written as its id or as its folder.

    `run_jobs` is the folder's name of `RunJobs`. Returns None if no name fits.
    """
    by_plain_name = {_plain(name): name for name in names}
    return by_plain_name.get(_plain(wanted))


def _plain(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()
