"""Errors of limits."""

from collections.abc import Mapping

from mayfly.core.errors import MayflyError
from mayfly.web.rate_headers import rate_headers

__all__ = ["QuotaExceeded"]


class QuotaExceeded(MayflyError):
    """A limit is used up, so the request was refused (RFC 6585, 4); nothing was taken from it.

    Its headers follow the draft of RateLimit header fields, 4. Times are in seconds, rounded up.
    """

    status = 429
    type_uri = "https://iana.org/assignments/http-problem-types#quota-exceeded"

    def __init__(
        self, policy: str, *, limit: int, period_seconds: int, remaining: int, reset_seconds: int
    ) -> None:
        self.policy = policy
        self.limit = limit
        self.period_seconds = period_seconds
        self.remaining = remaining
        self.reset_seconds = reset_seconds
        super().__init__(
            f"the limit {policy!r} ({limit} in {period_seconds} s) is used up; retry in "
            f"{reset_seconds} s"
        )

    def headers(self) -> Mapping[str, str]:
        """Returns RateLimit, RateLimit-Policy and Retry-After."""
        return rate_headers(
            self.policy,
            self.limit,
            self.period_seconds,
            self.remaining,
            self.reset_seconds,
            is_allowed=False,
        )
