"""Tasks of the library that have a function of their own.

Every function may submit their jobs; one function runs them.
"""

from collections.abc import Mapping
from typing import Final

from mayfly.jobs.authoring.task import Declaration

__all__ = ["BUILT_IN", "DELIVER"]

#: See `mayfly.webhooks`. Ten attempts, as in the retry schedule of Standard Webhooks.
DELIVER: Final = Declaration("http.deliver", max_attempts=10, exclusive=True)

BUILT_IN: Final[Mapping[str, Declaration]] = {DELIVER.name: DELIVER}
