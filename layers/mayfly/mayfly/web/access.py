"""Access control: authorizes callers for routes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware

from mayfly.web.errors import Forbidden, Unauthenticated

__all__ = ["PUBLIC", "Caller", "Quota", "authorize", "caller", "context_of"]

#: The scope of a route that needs no credential.
PUBLIC: Final = "public"

#: Takes one request from a tenant's share (`mayfly.limits.quota`); raises QuotaExceeded.
Quota = Callable[[str], None]

Middleware = Callable[[APIGatewayHttpResolver, NextMiddleware], Response[Any]]


@dataclass(frozen=True)
class Caller:
    """The tenant and the scopes of an API key, as the authorizer returned them.

    Every table key begins with the tenant.
    """

    tenant: str
    scopes: frozenset[str]


def context_of(identified: Caller) -> dict[str, str]:
    """Returns the context with which an authorizer names the caller to functions."""
    return {"tenant": identified.tenant, "scopes": " ".join(sorted(identified.scopes))}


def authorize(scope: str, quota: Quota | None) -> Middleware:
    """Returns the middleware of a route that needs `scope`.

    The middleware raises Unauthenticated and Forbidden; `quota` raises QuotaExceeded.
    """

    def check(app: APIGatewayHttpResolver, next_middleware: NextMiddleware) -> Response[Any]:
        if scope != PUBLIC:
            authenticated = _read_caller(app.current_event.raw_event)
            if scope not in authenticated.scopes:
                raise Forbidden(scope)
            if quota is not None:
                quota(authenticated.tenant)
            app.append_context(caller=authenticated)
        return next_middleware(app)

    return check


def caller(app: APIGatewayHttpResolver) -> Caller:
    """Returns the caller of a route that needs a scope."""
    authenticated = app.context["caller"]
    assert isinstance(authenticated, Caller)
    return authenticated


def _read_caller(event: Mapping[str, Any]) -> Caller:
    context = event.get("requestContext", {}).get("authorizer", {}).get("lambda") or {}
    if not context.get("tenant"):
        raise Unauthenticated(context.get("reason") or "no credential reached the function")
    return Caller(tenant=context["tenant"], scopes=frozenset(context.get("scopes", "").split()))
