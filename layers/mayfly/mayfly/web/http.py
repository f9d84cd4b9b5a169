"""The HTTP edge: one resolver per function, one table from errors to answers, one place that lets
callers in.

A handler states its routes and scopes and calls the library; it never builds an error answer
itself.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.event_handler.middlewares import NextMiddleware
from aws_lambda_powertools.utilities.typing import LambdaContext

from mayfly.core.errors import (
    Forbidden,
    InvalidRequest,
    MayflyError,
    MethodNotAllowed,
    QuotaExceeded,
    RouteNotFound,
    Unauthenticated,
)
from mayfly.core.json_input import canonical_json, parse_json
from mayfly.core.observability import Observer

__all__ = [
    "PUBLIC",
    "Caller",
    "Handler",
    "Quota",
    "answer",
    "caller",
    "cookies",
    "document",
    "entrypoint",
    "header",
    "json_body",
    "nothing",
    "query",
    "rate_limit",
    "resolver",
    "resolver_of",
    "text",
]

Handler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]

#: Takes one request from the share of a tenant (`mayfly.limits.quota`); raises QuotaExceeded.
Quota = Callable[[str], None]

#: The scope of a route that needs no credential.
PUBLIC: Final = "public"
#: Bodies above this are refused before they are parsed, in bytes.
BODY_LIMIT: Final = 1024 * 1024

#: On every answer (ASVS 5.0: 3.4.1, 3.4.3 to 3.4.6, 14.3.2): nothing is kept, guessed at, framed,
#: or told to other sites.
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True)
class Caller:
    """Who is asking, as the authorizer found it: the tenant that all keys start with, and what it
    may do.
    """

    tenant: str
    scopes: frozenset[str]


def resolver(
    observe: Observer,
    scopes: Mapping[str, str],
    *,
    quota: Quota | None = None,
    all_routes: Mapping[str, list[str]] | None = None,
) -> APIGatewayHttpResolver:
    """A Powertools resolver with the error table and the door.

    `scopes` maps every route key (`POST /jobs`) to the scope it needs, or to PUBLIC. A route that
    is not in it is refused, so that a forgotten line closes a door and never opens one. `quota` is
    asked for every caller that is let in. `all_routes` (path templates to methods) is for the
    function that answers what no route takes: it tells a wrong method (405) from an unknown path
    (404).
    """
    app = APIGatewayHttpResolver(
        json_body_deserializer=lambda raw: parse_json(raw, limit=BODY_LIMIT)
    )
    app.use([_door(scopes, quota)])

    @app.exception_handler(MayflyError)
    def _to_answer(error: MayflyError) -> Response[str]:
        if error.status >= 500:
            observe.log.warning(
                "answered with an error; the caller is told to try again",
                error=error.code,
                detail=str(error),
            )
        return _problem(app, error)

    @app.not_found
    def _no_such_route(_: Exception) -> Response[str]:
        return _problem(app, _why_not_routed(app, scopes, all_routes or {}))

    return app


def entrypoint(app: APIGatewayHttpResolver, observe: Observer) -> Handler:
    """The Lambda handler of a resolver: correlation id, metrics, and the edge where the unforeseen
    becomes a plain 500.
    """

    def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        observe.log.set_correlation_id(event["requestContext"]["requestId"])
        try:
            reply: dict[str, Any] = app.resolve(event, context)
            return reply
        except Exception:
            observe.log.exception(
                "a request failed in an unforeseen way; the caller got a 500 with this request id"
            )
            problem = _problem(
                app,
                MayflyError(
                    "something went wrong on our side; quote the request id when you report it"
                ),
            )
            return {
                "statusCode": problem.status_code,
                "headers": problem.headers,
                "body": problem.body,
            }

    def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        observe.log.append_keys(function_request_id=context.aws_request_id)
        reply = handle(event, context)
        if observe.metrics.metric_set:
            observe.metrics.flush_metrics()
        return reply

    vars(handler)["resolver"] = app
    return handler


def resolver_of(handler: Handler) -> APIGatewayHttpResolver:
    """The resolver behind a handler that `entrypoint` made, for what describes it."""
    found = vars(handler)["resolver"]
    assert isinstance(found, APIGatewayHttpResolver)
    return found


def answer(
    body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response[str]:
    """A JSON answer that no cache keeps."""
    return Response(
        status, "application/json", canonical_json(body), headers={**_HEADERS, **(headers or {})}
    )


def text(body: str) -> Response[str]:
    """A plain-text answer that no cache keeps."""
    return Response(200, "text/plain; charset=utf-8", body, headers=dict(_HEADERS))


def document(body: str) -> Response[str]:
    """A JSON answer whose text stands."""
    return Response(200, "application/json", body, headers=dict(_HEADERS))


def nothing() -> Response[str]:
    """An answer without a body: it is done."""
    return Response(204, headers=dict(_HEADERS))


def rate_limit(
    name: str,
    limit: int,
    period_seconds: int,
    remaining: int,
    reset_seconds: int,
    *,
    is_allowed: bool,
) -> dict[str, str]:
    """`RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers), and Retry-After
    with a refusal, never earlier.
    """
    found = {
        "RateLimit-Policy": f'"{name}";q={limit};w={period_seconds}',
        "RateLimit": f'"{name}";r={remaining};t={reset_seconds}',
    }
    return found if is_allowed else {**found, "Retry-After": str(max(1, reset_seconds))}


def caller(app: APIGatewayHttpResolver) -> Caller:
    """The caller whom the door let in. Only for routes that need a scope."""
    found = app.context["caller"]
    assert isinstance(found, Caller)
    return found


def json_body(app: APIGatewayHttpResolver) -> Any:
    """The request's JSON body. Raises InvalidRequest or PayloadTooLarge."""
    event = app.current_event
    raw: str | bytes = event.get("body") or ""
    if event.is_base64_encoded:
        raw = base64.b64decode(raw)
    return parse_json(raw, limit=BODY_LIMIT)


def header(app: APIGatewayHttpResolver, name: str) -> str | None:
    """A request header, by any case of its name."""
    return app.current_event.headers.get(name.lower())


def cookies(app: APIGatewayHttpResolver) -> list[str]:
    """The request's cookies, each `name=value`."""
    return list(app.current_event.get("cookies") or [])


def query(app: APIGatewayHttpResolver, name: str) -> str | None:
    """A query parameter."""
    return app.current_event.query_string_parameters.get(name)


def _door(
    scopes: Mapping[str, str], quota: Quota | None
) -> Callable[[APIGatewayHttpResolver, NextMiddleware], Response[Any]]:
    def let_in(app: APIGatewayHttpResolver, next_middleware: NextMiddleware) -> Response[Any]:
        route = str(app.current_event.get("routeKey"))
        needed = scopes.get(route)
        if needed != PUBLIC:
            found = _found_by_authorizer(app.current_event.raw_event)
            if needed is None or needed not in found.scopes:
                raise Forbidden(needed or route)
            if quota is not None:
                quota(found.tenant)
            app.append_context(caller=found)
        return next_middleware(app)

    return let_in


def _found_by_authorizer(event: Mapping[str, Any]) -> Caller:
    context = event.get("requestContext", {}).get("authorizer", {}).get("lambda") or {}
    if not context.get("tenant"):
        raise Unauthenticated(context.get("reason") or "no credential reached the function")
    return Caller(tenant=context["tenant"], scopes=frozenset(context.get("scopes", "").split()))


def _problem(app: APIGatewayHttpResolver, error: MayflyError) -> Response[str]:
    """`error` as RFC 9457 problem details."""
    body: dict[str, Any] = {
        "type": error.type_uri or f"urn:mayfly:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": str(error),
        "code": error.code,
        "request_id": app.current_event.request_context.request_id,
    }
    headers = dict(_HEADERS)
    if isinstance(error, InvalidRequest):
        body["field"] = error.field
    if isinstance(error, MethodNotAllowed):
        headers["Allow"] = ", ".join(error.allowed)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, QuotaExceeded):
        headers |= rate_limit(
            error.policy,
            error.limit,
            error.period_seconds,
            error.remaining,
            error.reset_seconds,
            is_allowed=False,
        )
    if retry_after := getattr(error, "retry_after_seconds", None):
        headers["Retry-After"] = str(retry_after)
    # ASCII: a message may quote what cannot be encoded.
    return Response(error.status, "application/problem+json", json.dumps(body), headers=headers)


def _why_not_routed(
    app: APIGatewayHttpResolver, scopes: Mapping[str, str], routes: Mapping[str, list[str]]
) -> MayflyError:
    event = app.current_event
    if event.get("routeKey") in scopes and event.get("routeKey") != "$default":
        return InvalidRequest("path", "has a part with characters that no name and no id has")
    for template, methods in routes.items():
        if _matches(template, event.raw_path):
            return MethodNotAllowed(event.http_method, event.raw_path, methods)
    return RouteNotFound(event.raw_path)


def _matches(template: str, path: str) -> bool:
    wanted, found = template.split("/"), path.split("/")
    return len(wanted) == len(found) and all(
        w == f or (w.startswith("{") and f) for w, f in zip(wanted, found, strict=True)
    )
