"""The front of an API: what requests to APIs of every kind have in common."""

from abc import ABC, abstractmethod

from aiohttp import web

from mayfly_local.application.apis import Api, Route
from mayfly_local.logs import Log
from mayfly_local.sources.authorizations import Authorizations, Caller, Guests, Invoke
from mayfly_local.sources.head_limit import check_head
from mayfly_local.sources.http_request import Call, HttpRequest
from mayfly_local.sources.integrations import Integration
from mayfly_local.sources.refusals import Refused
from mayfly_local.sources.routes import find_stage, match
from mayfly_local.sources.shares import Shares

__all__ = ["Front"]


class Front(ABC):
    """Finds the route and the caller of each request, and answers what it refuses.

    `seconds` is the longest that the API waits for a function.
    """

    def __init__(
        self,
        api: Api,
        invoke: Invoke,
        guests: Guests,
        log: Log,
        shares: Shares,
        *,
        seconds: float,
    ) -> None:
        self._api = api
        self._log = log
        self._authorizations = Authorizations(api.kind, invoke, guests)
        self._integration = Integration(invoke, log, shares, seconds=seconds)

    @property
    @abstractmethod
    def too_large(self) -> Refused:
        """The answer to a body above the limit."""

    @property
    @abstractmethod
    def unknown_route(self) -> Refused:
        """The answer to a request that is not for any route."""

    @abstractmethod
    def refusal(
        self,
        refused: Refused,
        request: HttpRequest,
        request_id: str,
        *,
        route: Route | None = None,
        caller: Caller | None = None,
    ) -> web.Response:
        """Returns the API's own response to a request that it refuses.

        `route` and `caller` are None if they were not found yet.
        """

    @abstractmethod
    def name_request(self, response: web.StreamResponse, request_id: str) -> None:
        """Adds the headers that identify a request to its response."""

    @abstractmethod
    async def _respond(self, call: Call, caller: Caller) -> web.Response:
        """Returns the response of a route. Raises Refused."""

    async def answer(self, request: HttpRequest, request_id: str) -> web.Response:
        """Returns the response to a request."""
        route: Route | None = None
        caller: Caller | None = None
        try:
            check_head(request)
            stage, path = find_stage(self._api, request.path)
            matched = match(self._api.routes, request.method, path, kind=self._api.kind)
            if matched is None:
                raise self.unknown_route
            route, parameters = matched
            call = Call(self._api, stage, route, path, parameters, request, request_id)
            caller = await self._authorizations.caller(call)
            return await self._respond(call, caller)
        except Refused as refused:
            if refused.reason:
                self._log.event(
                    "request refused",
                    "ERROR" if refused.status >= 500 else "INFO",
                    api=self._api.name, path=request.path, request_id=request_id,
                    status=refused.status, reason=refused.reason,
                )  # fmt: skip
            return self.refusal(refused, request, request_id, route=route, caller=caller)
