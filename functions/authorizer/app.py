"""Authorizer of API Gateway: refuses callers without a valid API key.

A request without one never reaches the function of a route that names this authorizer (`Keys` in
the template). So a function behind it may do without checks of its own.

API Gateway caches the answer by Authorization header for all routes, so it depends on no route.
"""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from mayfly import tenants
from mayfly.core import deadline
from mayfly.web.access import context_of
from mayfly.web.errors import Unauthenticated

from .deps import Deps

__all__ = ["build"]


def build(deps: Deps) -> Callable[[dict[str, Any], LambdaContext], dict[str, Any]]:
    """Returns the handler of the authorizer.

    If the store does not answer, the handler raises: the caller gets a 500, which is not cached.
    """

    def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        remaining_ms = context.get_remaining_time_in_millis()
        with deps.observe.invocation(), deadline.limited(remaining_ms):
            return authorize(event)

    def authorize(event: dict[str, Any]) -> dict[str, Any]:
        authorization = event["headers"].get("authorization", "")
        try:
            found = tenants.identify(deps.tenants, authorization, deps.observe)
        except Unauthenticated as problem:
            deps.observe.count("KeyRefused")
            deps.observe.log.info(
                "a credential was refused; the caller gets the gateway's 403",
                reason=problem.reason,
            )
            return {"isAuthorized": False}
        return {"isAuthorized": True, "context": context_of(found)}

    return handler
