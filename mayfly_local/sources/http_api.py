"""HTTP APIs and function URLs: requests in, responses out, with the services' own errors.

https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api.html
https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
"""

from typing import Any, Final

from aiohttp import web

from mayfly_local.account import ACCOUNT
from mayfly_local.application.apis import Api, ApiKind, Route
from mayfly_local.compute.invocation import Failure
from mayfly_local.logs import Log
from mayfly_local.sources.authorizations import Caller, Guests, Invoke
from mayfly_local.sources.cors import add_cors, is_preflight, preflight
from mayfly_local.sources.front import Front
from mayfly_local.sources.http_events import http_event, signer_context
from mayfly_local.sources.http_request import Call, HttpRequest
from mayfly_local.sources.refusals import Refused, http_refusal
from mayfly_local.sources.replies import JSON, TEXT, MalformedReply, http_response
from mayfly_local.sources.rest_events import rest_event, signer_identity, with_identity
from mayfly_local.sources.shares import Shares

__all__ = ["HttpApi"]

#: Seconds that the API waits for a function, whatever the function's own timeout.
#: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html
_INTEGRATION_SECONDS: Final = 30.0
#: A function URL waits as long as the function may run, 15 minutes at most.
_URL_SECONDS: Final = 900.0


class HttpApi(Front):
    """Answers requests for one HTTP API or function URL."""

    def __init__(self, api: Api, invoke: Invoke, guests: Guests, log: Log, shares: Shares) -> None:
        seconds = _URL_SECONDS if api.kind is ApiKind.URL else _INTEGRATION_SECONDS
        super().__init__(api, invoke, guests, log, shares, seconds=seconds)

    @property
    def too_large(self) -> Refused:
        """The answer to a body above the limit."""
        return Refused(413, "Request Entity Too Large")

    @property
    def unknown_route(self) -> Refused:
        """The answer to a request that is not for any route."""
        return Refused(404, "Not Found")

    def refusal(
        self,
        refused: Refused,
        request: HttpRequest,
        request_id: str,
        *,
        route: Route | None = None,
        caller: Caller | None = None,
    ) -> web.Response:
        """Returns the API's own response to a request that it refuses."""
        return http_refusal(refused, is_url=self._api.kind is ApiKind.URL)

    def name_request(self, response: web.StreamResponse, request_id: str) -> None:
        """Adds the headers that identify a request to its response."""
        name = "x-amzn-RequestId" if self._api.kind is ApiKind.URL else "apigw-requestid"
        response.headers.setdefault(name, request_id)

    async def answer(self, request: HttpRequest, request_id: str) -> web.Response:
        """Returns the response to a request, with the API's CORS headers."""
        cors = self._api.cors
        if cors is not None and is_preflight(request):
            return preflight(cors, request)
        response = await super().answer(request, request_id)
        if cors is not None:
            add_cors(response, cors, request)
        return response

    async def _respond(self, call: Call, caller: Caller) -> web.Response:
        route = call.route
        result = await self._integration.call(
            route,
            self._event(call, caller),
            caller,
            timed_out=Refused(503, "Service Unavailable"),
            too_large=self.too_large,
            gone=call.request.gone,
        )
        if isinstance(result, Failure):
            raise self._failed()
        try:
            kind = JSON if self._api.kind is ApiKind.URL else TEXT
            return http_response(result.payload, payload_format=route.payload, default_type=kind)
        except MalformedReply as problem:
            self._integration.note_malformed(route, call.request_id, result, str(problem))
            raise self._failed() from None

    def _event(self, call: Call, caller: Caller) -> dict[str, Any]:
        authorizer = call.route.authorizer
        if call.route.payload == "1.0":
            event = rest_event(call)
            if caller.key_id is not None:
                return with_identity(event, signer_identity(caller.key_id))
            if authorizer is not None:
                event["requestContext"]["authorizer"] = (
                    {"claims": _texts(caller.claims), "scopes": list(caller.scopes) or None}
                    if caller.claims is not None
                    else {"principalId": caller.principal, **caller.context}
                )
            return event
        event = http_event(call)
        if authorizer is None:
            return event
        context = event["requestContext"]
        if caller.key_id is not None:
            context["accountId"] = ACCOUNT
            context["authorizer"] = {"iam": signer_context(caller.key_id)}
        elif caller.claims is not None:
            context["authorizer"] = {
                "jwt": {"claims": _texts(caller.claims), "scopes": list(caller.scopes) or None}
            }
        else:
            context["authorizer"] = {"lambda": dict(caller.context)}
        return event

    def _failed(self) -> Refused:
        """Returns the answer to a function that failed, or whose reply is not a response."""
        if self._api.kind is ApiKind.URL:
            return Refused(502, "Internal Server Error")
        return Refused(500, "Internal Server Error")


def _texts(claims: Any) -> dict[str, str]:
    """Returns claims as texts; a list is in brackets, as API Gateway writes it."""
    return {
        name: f"[{' '.join(map(str, value))}]" if isinstance(value, list) else _text(value)
        for name, value in (claims or {}).items()
    }


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
