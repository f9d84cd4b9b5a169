"""The HTTP API: payload format 2.0 in, responses out, with API Gateway's own answers where it makes
them itself.

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

from mayfly_local.application.build import Application, Authorizer, Cors, Route
from mayfly_local.compute.environment import PAYLOAD_LIMIT, Failure, Invocation, Reply
from mayfly_local.logs import Log
from mayfly_local.sources.payloads import HttpRequest, authorizer_event, http_event

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
        self._decisions: dict[tuple[str, tuple[str, ...]], tuple[float, _Decision]] = {}

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """The handler of the HTTP server."""
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
        found = match(self._application.routes, request.method, request.path)
        if found is None:
            return _own(404, "Not Found")
        route, parameters = found
        variables = self._application.stage_variables
        event = http_event(
            request, route, parameters, request_id=request_id, stage_variables=variables
        )
        if route.authorizer is not None:
            decision = await self._authorize(
                request, route, parameters, route.authorizer, request_id
            )
            if isinstance(decision, web.Response):
                return decision
            event["requestContext"]["authorizer"] = {"lambda": decision.context}
        invocation = Invocation.of(event)
        if len(invocation.event) > PAYLOAD_LIMIT:
            return _own(413, "Request Entity Too Large")
        # Shielded: when the API gives up, the function goes on, as on AWS.
        running = asyncio.ensure_future(self._invoke(route.function, invocation))
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
            found = (
                None
                if isinstance(result, Failure)
                else _decision(result.payload, is_simple=authorizer.is_simple)
            )
            if found is None:
                return _own(500, "Internal Server Error")
            decision = found
            if authorizer.cache_seconds:
                self._decisions[authorizer.name, values] = (
                    time.monotonic() + authorizer.cache_seconds,
                    decision,
                )
        return decision if decision.is_allowed else _own(403, "Forbidden")


def match(routes: tuple[Route, ...], method: str, path: str) -> tuple[Route, dict[str, str]] | None:
    """The route for a request and its path parameters: the most specific path first, then the
    method before ANY.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html
    """
    candidates = []
    for route in routes:
        parameters = _path_parameters(route.path, path)
        if parameters is not None and route.method in (method, "ANY"):
            candidates.append((_specificity(route), route, parameters))
    if not candidates:
        return None
    _, route, parameters = max(candidates, key=lambda each: each[0])
    return route, parameters


def respond(payload: bytes) -> web.Response | None:
    """A function's reply as an HTTP response, None where it is not one.

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
                continue  # the API's own
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
    wanted, found = template.split("/"), path.split("/")
    parameters: dict[str, str] = {}
    for index, part in enumerate(wanted):
        if part.startswith("{") and part.endswith("+}"):
            rest = "/".join(found[index:])
            return {**parameters, part[1:-2]: unquote(rest)} if rest else None
        if index >= len(found):
            return None
        if part.startswith("{"):
            if not found[index]:
                return None
            parameters[part[1:-1]] = unquote(found[index])
        elif part != unquote(found[index]):
            return None
    return parameters if len(wanted) == len(found) else None


def _read(raw: web.BaseRequest, body: bytes) -> HttpRequest:
    path, _, query = _readable(raw.raw_path).partition("?")
    headers = [(name.lower(), _readable(value)) for name, value in raw.headers.items()]
    protocol = f"HTTP/{raw.version.major}.{raw.version.minor}"
    return HttpRequest(raw.method, path, query, headers, body, raw.remote or "", protocol)


def _readable(text: str) -> str:
    """Bytes that are no UTF-8 come in as surrogates, which no event can carry; they are read as
    Latin-1 (RFC 9110, 5.5).
    """
    raw = text.encode(errors="surrogateescape")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _identity(source: str, request: HttpRequest) -> str | None:
    """The value of an identity source such as `$request.header.Authorization`; None where the
    request has none.
    """
    _, kind, name = source.split(".", 2)  # checked when the template was read
    if kind == "header":
        # All of them, as the event has them: what one caller is remembered by must be what the
        # authorizer sees.
        return (
            ",".join(value for each, value in request.headers if each == name.lower() and value)
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
        bool(statements) and all(each.get("Effect") == "Allow" for each in statements),
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
    """An answer that API Gateway makes itself."""
    return web.json_response({"message": message}, status=status)
