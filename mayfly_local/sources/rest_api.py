"""REST APIs: requests in, responses out, with API Gateway's own errors.

https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-rest-api.html
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs

from aiohttp import web

from mayfly_local.application.apis import Api, Mock, Route, Validation
from mayfly_local.compute.invocation import Failure
from mayfly_local.logs import Log
from mayfly_local.sources.authorizations import Caller, Guests, Invoke
from mayfly_local.sources.front import Front
from mayfly_local.sources.http_request import Call, HttpRequest
from mayfly_local.sources.refusals import Refused, rest_refusal
from mayfly_local.sources.replies import MalformedReply, rest_response
from mayfly_local.sources.rest_events import (
    is_binary,
    request_context,
    rest_event,
    signer_identity,
    with_identity,
)
from mayfly_local.sources.routes import find_stage
from mayfly_local.sources.shares import Shares
from mayfly_local.sources.validations import body_problem

__all__ = ["RestApi"]

#: Seconds that the API waits for a function, whatever the function's own timeout.
#: https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html
_INTEGRATION_SECONDS: Final = 29.0
_DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS: Final = (
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
)  # fmt: skip
#: Stands for the route of a request that has none.
_NO_ROUTE: Final = Route("", "", "", None)


class RestApi(Front):
    """Answers requests for one REST API."""

    def __init__(self, api: Api, invoke: Invoke, guests: Guests, log: Log, shares: Shares) -> None:
        super().__init__(api, invoke, guests, log, shares, seconds=_INTEGRATION_SECONDS)

    @property
    def too_large(self) -> Refused:
        """The answer to a body above the limit."""
        return Refused(413, "HTTP content length exceeded 10485760 bytes.", "REQUEST_TOO_LARGE")

    @property
    def unknown_route(self) -> Refused:
        """The answer to a request that is not for any route."""
        return Refused(403, "Missing Authentication Token", "MISSING_AUTHENTICATION_TOKEN")

    def refusal(
        self,
        refused: Refused,
        request: HttpRequest,
        request_id: str,
        *,
        route: Route | None = None,
        caller: Caller | None = None,
    ) -> web.Response:
        """Returns the API's own response, in the form that the template gives it."""
        stage, path = find_stage(self._api, request.path)
        call = Call(self._api, stage, route or _NO_ROUTE, path, {}, request, request_id)
        context = request_context(call)
        if route is None:
            del context["resourceId"]
        if refused.authorizer:
            context["authorizer"] = refused.authorizer
        elif caller is not None and caller != Caller():
            context["authorizer"] = _authorizer_context(caller)
            if caller.key_id is not None:
                context["identity"] |= signer_identity(caller.key_id)
        return rest_refusal(refused, self._api.responses, dict(_variables(context)))

    def name_request(self, response: web.StreamResponse, request_id: str) -> None:
        """Adds the headers that identify a request to its response."""
        response.headers.setdefault("x-amzn-RequestId", request_id)
        response.headers.setdefault("x-amz-apigw-id", f"{request_id.replace('-', '')[:15]}=")

    async def _respond(self, call: Call, caller: Caller) -> web.Response:
        api_key = self._api_key(call, caller)
        if call.route.validation is not None:
            _validate(call, call.route.validation)
        if call.route.mock is not None:
            return _mocked(call.route.mock)
        return await self._called(call, caller, api_key)

    async def _called(self, call: Call, caller: Caller, api_key: str | None) -> web.Response:
        event = with_identity(rest_event(call), _identity(caller, api_key))
        if call.route.authorizer is not None and caller.key_id is None:
            event["requestContext"]["authorizer"] = _authorizer_context(caller)
        result = await self._integration.call(
            call.route,
            event,
            caller,
            timed_out=Refused(504, "Endpoint request timed out", "INTEGRATION_TIMEOUT"),
            too_large=Refused(413, "Request Too Long", "REQUEST_TOO_LARGE"),
            gone=call.request.gone,
        )
        failed = Refused(502, "Internal server error")
        if isinstance(result, Failure):
            raise failed
        accepted = (call.request.header("accept") or "*/*").split(",")[0]
        try:
            return rest_response(
                result.payload, is_decoded=is_binary(accepted, self._api.binary_types)
            )
        except MalformedReply as problem:
            self._integration.note_malformed(
                call.route, call.request_id, result, f"malformed Lambda proxy response: {problem}"
            )
            raise failed from None

    def _api_key(self, call: Call, caller: Caller) -> str | None:
        """Returns the API key of a request. Raises Refused if the route needs one and has none."""
        given = (
            caller.api_key if self._api.key_from_authorizer else call.request.header("x-api-key")
        )
        if call.route.needs_key and given not in self._api.api_keys.get(call.stage.name, ()):
            reason = (
                "the route needs an API key: mayfly up prints those of the template, and a request "
                "has it in x-api-key"
            )
            raise Refused(403, "Forbidden", "INVALID_API_KEY", reason)
        return given


