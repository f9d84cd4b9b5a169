"""The HTTP edge of a function: its routes with their scopes, and one answer for each error.

A handler calls the library and returns an answer. It never builds an error answer itself.
"""

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote

from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response
from aws_lambda_powertools.utilities.typing import LambdaContext

from mayfly.core import deadline
from mayfly.core.errors import InvalidRequest, MayflyError
from mayfly.core.json_input import NAME, NAME_PROBLEM, parse_json
from mayfly.core.observability import Observer
from mayfly.web.access import PUBLIC, Quota, authorize, caller
from mayfly.web.errors import MethodNotAllowed, RouteNotFound
from mayfly.web.problems import problem

__all__ = ["PUBLIC", "Api", "Handler", "Route", "api_of", "read_name", "route_shape"]

Handler = Callable[[dict[str, Any], LambdaContext], dict[str, Any]]
#: A function that serves a route. Its arguments are the parameters in the path.
Page = Callable[..., Response[str]]
#: A function that returns the path templates of the whole API, each with its methods.
Methods = Callable[[], Mapping[str, list[str]]]

#: The largest body in bytes; larger ones are refused before they are parsed.
BODY_LIMIT: Final = 1024 * 1024


class Route:
    """The scope that a route needs, and the function that reads its body."""

    def __init__(self, scope: str, body: Callable[..., Any] | None) -> None:
        self.scope = scope
        self.body = body


