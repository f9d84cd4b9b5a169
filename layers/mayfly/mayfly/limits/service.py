"""Rate limits that no process keeps: each admission is decided by a conditional write."""

import logging
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from mayfly.aws.dynamodb import RequestRefused
from mayfly.core.errors import InvalidRequest, StoreUnavailable
from mayfly.limits.errors import QuotaExceeded
from mayfly.limits.model import Decision, Limit
from mayfly.limits.rules import check
from mayfly.limits.store import LimitStore

__all__ = ["limited", "quota", "take", "take_all"]

_LOG: Final = logging.getLogger(__name__)

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def take(store: LimitStore, limit: Limit, *, tenant: str, key: str, cost: int = 1) -> Decision:
    """Takes `cost` from a limit's share of `key`, or refuses; `Algorithm` has what each admits at
    most.

    Raises InvalidRequest for a limit that makes no sense and a cost that it could never admit,
    StoreUnavailable where nothing is known: to let in or to refuse then is the caller's choice.
    """
    check(limit, key, cost)
    return store.take(tenant, limit, key, cost)


def take_all(
    store: LimitStore, limits: Sequence[Limit], *, tenant: str, key: str, cost: int = 1
) -> Decision:
    """Takes from several limits (so many a second, and so many a day), or from none of them. Their
    names must differ.

    Returns the refusal that lasts longest, or the admission that leaves least. Raises as `take`.
    """
    for limit in limits:
        check(limit, key, cost)
    if not limits or len({limit.name for limit in limits}) < len(limits):
        raise InvalidRequest("limits", "must be at least one, with names that differ")
    return store.take_all(tenant, limits, key, cost)


def limited(
    store: Callable[[], LimitStore],
    limit: Limit,
    *,
    tenant: str,
    key: Callable[_Arguments, str],
    fail_open: bool,
) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """Lets a handler's calls through as far as a limit goes; raises QuotaExceeded, an answer of
    429, for the others.

    `key` says whose share a call takes from, from the handler's own arguments. Where the store does
    not answer, `fail_open` lets the call through; otherwise StoreUnavailable passes, an answer of
    503. There is no default: it is yours to say.
    """

    def decorate(handler: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        @wraps(handler)
        def guarded(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
            try:
                decision = take(store(), limit, tenant=tenant, key=key(*args, **kwargs))
            except RequestRefused:  # no outage: a table or a permission is missing, for good
                raise
            except StoreUnavailable:
                if not fail_open:
                    raise
                _LOG.warning(
                    "the limit %r could not be asked; the call was let through, as its guard says",
                    limit.name,
                )
            else:
                if not decision.is_allowed:
                    raise _exceeded(decision)
            return handler(*args, **kwargs)

        return guarded

    return decorate


def quota(store: LimitStore, requests_a_minute: int) -> Callable[[str], None]:
    """A limit on all that each tenant asks of the API: a function that takes one request from a
    tenant's share, or raises QuotaExceeded.

    A store that does not answer lets the request through, whose own work will find out.
    """
    # A name that no request can give, so that nobody else takes from it.
    limit = Limit("api/requests", requests_a_minute, period_seconds=60)

    def take_one(tenant: str) -> None:
        try:
            decision = store.take(tenant, limit, "all", 1)
        except RequestRefused:  # no outage: a table or a permission is missing, for good
            raise
        except StoreUnavailable:
            _LOG.warning("a tenant's limit could not be asked; its request was let through")
            return
        if not decision.is_allowed:
            raise _exceeded(decision)

    return take_one


def _exceeded(decision: Decision) -> QuotaExceeded:
    return QuotaExceeded(
        decision.limit.name,
        limit=decision.limit.limit,
        period_seconds=decision.limit.period_seconds,
        remaining=decision.remaining,
        reset_seconds=decision.reset_seconds,
    )