def _variables(context: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yields the fields of a context by their names in a template, such as identity.sourceIp."""
    for name, value in context.items():
        if isinstance(value, Mapping):
            yield from _variables(value, f"{prefix}{name}.")
        elif value is not None:
            yield f"{prefix}{name}", _text(value)


def _mocked(mock: Mock) -> web.Response:
    response = web.Response(status=mock.status, body=mock.body.encode())
    response.headers["Content-Type"] = "application/json"
    response.headers.update(mock.headers)
    return response


def _validate(call: Call, validation: Validation) -> None:
    """Raises Refused if a request lacks a parameter, or if its body does not fit the model."""
    missing = [name for name in validation.required if not _has(call, name)]
    if missing:
        names = ", ".join(name.rpartition(".")[2] for name in missing)
        raise Refused(
            400, f"Missing required request parameters: [{names}]", "BAD_REQUEST_PARAMETERS"
        )
    if validation.schema is not None:
        problem = body_problem(call.request.body, validation.schema)
        if problem is not None:
            raise Refused(400, "Invalid request body", "BAD_REQUEST_BODY", problem, invalid=problem)


def _has(call: Call, parameter: str) -> bool:
    _, _, rest = parameter.partition("request.")
    place, _, name = rest.partition(".")
    match place:
        case "header":
            return bool(call.request.header(name))
        case "querystring":
            return name in parse_qs(call.request.query, keep_blank_values=True)
        case _:
            return name in call.parameters


def _identity(caller: Caller, api_key: str | None) -> dict[str, Any]:
    """Returns the fields of an event's identity that depend on the caller's key."""
    identity = {} if caller.key_id is None else signer_identity(caller.key_id)
    if api_key is not None:
        identity |= {"apiKey": api_key, "apiKeyId": "local"}
    return identity


def _authorizer_context(caller: Caller) -> dict[str, Any]:
    if caller.claims is not None:
        return {"claims": {name: _claim(name, value) for name, value in caller.claims.items()}}
    context: Mapping[str, Any] = caller.context
    return {
        # A REST API hands on every value as a text.
        **{name: _text(value) for name, value in context.items() if value is not None},
        "principalId": caller.principal,
        "integrationLatency": 0,
    }


def _claim(name: str, value: Any) -> str:
    """Returns a claim of a Cognito token as a text.

    REST APIs write two times as dates, and `auth_time` as a number, as in the event of
    Page apigateway-enable-cognito-user-pool of
    https://docs.aws.amazon.com/apigateway/latest/developerguide/
    """
    if name in ("exp", "iat") and isinstance(value, int):
        try:
            at = datetime.fromtimestamp(value, UTC)
        except (ValueError, OverflowError, OSError):  # Beyond the calendar.
            return str(value)
        # strftime would name days in the language of the machine.
        day, month = _DAYS[at.weekday()], _MONTHS[at.month - 1]
        return f"{day} {month} {at:%d %H:%M:%S} UTC {at.year}"
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
