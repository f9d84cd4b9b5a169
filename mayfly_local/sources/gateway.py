"""The front of one API: it limits bodies, names requests and logs them."""

import time
import uuid
from typing import Final

from aiohttp import web

from mayfly_local.application.apis import Api, ApiKind
from mayfly_local.logs import Log
from mayfly_local.sources.authorizations import Guests, Invoke
from mayfly_local.sources.front import Front
from mayfly_local.sources.http_api import HttpApi
from mayfly_local.sources.http_request import read_request
from mayfly_local.sources.rest_api import RestApi
from mayfly_local.sources.shares import Shares

__all__ = ["BODY_LIMIT", "Gateway"]

#: Most bytes of a body.
#: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html
BODY_LIMIT: Final = 10 * 1024 * 1024


class Gateway:
    """Answers requests for one API."""

    def __init__(self, api: Api, invoke: Invoke, guests: Guests, log: Log, shares: Shares) -> None:
        kind = RestApi if api.kind is ApiKind.REST else HttpApi
        self._front: Front = kind(api, invoke, guests, log, shares)
        self._log = log
        #: Requests that are being answered.
        self.running = 0

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Handles a request of the HTTP server."""
        request_id = str(uuid.uuid4())
        started = time.monotonic()
        self.running += 1
        try:
            response = await self._answer(request, request_id)
        finally:
            self.running -= 1
        self._front.name_request(response, request_id)
        self._log.event(
            "request", method=request.method, path=request.path, status=response.status,
            request_id=request_id,
            milliseconds=round((time.monotonic() - started) * 1000, 1),
        )  # fmt: skip
        return response

    async def _answer(self, raw: web.BaseRequest, request_id: str) -> web.Response:
        if (raw.content_length or 0) > BODY_LIMIT:
            return self._too_large(raw, request_id)
        try:
            body = await raw.read()
        except web.HTTPRequestEntityTooLarge:
            return self._too_large(raw, request_id)
        return await self._front.answer(read_request(raw, body), request_id)

    def _too_large(self, raw: web.BaseRequest, request_id: str) -> web.Response:
        return self._front.refusal(self._front.too_large, read_request(raw, b""), request_id)
