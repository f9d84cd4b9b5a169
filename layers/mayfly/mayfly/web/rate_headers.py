"""Header fields that describe a limit (draft-ietf-httpapi-ratelimit-headers)."""

__all__ = ["rate_headers"]


def rate_headers(
    name: str,
    limit: int,
    period_seconds: int,
    remaining: int,
    reset_seconds: int,
    *,
    is_allowed: bool,
) -> dict[str, str]:
    """Returns `RateLimit-Policy` and `RateLimit`; for a refusal also `Retry-After`."""
    headers = {
        "RateLimit-Policy": f'"{name}";q={limit};w={period_seconds}',
        "RateLimit": f'"{name}";r={remaining};t={reset_seconds}',
    }
    # Whole seconds (RFC 9110, 10.2.3), rounded up: an earlier retry would be refused again.
    return headers if is_allowed else {**headers, "Retry-After": str(max(1, reset_seconds))}
