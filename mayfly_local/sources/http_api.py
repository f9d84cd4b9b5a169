"""The HTTP API: calls functions with payload format 2.0, and turns their replies into responses.

It makes the same error responses as API Gateway.
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api.html
"""

import asyncio
import base64
import binascii
import json
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from aiohttp import web

from mayfly_local.application.model import Application, Authorizer, Cors, Route
from mayfly_local.compute.invocation import PAYLOAD_LIMIT, Failure, Invocation, Reply
from mayfly_local.logs import Log
from mayfly_local.sources.payloads import HttpRequest, authorizer_event, http_event
from mayfly_local.sources.shares import Shares

__all__ = ["Gateway"]

Invoke = Callable[[str, Invocation], Awaitable[Reply | Failure]]

#: Seconds that the API waits for a function, whatever the function's own timeout.
#: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-quotas.html
_INTEGRATION_SECONDS: Final = 30.0
_REQUEST_LIMIT: Final = 10 * 1024 * 1024


@dataclass(frozen=True)
class _Decision:
    is_allowed: bool
    context: dict[str, Any]


class Gateway:
    """Answers requests for one application."""

    def __init__(self, application: Application, invoke: Invoke, log: Log) -> None:
        self._application = application
        self._invoke = invoke
        self._log = log
        self._shares = Shares()
        self._decisions: dict[tuple[str, tuple[str, ...]], tuple[float, _Decision]] = {}

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Handles a request of the HTTP server."""
        request_id = str(uuid.uuid4())
        started = time.monotonic()
        response = await self._answer(request, request_id)
        response.headers.setdefault("apigw-requestid", request_id)
        self._log.event(
            "request", method=request.method, path=request.path, status=response.status,
            request_id=request_id,
            milliseconds=round((time.monotonic() - started) * 1000, 1),
        )  # fmt: skip
        return response

    async def _answer(self, raw: web.BaseRequest, request_id: str) -> web.Response:
        if (raw.content_length or 0) > _REQUEST_LIMIT:
            return _own(413, "Request Entity Too Large")
        try:
            body = await raw.read()
        except web.HTTPRequestEntityTooLarge:
            return _own(413, "Request Entity Too Large")
        request = _read(raw, body)
        origin = raw.headers.get("origin")
        cors = self._application.cors
        if (
            cors
            and origin
            and request.method == "OPTIONS"
            and "access-control-request-method" in raw.headers
        ):
            return _preflight(cors, origin)
        response = await self._routed(request, request_id)
        if cors and origin:
            response.headers.update(_cors_headers(cors, origin))
        return response

    async def _routed(self, request: HttpRequest, request_id: str) -> web.Response:
        matched = match(self._application.routes, request.method, request.path)
        if matched is None:
            return _own(404, "Not Found")
        route, parameters = matched
        variables = self._application.stage_variables
        event = http_event(
            request, route, parameters, request_id=request_id, stage_variables=variables
        )
        caller = None
        if route.authorizer is not None:
            decision = await self._authorize(
                request, route, parameters, route.authorizer, request_id
            )
            if isinstance(decision, web.Response):
                return decision
            event["requestContext"]["authorizer"] = {"lambda": decision.context}
            # Whom the authorizer tells apart: for Mayfly's own, a tenant.
            caller = json.dumps(decision.context, sort_keys=True)
        invocation = Invocation.of(event)
        if len(invocation.event) > PAYLOAD_LIMIT:
            return _own(413, "Request Entity Too Large")
        # Shielded: after the API's timeout the function continues, as on AWS.
        running = asyncio.ensure_future(self._in_turn(route.function, invocation, caller))
        try:
            result = await asyncio.wait_for(asyncio.shield(running), _INTEGRATION_SECONDS)
        except TimeoutError:
            return _own(503, "Service Unavailable")
        if isinstance(result, Failure):
            return _own(500, "Internal Server Error")
        response = respond(result.payload)
        if response is None:
            self._log.event(
                "bad response",
                "ERROR",
                route=route.key,
                request_id=request_id,
                response=result.payload[:200].decode(errors="replace"),
            )
            return _own(500, "Internal Server Error")
        return response

    async def _in_turn(
        self, function: str, invocation: Invocation, caller: str | None
    ) -> Reply | Failure:
        if caller is None:  # Without an authorizer, nothing tells callers apart.
            return await self._invoke(function, invocation)
        async with self._shares.turn(caller, function):
            return await self._invoke(function, invocation)

    async def _authorize(
        self,
        request: HttpRequest,
        route: Route,
        parameters: Mapping[str, str],
        authorizer: Authorizer,
        request_id: str,
    ) -> _Decision | web.Response:
        identity = [_identity(source, request) for source in authorizer.identity_sources]
        if any(value is None for value in identity):
            return _own(401, "Unauthorized")
        values = tuple(str(value) for value in identity)
        kept = self._decisions.get((authorizer.name, values))
        if kept is not None and kept[0] > time.monotonic():
            decision = kept[1]
        else:
            event = authorizer_event(
                request,
                route,
                parameters,
                values,
                request_id=request_id,
                stage_variables=self._application.stage_variables,
            )
            result = await self._invoke(authorizer.function, Invocation.of(event))
            fresh = (
                None
                if isinstance(result, Failure)
                else _decision(result.payload, is_simple=authorizer.is_simple)
            )
            if fresh is None:
                return _own(500, "Internal Server Error")
            decision = fresh
            if authorizer.cache_seconds:
                self._decisions[authorizer.name, values] = (
                    time.monotonic() + authorizer.cache_seconds,
                    decision,
                )
        return decision if decision.is_allowed else _own(403, "Forbidden")


def match(routes: tuple[Route, ...], method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """Returns the route for a request and its path parameters.

    The most specific path wins, then the method before ANY.
    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html
    """
    candidates = []
    for route in routes:
        parameters = _path_parameters(route.path, path)
        if parameters is not None and route.method in (method, "ANY"):
            candidates.append((_specificity(route), route, parameters))
    if not candidates:
        return None
    _, route, parameters = max(candidates, key=lambda candidate: candidate[0])
    return route, parameters


def respond(payload: bytes) -> web.Response | None:
    """Returns a function's reply as an HTTP response, or None if it is not a valid one.

    Without a statusCode the whole reply is a JSON body.
    """
    reply = json.loads(payload)
    if not isinstance(reply, dict) or "statusCode" not in reply:
        body = reply if isinstance(reply, str) else json.dumps(reply)
        return web.Response(body=body.encode(), content_type="application/json")
    try:
        status = int(reply["statusCode"])
        body_text = "" if reply.get("body") is None else reply["body"]
        if not isinstance(body_text, str) or not 100 <= status <= 599:
            return None
        body_bytes = (
            base64.b64decode(body_text, validate=True)
            if reply.get("isBase64Encoded")
            else body_text.encode()
        )
        response = web.Response(status=status, body=body_bytes)
        for name, value in ({} if reply.get("headers") is None else reply["headers"]).items():
            if name.lower() in ("content-length", "transfer-encoding", "connection"):
                continue  # The API sets these itself.
            response.headers[name] = _one_line(
                str(value).lower() if isinstance(value, bool) else str(value)
            )
        for cookie in reply.get("cookies") or ():
            response.headers.add("Set-Cookie", _one_line(cookie))
    except (TypeError, ValueError, AttributeError, binascii.Error):
        return None
    return response


def _one_line(value: str) -> str:
    if "\r" in value or "\n" in value or "\0" in value:
        raise ValueError(value)
    return value


def _specificity(route: Route) -> tuple[int, int, int]:
    if route.path == "$default":
        return (0, 0, 0)
    literal = sum(not part.startswith("{") for part in route.path.split("/"))
    return (1 if "+}" in route.path else 2, literal, route.method != "ANY")


def _path_parameters(template: str, path: str) -> dict[str, str] | None:
    if template == "$default":
        return {}
    wanted, actual = template.split("/"), path.split("/")
    parameters: dict[str, str] = {}
    for index, part in enumerate(wanted):
        if part.startswith("{") and part.endswith("+}"):
            rest = "/".join(actual[index:])
            return {**parameters, part[1:-2]: unquote(rest)} if rest else None
        if index >= len(actual):
            return None
        if part.startswith("{"):
            if not actual[index]:
                return None
            parameters[part[1:-1]] = unquote(actual[index])
        elif part != unquote(actual[index]):
            return None
    return parameters if len(wanted) == len(actual) else None


def _read(raw: web.BaseRequest, body: bytes) -> HttpRequest:
    path, _, query = _readable(raw.raw_path).partition("?")
    headers = [(name.lower(), _readable(value)) for name, value in raw.headers.items()]
    protocol = f"HTTP/{raw.version.major}.{raw.version.minor}"
    return HttpRequest(raw.method, path, query, headers, body, raw.remote or "", protocol)


def _readable(text: str) -> str:
    """Returns the text of a header or a path, which may hold bytes that are not UTF-8.

    aiohttp gives such bytes as surrogates, which cannot be in an event. They are read as Latin-1
    (RFC 9110, 5.5).
    """
    raw = text.encode(errors="surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _identity(source: str, request: HttpRequest) -> str | None:
    """Returns the value of an identity source such as `$request.header.Authorization`.

    Returns None if the request has no such value.
    """
    _, kind, name = source.split(".", 2)  # The format was checked when the template was read.
    if kind == "header":
        # All values of the header, as the event has them. The cache key of a decision must match
        # what the authorizer sees.
        return (
            ",".join(value for key, value in request.headers if key == name.lower() and value)
            or None
        )
    if kind == "querystring":
        from urllib.parse import parse_qs

        return next(iter(parse_qs(request.query).get(name, ())), None)
    return None


def _decision(payload: bytes, *, is_simple: bool) -> _Decision | None:
    reply = json.loads(payload)
    if not isinstance(reply, dict):
        return None
    if is_simple:
        allowed = reply.get("isAuthorized")
        return _Decision(allowed, reply.get("context") or {}) if isinstance(allowed, bool) else None
    statements = (reply.get("policyDocument") or {}).get("Statement") or []
    return _Decision(
        bool(statements) and all(statement.get("Effect") == "Allow" for statement in statements),
        reply.get("context") or {},
    )


def _preflight(cors: Cors, origin: str) -> web.Response:
    headers = _cors_headers(cors, origin)
    if headers:
        headers["Access-Control-Allow-Methods"] = ",".join(cors.methods)
        headers["Access-Control-Allow-Headers"] = ",".join(cors.headers)
        if cors.max_age is not None:
            headers["Access-Control-Max-Age"] = str(cors.max_age)
    return web.Response(status=204, headers=headers)


def _cors_headers(cors: Cors, origin: str) -> dict[str, str]:
    if "*" not in cors.origins and origin not in cors.origins:
        return {}
    headers = {"Access-Control-Allow-Origin": "*" if "*" in cors.origins else origin}
    if cors.exposed:
        headers["Access-Control-Expose-Headers"] = ",".join(cors.exposed)
    if cors.credentials:
        headers["Access-Control-Allow-Credentials"] = "true"
    return headers


def _own(status: int, message: str) -> web.Response:
    """Returns a response that API Gateway makes itself."""
    return web.json_response({"message": message}, status=status)
