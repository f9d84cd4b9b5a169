"""Authorizer of API Gateway: reads an API key, and returns its tenant and scopes.

It only authenticates the caller. `mayfly.web.access`, in the function that serves the route,
answers 401 and 403. API Gateway caches the authorizer's answer by Authorization header for all
routes, so the answer does not depend on the route.
"""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from mayfly import tenants
from mayfly.core import deadline
from mayfly.web.errors import Unauthenticated

from .deps import Deps

__all__ = ["build"]


def build(deps: Deps) -> Callable[[dict[str, Any], LambdaContext], dict[str, Any]]:
    """Returns the handler of the authorizer.

    If the store does not answer, the handler raises: the caller gets a 500, which is not cached.
    """

    def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        with deadline.limited(context.get_remaining_time_in_millis()):
            return authorize(event)

    def authorize(event: dict[str, Any]) -> dict[str, Any]:
        try:
            key = tenants.authenticate(deps.tenants, event["headers"].get("authorization", ""))
        except Unauthenticated as problem:
            deps.observe.log.info(
                "a credential was refused; the caller gets a 401", reason=problem.reason
            )
            return {"isAuthorized": True, "context": {"reason": problem.reason}}
        if not tenants.note_use(deps.tenants, key):
            deps.observe.log.warning(
                "the time of a key's use could not be stored; its next use retries",
                key_id=key.key_id,
            )
        return {
            "isAuthorized": True,
            "context": {"tenant": key.tenant, "scopes": " ".join(sorted(key.scopes))},
        }

    return handler
