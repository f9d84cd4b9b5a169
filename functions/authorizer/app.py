"""API key -> tenant and scopes. Only tells who asks; the door in `mayfly.web.http` answers 401 and
403.

Its answers are cached by API Gateway per Authorization header and shared by all routes, so it never
looks at the route.
"""

from collections.abc import Callable
from typing import Any

from aws_lambda_powertools.utilities.typing import LambdaContext
from mayfly import tenants
from mayfly.web.errors import Unauthenticated

from .deps import Deps

__all__ = ["build"]


def build(deps: Deps) -> Callable[[dict[str, Any], LambdaContext], dict[str, Any]]:
    """The handler of the authorizer.

    A store that does not answer is an error of the authorizer: 500, and nothing cached.
    """

    def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        try:
            found = tenants.authenticate(
                event["headers"].get("authorization", ""), deps.tenants, now_ms=deps.clock()
            )
        except Unauthenticated as problem:
            deps.observe.log.info("a credential was refused", reason=problem.reason)
            return {"isAuthorized": True, "context": {"reason": problem.reason}}
        if not tenants.note_use(found, deps.tenants, now_ms=deps.clock()):
            deps.observe.log.warning(
                "a key's use could not be noted; the next one tries again", key_id=found.key_id
            )
        return {
            "isAuthorized": True,
            "context": {"tenant": found.tenant, "scopes": " ".join(sorted(found.scopes))},
        }

    return handler
