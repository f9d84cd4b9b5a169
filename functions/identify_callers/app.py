"""Authorizer of Mayfly's own routes: it names the caller to their functions, and refuses none.

The function that serves the route answers 401 and 403, with the reason (`mayfly.web.access`). So
only routes whose functions are built with `mayfly.web` may name it (`Callers` in the template).
Routes of other functions name `Keys`, which refuses (`functions/authorizer`).

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
            return {"isAuthorized": True, "context": identify(event)}

    def identify(event: dict[str, Any]) -> dict[str, str]:
        authorization = event["headers"].get("authorization", "")
        try:
            return context_of(tenants.identify(deps.tenants, authorization, deps.observe))
        except Unauthenticated as problem:
            deps.observe.count("KeyRefused")
            deps.observe.log.info(
                "a credential was refused; the caller gets a 401", reason=problem.reason
            )
            return {"reason": problem.reason}

    return handler
