"""Tasks that come with the library and have a function of their own: every function may ask for
their jobs, one runs them.
"""

from collections.abc import Mapping
from typing import Final

from mayfly.jobs.authoring.task import Declaration

__all__ = ["BUILT_IN", "DELIVER"]

#: See `mayfly.webhooks`. The first attempt and nine more, as Standard Webhooks has it.
DELIVER: Final = Declaration("http.deliver", max_attempts=10, exclusive=True)

BUILT_IN: Final[Mapping[str, Declaration]] = {DELIVER.name: DELIVER}
