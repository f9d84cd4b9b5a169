"""HTTP APIs: their routes, authorizers, CORS and stages."""

from collections.abc import Mapping
from typing import Any, Final

from mayfly_local.application.addresses import Addresses
from mayfly_local.application.apis import Api, ApiKind, Authorizer, Cors, Route, Stage
from mayfly_local.application.build.authorizers import (
    IAM,
    authorizer_of,
    scheme_of_resource,
    security_of,
)
from mayfly_local.application.build.definitions import METHODS, authorizers_of
from mayfly_local.application.build.functions import find_target
from mayfly_local.application.build.resources import Report, Resources, as_text
from mayfly_local.application.build.stage_variables import StageVariables
from mayfly_local.application.model import Function
from mayfly_local.application.supported import is_websocket

__all__ = ["build_http_apis", "cors_of"]

#: Keys of a definition that change nothing here.
_BODY_KEYS: Final = {
    "components", "info", "openapi", "paths", "security", "securityDefinitions", "servers",
    "swagger", "tags", "x-amazon-apigateway-cors", "x-amazon-apigateway-importexport-version",
}  # fmt: skip


def build_http_apis(
    resources: Resources, functions: Mapping[str, Function], addresses: Addresses, report: Report
) -> list[Api]:
    """Returns the template's HTTP APIs. Raises TemplateError."""
    apis = []
    for name, properties in resources.of_type("AWS::ApiGatewayV2::Api"):
        if is_websocket(resources.template.resources[name]):
            continue  # It is classified as absent.
        if properties.get("ProtocolType") == "WEBSOCKET":  # by the value of a parameter
            report.leave_out(name, "a WebSocket API")
            continue
        address = addresses.by_name[name]
        stages = _stages(address.id, resources)
        variables = StageVariables(name, stages, report)
        body = variables.filled(properties.get("Body") or {})
        for key in sorted(set(body) - _BODY_KEYS):
            report.absent(name, f"{key} of its Body")
        routes = [
            *_body_routes(name, body, functions, report),
            *_own_routes(name, address.id, resources, functions, report, variables=variables),
        ]
        if "Target" in properties:
            key = str(properties.get("RouteKey", "$default"))
            method, _, path = key.rpartition(" ")
            function, absent = find_target(functions, name, properties["Target"], report)
            routes.append(Route(method or "ANY", path, function, None, absent=absent))
        cors = body.get("x-amazon-apigateway-cors") or properties.get("CorsConfiguration")
        apis.append(
            Api(
                name=name,
                id=address.id,
                kind=ApiKind.HTTP,
                url=address.url,
                routes=tuple(routes),
                stages=stages,
                cors=cors_of(cors),
            )
        )
    return apis


def cors_of(spec: Mapping[str, Any] | None) -> Cors | None:
    """Returns the CORS of a definition, of a resource or of a function URL, or None."""
    if not spec:
        return None
    # A definition spells its keys with a small first letter, resources with a capital.
    lower = {key[0].lower() + key[1:]: value for key, value in spec.items()}
    max_age = lower.get("maxAge")
    return Cors(
        origins=_texts(lower.get("allowOrigins")),
        methods=_texts(lower.get("allowMethods")),
        headers=_texts(lower.get("allowHeaders")),
        exposed=_texts(lower.get("exposeHeaders")),
        max_age=None if max_age is None else int(max_age),
        credentials=str(lower.get("allowCredentials", False)).lower() == "true",
    )


def _texts(value: Any) -> tuple[str, ...]:
    """Returns a list of texts; one text is split, since a list parameter may have become one."""
    parts = value.split(",") if isinstance(value, str) else value or ()
    return tuple(text for part in parts if (text := str(part).strip()))


def _stages(api: str, resources: Resources) -> tuple[Stage, ...]:
    stages = [
        Stage(
            str(properties.get("StageName", "$default")),
            {
                key: as_text(value)
                for key, value in (properties.get("StageVariables") or {}).items()
            },
        )
        for _, properties in resources.of_type("AWS::ApiGatewayV2::Stage")
        if properties.get("ApiId") == api
    ]
    return tuple(stages) or (Stage("$default"),)


