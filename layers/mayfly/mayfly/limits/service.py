"""Rate limits in DynamoDB, shared by all processes: a conditional write decides each admission."""

import logging
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from mayfly.aws.dynamodb import RequestRefused
from mayfly.core import deadline
from mayfly.core.errors import InvalidRequest, StoreUnavailable
from mayfly.limits.errors import QuotaExceeded
from mayfly.limits.model import Decision, Limit
from mayfly.limits.rules import check
from mayfly.limits.store import LimitStore

__all__ = ["limited", "quota", "read", "reset", "take", "take_all"]

_LOG: Final = logging.getLogger(__name__)

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


def take(store: LimitStore, limit: Limit, *, tenant: str, key: str, cost: int = 1) -> Decision:
    """Takes `cost` from the share of `key` in a limit, or refuses.

    `Algorithm` describes how much each algorithm admits. A cost of 0 takes nothing, and costs one
    read.

    Raises InvalidRequest if the limit is invalid, or if it could never admit the cost. Raises
    StoreUnavailable if the store did not decide; the caller then chooses whether to admit or to
    refuse.
    """
    check(limit, key, cost)
    return store.take(tenant, limit, key, cost)


def read(store: LimitStore, limit: Limit, *, tenant: str, key: str, cost: int = 1) -> Decision:
    """Returns the decision that a take of `cost` would get now. Takes nothing.

    `remaining` is what is left now. Costs one read. Raises the errors of `take`.
    """
    check(limit, key, cost)
    return store.read(tenant, limit, key, cost)


def reset(store: LimitStore, limit: Limit, *, tenant: str, key: str) -> None:
    """Forgets what `key` has taken from a limit: the whole limit is free again.

    Other processes may refuse for one more second by what they saw last. With `FIXED` it is the
    present window that is forgotten. If a response is lost, the SDK's retry may forget takes made
    since. Costs one write. Raises InvalidRequest, StoreUnavailable.
    """
    check(limit, key, 0)
    store.reset(tenant, limit, key)


def take_all(
    store: LimitStore, limits: Sequence[Limit], *, tenant: str, key: str, cost: int = 1
) -> Decision:
    """Takes `cost` from all of several limits, or from none of them.

    They may have different periods, such as a second and a day; their names must differ. Returns
    the refusal that lasts longest, or the admission that leaves least. Raises the errors of `take`.
    """
    for limit in limits:
        check(limit, key, cost)
    if not limits or len({limit.name for limit in limits}) < len(limits):
        raise InvalidRequest("limits", "must have at least one limit, and different names")
    return store.take_all(tenant, limits, key, cost)


def limited(
    store: Callable[[], LimitStore],
    limit: Limit,
    *,
    tenant: str,
    key: Callable[_Arguments, str],
    fail_open: bool,
    on_fail_open: Callable[[], None] = lambda: None,
) -> Callable[[Callable[_Arguments, _Result]], Callable[_Arguments, _Result]]:
    """Decorates a handler: each call takes 1 from a limit, or raises QuotaExceeded (429).

    `key` gets the handler's arguments and returns the key whose share the call takes from. If the
    store does not answer, `fail_open` calls the handler; otherwise StoreUnavailable (503) is
    raised. `fail_open` has to be stated, since it depends on the handler. `on_fail_open` is called
    for each call that is let through for that reason, to count it. Raises ValueError immediately if
    the limit is invalid.
    """
    try:
        check(limit, "any", 1)
    except InvalidRequest as problem:
        raise ValueError(str(problem)) from problem

    def decorate(handler: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
        @wraps(handler)
        def limited_handler(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
            try:
                with deadline.optional() if fail_open else nullcontext():
                    decision = take(store(), limit, tenant=tenant, key=key(*args, **kwargs))
            except RequestRefused:  # a table or a permission is missing; the store is not down
                raise
            except StoreUnavailable:
                if not fail_open:
                    raise
                _LOG.warning(
                    "the limit %r could not be read; the call was allowed, because of fail_open",
                    limit.name,
                )
                on_fail_open()
            else:
                if not decision.is_allowed:
                    raise _exceeded(decision)
            return handler(*args, **kwargs)

        return limited_handler

    return decorate


def quota(
    store: LimitStore,
    requests_a_minute: int,
    *,
    on_fail_open: Callable[[], None] = lambda: None,
) -> Callable[[str], None]:
    """Returns a function that limits the requests of each tenant to the whole API.

    It takes one request from the tenant's share, or raises QuotaExceeded. If the store does not
    answer, the request is allowed, and `on_fail_open` is called; its own store calls will then show
    the outage. Raises ValueError for a number that no limit can have.
    """
    try:
        check(Limit("requests", requests_a_minute, period_seconds=60), "all", 1)
    except InvalidRequest as problem:
        raise ValueError(f"requests_a_minute is not a limit: {problem}") from problem
    # A request cannot contain this name, so no other caller takes from this limit.
    limit = Limit("api/requests", requests_a_minute, period_seconds=60)

    def take_one(tenant: str) -> None:
        try:
            with deadline.optional():
                decision = store.take(tenant, limit, "all", 1)
        except RequestRefused:  # a table or a permission is missing; the store is not down
            raise
        except StoreUnavailable:
            _LOG.warning(
                "the limit of tenant %r could not be read; the request was allowed", tenant
            )
            on_fail_open()
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
