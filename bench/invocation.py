"""Lambda's context for handlers that a benchmark calls itself."""

import time

from aws_lambda_powertools.utilities.typing import LambdaContext

__all__ = ["Invocation"]


class Invocation(LambdaContext):
    """Lambda's context, with a deadline that comes nearer."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds
        self._aws_request_id = "request"

    # A static method in Lambda's context.
    def get_remaining_time_in_millis(self) -> int:  # type: ignore[override]  # static there
        """Returns the time that is left of the invocation."""
        return int((self._ends - time.monotonic()) * 1000)