def _body_routes(
    api: str, body: Mapping[str, Any], functions: Mapping[str, Function], report: Report
) -> list[Route]:
    authorizers = authorizers_of(api, body, functions, report, is_rest=False)
    routes = []
    for path, operations in (body.get("paths") or {}).items():
        if not path.startswith("/") and path != "$default":
            report(f"resource {api}: the path {path} does not start with /")
        for method, operation in operations.items():
            where = f"{api}: {method.upper()} {path}"
            if method not in METHODS:
                report(f"resource {where} is not a method of an HTTP API")
                continue
            security = security_of(operation, body, authorizers)
            integration = operation.get("x-amazon-apigateway-integration") or {}
            routes.append(
                _integrated(
                    where, METHODS[method], path, integration,
                    functions=functions, report=report,
                    authorizer=security.authorizer, scopes=security.scopes,
                )
            )  # fmt: skip
    return routes


def _own_routes(
    api: str,
    api_id: str,
    resources: Resources,
    functions: Mapping[str, Function],
    report: Report,
    *,
    variables: StageVariables,
) -> list[Route]:
    """Returns the routes that are resources of their own."""
    integrations = {
        resources.scope.get((name, None), name): variables.filled(properties)
        for name, properties in resources.of_type("AWS::ApiGatewayV2::Integration")
        if properties.get("ApiId") == api_id
    }
    authorizers: dict[Any, Authorizer | None] = {
        resources.scope.get((name, None), name): authorizer_of(
            api,
            name,
            scheme_of_resource(variables.filled(properties)),
            functions,
            report,
            is_rest=False,
        )
        for name, properties in resources.of_type("AWS::ApiGatewayV2::Authorizer")
        if properties.get("ApiId") == api_id
    }
    routes = []
    for name, properties in resources.of_type("AWS::ApiGatewayV2::Route"):
        if properties.get("ApiId") != api_id:
            continue
        target = str(properties.get("Target", "")).removeprefix("integrations/")
        own = integrations.get(target) or {}
        spec = {
            "type": str(own.get("IntegrationType", "")).lower(),
            "uri": own.get("IntegrationUri", ""),
            "payloadFormatVersion": own.get("PayloadFormatVersion", "1.0"),
            "timeoutInMillis": own.get("TimeoutInMillis"),
        }
        method, _, path = str(properties.get("RouteKey", "$default")).rpartition(" ")
        is_iam = properties.get("AuthorizationType") == "AWS_IAM"
        routes.append(
            _integrated(
                name, method or "ANY", path, spec,
                    functions=functions, report=report,
                authorizer=IAM if is_iam else authorizers.get(properties.get("AuthorizerId")),
                scopes=_texts(properties.get("AuthorizationScopes")),
            )
        )  # fmt: skip
    return routes


def _integrated(
    where: str,
    method: str,
    path: str,
    integration: Mapping[str, Any],
    *,
    functions: Mapping[str, Function],
    report: Report,
    authorizer: Authorizer | None,
    scopes: tuple[str, ...],
) -> Route:
    kind = str(integration.get("type") or "none").lower()
    payload = str(integration.get("payloadFormatVersion", "1.0"))
    if kind != "aws_proxy" or "integrationSubtype" in integration:
        reason = f"the integration {integration.get('integrationSubtype', kind)} is absent here"
        report.absent(where, f"the integration {integration.get('integrationSubtype', kind)}")
        return Route(method, path, "", authorizer, absent=reason)
    timeout = integration.get("timeoutInMillis")
    function, absent = find_target(functions, where, integration.get("uri", ""), report)
    return Route(
        method,
        path,
        function,
        authorizer,
        absent=absent,
        payload="2.0" if payload.startswith("2") else "1.0",
        scopes=scopes,
        seconds=None if timeout is None else int(timeout) / 1000,
    )
