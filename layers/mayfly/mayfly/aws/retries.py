"""When a request is sent again: the standard mode of AWS SDKs.

https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
"""

import threading
from typing import Final

__all__ = ["Budget", "is_retryable", "pause_seconds"]

#: Error codes of load, and of failures that pass.
_PASSING: Final = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "InternalServerError",
        "LimitExceededException",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
_PASSING_STATUSES: Final = frozenset({500, 502, 503, 504})
_CAPACITY: Final = 500
#: Costs of a retry: after a timeout, and after any other failure.
_TIMEOUT_COST: Final = 10
_COST: Final = 5
#: Refund for a success without a retry.
_REFUND: Final = 1
_LONGEST_PAUSE: Final = 20.0


class Budget:
    """A client's budget of retries, shared by its threads.

    It keeps an overloaded service from getting several times the usual load.
    """

    def __init__(self) -> None:
        self._left = _CAPACITY
        self._lock = threading.Lock()

    def take(self, *, is_timeout: bool) -> int:
        """Takes a retry from the budget, and returns what it cost; 0 if the budget is used up."""
        cost = _TIMEOUT_COST if is_timeout else _COST
        with self._lock:
            if self._left < cost:
                return 0
            self._left -= cost
            return cost

    def refund(self, cost: int) -> None:
        """Gives back what the last retry of a successful call has cost, or 1 without a retry."""
        if not cost and self._left >= _CAPACITY:
            return
        with self._lock:
            self._left = min(_CAPACITY, self._left + (cost or _REFUND))


def is_retryable(code: str, status: int) -> bool:
    """Returns whether a request that got this error may succeed if it is sent again."""
    return code in _PASSING or status in _PASSING_STATUSES


def pause_seconds(tries: int, share: float) -> float:
    """Returns the seconds before the next request, after `tries` requests.

    `share`, from 0 to 1, is random: full jitter.
    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    return min(share * 2.0 ** (tries - 1), _LONGEST_PAUSE)
