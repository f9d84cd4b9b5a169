"""The HTTP API: its routes, their authorizers, its CORS and stage variables."""

import re
from collections.abc import Mapping
from typing import Any, Final

from mayfly_local.application.build.functions import find_function
from mayfly_local.application.build.resources import Report, Resources, as_text
from mayfly_local.application.model import Authorizer, Cors, Function, Route

__all__ = ["build_http_api", "build_stage_variables"]

_ANY_METHOD: Final = "x-amazon-apigateway-any-method"
_METHODS: Final = {
    "get",
    "put",
    "post",
    "delete",
    "options",
    "head",
    "patch",
    "trace",
    _ANY_METHOD,
}
_BODY_KEYS: Final = {"components", "info", "openapi", "paths", "tags", "x-amazon-apigateway-cors"}


def build_http_api(
    resources: Resources, functions: Mapping[str, Function], report: Report
) -> tuple[tuple[Route, ...], Cors | None]:
    """Returns the routes and the CORS of the template's HTTP API. Raises TemplateError.

    Without an API there are no routes.
    """
    apis = resources.of_type("AWS::ApiGatewayV2::Api")
    if not apis:
        return (), None
    if len(apis) > 1:
        for other, _ in apis[1:]:
            report.absent(other, "a further HTTP API")
    name, properties = apis[0]
    body = properties.get("Body", {})
    for key in sorted(set(body) - _BODY_KEYS):
        report.absent(name, f"{key} of its Body")
    routes = _routes(name, body, functions, report)
    cors = _cors(body.get("x-amazon-apigateway-cors") or properties.get("CorsConfiguration"))
    return routes, cors


def build_stage_variables(resources: Resources) -> dict[str, str]:
    """Returns the variables of all stages of the API. Raises TemplateError."""
    return {
        key: as_text(value)
        for _, stage in resources.of_type("AWS::ApiGatewayV2::Stage")
        for key, value in stage.get("StageVariables", {}).items()
    }


def _routes(
    name: str, body: dict[str, Any], functions: Mapping[str, Function], report: Report
) -> tuple[Route, ...]:
    schemes = body.get("components", {}).get("securitySchemes", {})
    authorizers = {
        scheme: _authorizer(name, scheme, spec, functions, report)
        for scheme, spec in schemes.items()
    }
    routes = []
    for path, operations in body.get("paths", {}).items():
        for method, operation in operations.items():
            where = f"resource {name}: {method.upper()} {path}"
            if method not in _METHODS:
                report(f"{where} is not a method of an HTTP API")
                continue
            if not path.startswith("/") and path != "$default":
                report(f"resource {name}: the path {path} does not start with /")
            function = _integrated_function(where, operation, functions, report)
            authorizer = _chosen_authorizer(operation, authorizers)
            verb = "ANY" if method == _ANY_METHOD else method.upper()
            routes.append(Route(verb, path, function, authorizer))
    return tuple(routes)


def _integrated_function(
    where: str, operation: dict[str, Any], functions: Mapping[str, Function], report: Report
) -> str:
    """Returns the function that a route calls."""
    integration = operation.get("x-amazon-apigateway-integration", {})
    function = find_function(functions, where, integration.get("uri", ""), report)
    if integration.get("payloadFormatVersion") != "2.0":
        report(f"{where}: only payload format 2.0 is supported locally")
    return function


def _chosen_authorizer(
    operation: dict[str, Any], authorizers: Mapping[str, Authorizer]
) -> Authorizer | None:
    """Returns the authorizer that a route names first, or None."""
    schemes = [
        scheme
        for requirement in operation.get("security", [])
        for scheme in requirement
        if scheme != "NONE"
    ]
    return authorizers.get(schemes[0]) if schemes else None


def _authorizer(
    api: str,
    name: str,
    scheme: dict[str, Any],
    functions: Mapping[str, Function],
    report: Report,
) -> Authorizer:
    spec = scheme.get("x-amazon-apigateway-authorizer", {})
    where = f"resource {api}: authorizer {name}"
    if spec.get("type") != "request" or spec.get("authorizerPayloadFormatVersion") != "2.0":
        report(f"{where}: only Lambda authorizers of format 2.0 are supported locally")
    for source in spec.get("identitySource", ()):
        if not re.fullmatch(r"\$request\.(header|querystring)\.[^.]+", source):
            report(f"{where}: the identity source {source} is not supported locally")
    return Authorizer(
        name=name,
        function=find_function(functions, where, spec.get("authorizerUri", ""), report),
        identity_sources=tuple(spec.get("identitySource", ())),
        cache_seconds=int(
            spec.get("authorizerResultTtlInSeconds", 300 if spec.get("identitySource") else 0)
        ),
        is_simple=bool(spec.get("enableSimpleResponses", False)),
    )


def _cors(spec: dict[str, Any] | None) -> Cors | None:
    if not spec:
        return None
    # The API's body spells its keys with a small first letter, CorsConfiguration with a capital.
    lower = {key[0].lower() + key[1:]: value for key, value in spec.items()}
    return Cors(
        origins=tuple(lower.get("allowOrigins", ())),
        methods=tuple(lower.get("allowMethods", ())),
        headers=tuple(lower.get("allowHeaders", ())),
        exposed=tuple(lower.get("exposeHeaders", ())),
        max_age=lower.get("maxAge"),
        credentials=bool(lower.get("allowCredentials", False)),
    )