class Api:
    """The routes of one function.

    A route must state its scope: `@api.post("/jobs", scope="jobs:write")`, or PUBLIC. `body` is the
    function by which the handler reads its JSON body; the description of the API is derived from
    it, and the handler calls it. `quota` is called for every request with the required scope.

    `all_routes` is for the function that gets requests without a route: with it the function
    distinguishes a wrong method (405) from an unknown path (404). There, public pages answer HEAD
    as GET (RFC 9110, 9.3.2); the gateway leaves the body out.
    """

    def __init__(
        self, observe: Observer, *, quota: Quota | None = None, all_routes: Methods | None = None
    ) -> None:
        self._observe = observe
        self._quota = quota
        self._all_routes = all_routes
        #: Routes by method and path, with `{}` in place of each parameter.
        self.routes: dict[str, Route] = {}
        #: Paths of pages that answer HEAD, with `{}` in place of each parameter.
        self._heads: set[str] = set()
        self.resolver = APIGatewayHttpResolver(
            json_body_deserializer=lambda raw: parse_json(raw, limit=BODY_LIMIT)
        )
        self.resolver.exception_handler(MayflyError)(self._answer_error)
        self.resolver.not_found(self._answer_unrouted)

    # ------------------------------------------------------------ routes

    def get(self, path: str, *, scope: str) -> Callable[[Page], Page]:
        """Registers a page for GET."""
        return self._route("GET", path, scope, None)

    def post(
        self, path: str, *, scope: str, body: Callable[..., Any] | None = None
    ) -> Callable[[Page], Page]:
        """Registers a page for POST."""
        return self._route("POST", path, scope, body)

    def put(self, path: str, *, scope: str, body: Callable[..., Any]) -> Callable[[Page], Page]:
        """Registers a page for PUT."""
        return self._route("PUT", path, scope, body)

    def patch(
        self, path: str, *, scope: str, body: Callable[..., Any] | None = None
    ) -> Callable[[Page], Page]:
        """Registers a page for PATCH."""
        return self._route("PATCH", path, scope, body)

    def delete(self, path: str, *, scope: str) -> Callable[[Page], Page]:
        """Registers a page for DELETE."""
        return self._route("DELETE", path, scope, None)

    def _route(
        self, method: str, path: str, scope: str, body: Callable[..., Any] | None
    ) -> Callable[[Page], Page]:
        self.routes[route_shape(f"{method} {path}")] = Route(scope, body)
        register: Callable[[Page], Page] = self.resolver.route(
            path, method, middlewares=[authorize(scope, self._quota)]
        )
        if scope != PUBLIC or method != "GET":
            return register
        self._heads.add(route_shape(path))
        register_head: Callable[[Page], Page] = self.resolver.route(
            path, "HEAD", include_in_schema=False
        )
        return lambda page: register_head(register(page))

    # ------------------------------------------------------------ the request

    @property
    def tenant(self) -> str:
        """The caller's tenant, for routes that need a scope."""
        return caller(self.resolver).tenant

    @property
    def has_body(self) -> bool:
        """True if the request has a body."""
        return bool(self.resolver.current_event.body)

    def json_body(self) -> Any:
        """Returns the request's JSON body. Raises InvalidRequest or PayloadTooLarge."""
        event = self.resolver.current_event
        raw: str | bytes = event.get("body") or ""
        if event.is_base64_encoded:
            raw = base64.b64decode(raw)
        return parse_json(raw, limit=BODY_LIMIT)

    def header(self, name: str) -> str | None:
        """Returns a request header, None if it is missing. Case in `name` does not matter."""
        return self.resolver.current_event.headers.get(name.lower())

    def cookies(self) -> list[str]:
        """Returns the request's cookies, each `name=value`."""
        return list(self.resolver.current_event.get("cookies") or [])

    def query(self, name: str) -> str | None:
        """Returns a query parameter, None if it is missing."""
        return self.resolver.current_event.query_string_parameters.get(name)

    @property
    def source_address(self) -> str:
        """The client's address, from API Gateway.

        Header fields that name an address are not used, because any client can send them (ASVS 5.0,
        4.1.3).
        """
        return str(self.resolver.current_event.request_context.http.source_ip)

    @property
    def domain_name(self) -> str:
        """The host name to which the request was sent, empty if API Gateway passes none."""
        return self.resolver.current_event.request_context.domain_name or ""

    # ------------------------------------------------------------ the edge

    def handler(self) -> Handler:
        """Returns the Lambda handler.

        It sets the log's correlation id, writes metrics, and answers 500 to an unexpected error.
        """

        def handle(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
            observe = self._observe
            observe.log.append_keys(function_request_id=context.aws_request_id)
            remaining_ms = context.get_remaining_time_in_millis()
            with observe.invocation(), deadline.limited(remaining_ms):
                return self._resolve(event, context)

        vars(handle)["api"] = self
        return handle

    def _resolve(self, event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
        request_id = event["requestContext"]["requestId"]
        self._observe.log.set_correlation_id(request_id)
        try:
            reply: dict[str, Any] = self.resolver.resolve(event, context)
            return reply
        except Exception:
            self._observe.count("RequestFailed")
            self._observe.log.exception(
                "a request failed with an unexpected error; the caller got a 500 with this request "
                "id"
            )
            error = MayflyError(
                "an unexpected error occurred; include the request id when you report it"
            )
            answer = problem(error, request_id)
            return {
                "statusCode": answer.status_code,
                "headers": answer.headers,
                "body": answer.body,
            }

    def _answer_error(self, error: MayflyError) -> Response[str]:
        if error.status >= 500:
            self._observe.count("RequestFailed")
            self._observe.log.warning(
                "a request was answered with an error; the caller may retry it",
                error=error.code,
                detail=str(error),
            )
        return problem(error, self._request_id())

    def _answer_unrouted(self, _: Exception) -> Response[str]:
        return problem(self._routing_error(), self._request_id())

    def _routing_error(self) -> MayflyError:
        event = self.resolver.current_event
        if route_shape(str(event.get("routeKey"))) in self.routes:
            # API Gateway accepts any character in a parameter; Powertools accepts fewer.
            return InvalidRequest("path", "has a character that names and ids may not contain")
        for template, methods in (self._all_routes() if self._all_routes else {}).items():
            if _matches(template, event.raw_path):
                heads = ["HEAD"] if route_shape(template) in self._heads else []
                return MethodNotAllowed(
                    event.http_method, event.raw_path, sorted({*methods, *heads})
                )
        return RouteNotFound(event.raw_path)

    def _request_id(self) -> str:
        return str(self.resolver.current_event.request_context.request_id)


def api_of(handler: Handler) -> Api:
    """Returns the routes of a handler, for programs that describe them."""
    api = vars(handler)["api"]
    assert isinstance(api, Api)
    return api


def read_name(part: str, field: str = "name") -> str:
    """Returns a name from a path. Raises InvalidRequest.

    The name may contain percent-encoded characters, such as `@` and `+`.
    """
    name = unquote(part)
    if not NAME.fullmatch(name):
        raise InvalidRequest(field, NAME_PROBLEM)
    return name


def route_shape(route: str) -> str:
    """Returns a route with `{}` in place of each parameter.

    `POST /jobs/{id}/cancel` and `POST /jobs/<job_id>/cancel` both give `POST /jobs/{}/cancel`.
    """
    return re.sub(r"\{[^}]*\}|<[^>]*>", "{}", route)


def _matches(template: str, path: str) -> bool:
    expected, actual = template.split("/"), path.split("/")
    return len(expected) == len(actual) and all(
        part == template_part or (template_part.startswith("{") and part)
        for template_part, part in zip(expected, actual, strict=True)
    )
