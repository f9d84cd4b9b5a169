"""REST APIs: their routes, from a definition or from resources, with stages and API keys."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from mayfly_local.application.addresses import Address, Addresses
from mayfly_local.application.apis import (
    Api,
    ApiKind,
    Authorizer,
    GatewayResponse,
    Route,
    Stage,
    Validation,
)
from mayfly_local.application.build.authorizers import (
    IAM,
    authorizer_of,
    scheme_of_resource,
    security_of,
)
from mayfly_local.application.build.definitions import METHODS, authorizers_of
from mayfly_local.application.build.functions import find_target
from mayfly_local.application.build.mocks import computed_headers, mock_of, static_headers
from mayfly_local.application.build.resources import Report, Resources, as_text
from mayfly_local.application.build.stage_variables import StageVariables
from mayfly_local.application.model import Function

__all__ = ["build_rest_apis"]

#: The stage of an API without one, which AWS would not serve.
_NO_STAGE = "local"
#: Keys of a path that are not methods, and change nothing here.
_NO_METHODS = {"parameters", "summary", "description", "servers"}


def build_rest_apis(
    resources: Resources, functions: Mapping[str, Function], addresses: Addresses, report: Report
) -> list[Api]:
    """Returns the template's REST APIs. Raises TemplateError."""
    return [
        _api(name, properties, resources, functions, address=addresses.by_name[name], report=report)
        for name, properties in resources.of_type("AWS::ApiGateway::RestApi")
    ]


def _api(
    name: str,
    properties: Mapping[str, Any],
    resources: Resources,
    functions: Mapping[str, Function],
    *,
    address: Address,
    report: Report,
) -> Api:
    stages = _stages(address.id, resources)
    variables = StageVariables(name, stages, report)
    body = variables.filled(properties.get("Body") or {})
    if "Policy" in properties or "x-amazon-apigateway-policy" in body:
        report.accepted(name, "its resource policy")
    routes = (
        *_body_routes(name, body, functions, report),
        *_own_routes(name, address.id, resources, functions, report, variables=variables),
    )
    types = body.get("x-amazon-apigateway-binary-media-types") or properties.get("BinaryMediaTypes")
    source = body.get("x-amazon-apigateway-api-key-source") or properties.get("ApiKeySourceType")
    return Api(
        name=name,
        id=address.id,
        kind=ApiKind.REST,
        url=address.url,
        routes=routes,
        stages=stages,
        binary_types=tuple(str(kind).replace("~1", "/") for kind in types or ()),
        api_keys=_api_keys(name, address.id, stages, resources)
        if any(route.needs_key for route in routes)
        else {},
        key_from_authorizer=source == "AUTHORIZER",
        responses=_responses(name, address.id, body, resources, report),
    )


# ---------------------------------------------------------------- definitions


def _body_routes(
    api: str, body: Mapping[str, Any], functions: Mapping[str, Function], report: Report
) -> list[Route]:
    authorizers = authorizers_of(api, body, functions, report, is_rest=True)
    routes = []
    for path, operations in (body.get("paths") or {}).items():
        for method, operation in operations.items():
            where = f"{api}: {method.upper()} {path}"
            if method not in METHODS:
                if method not in _NO_METHODS:
                    report(f"resource {where} is not a method of a REST API")
                continue
            shared = operations.get("parameters") or []
            security = security_of(operation, body, authorizers)
            routes.append(
                _integrated(
                    where, METHODS[method], path,
                    operation.get("x-amazon-apigateway-integration") or {},
                    functions=functions, report=report,
                    authorizer=security.authorizer, scopes=security.scopes,
                    needs_key=security.needs_key,
                    validation=_body_validation(operation, shared, body),
                )
            )  # fmt: skip
    return routes


def _body_validation(
    operation: Mapping[str, Any], shared: list[Any], body: Mapping[str, Any]
) -> Validation | None:
    """Returns the checks that an operation's request validator makes, or None."""
    key = "x-amazon-apigateway-request-validator"
    validators = body.get("x-amazon-apigateway-request-validators") or {}
    validator = validators.get(operation.get(key, body.get(key)))
    if not validator:
        return None
    parameters = [*shared, *(operation.get("parameters") or ())]
    places = {"header": "header", "query": "querystring", "path": "path"}
    required = tuple(
        f"method.request.{places[parameter['in']]}.{parameter['name']}"
        for parameter in parameters
        if parameter.get("required") and parameter.get("in") in places
    )
    content = ((operation.get("requestBody") or {}).get("content") or {}).get(
        "application/json"
    ) or {}
    schema = next(
        (parameter.get("schema") for parameter in parameters if parameter.get("in") == "body"),
        content.get("schema"),
    )
    if schema is not None:
        # References in the schema begin at the root of the definition.
        schema = {
            "definitions": body.get("definitions") or {},
            "components": body.get("components") or {},
            "allOf": [schema],
        }
    return Validation(
        required if validator.get("validateRequestParameters") else (),
        schema if validator.get("validateRequestBody") else None,
    )


# ---------------------------------------------------------------- resources


def _own_routes(
    api: str,
    api_id: str,
    resources: Resources,
    functions: Mapping[str, Function],
    report: Report,
    *,
    variables: StageVariables,
) -> list[Route]:
    """Returns the methods that are resources of their own."""
    paths = _paths(api, api_id, resources)
    authorizers: dict[Any, Authorizer | None] = {
        resources.scope.get((name, None), name): authorizer_of(
            api,
            name,
            scheme_of_resource(variables.filled(properties)),
            functions,
            report,
            is_rest=True,
        )
        for name, properties in _of_api("AWS::ApiGateway::Authorizer", api_id, resources)
    }
    routes = []
    for name, properties in _of_api("AWS::ApiGateway::Method", api_id, resources):
        path = paths.get(properties.get("ResourceId"))
        if path is None:
            report(f"resource {name}: its ResourceId is not a resource of {api}")
            continue
        is_iam = properties.get("AuthorizationType") == "AWS_IAM"
        routes.append(
            _integrated(
                name, str(properties.get("HttpMethod", "ANY")).upper(), path or "/",
                _integration(variables.filled(properties.get("Integration") or {})),
                    functions=functions, report=report,
                authorizer=IAM if is_iam else authorizers.get(properties.get("AuthorizerId")),
                scopes=tuple(map(str, properties.get("AuthorizationScopes") or ())),
                needs_key=as_text(properties.get("ApiKeyRequired", False)) == "true",
                validation=_own_validation(properties, api_id, resources),
            )
        )  # fmt: skip
    return routes


def _paths(api: str, api_id: str, resources: Resources) -> dict[Any, str]:
    """Returns the paths of resources by their ids."""
    paths: dict[Any, str] = {resources.scope[api, "RootResourceId"]: ""}
    waiting = {
        resources.scope.get((name, None), name): properties
        for name, properties in _of_api("AWS::ApiGateway::Resource", api_id, resources)
    }
    while waiting:
        ready = {key: spec for key, spec in waiting.items() if spec.get("ParentId") in paths}
        if not ready:
            break
        for key, spec in ready.items():
            paths[key] = f"{paths[spec['ParentId']]}/{spec.get('PathPart', '')}"
            del waiting[key]
    return paths


def _integration(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an integration of a method in the form of a definition."""
    return {
        "type": spec.get("Type", ""),
        "uri": spec.get("Uri", ""),
        "requestTemplates": spec.get("RequestTemplates") or {},
        "timeoutInMillis": spec.get("TimeoutInMillis"),
        "responses": {
            response.get("SelectionPattern") or "default": {
                "statusCode": response.get("StatusCode"),
                "responseParameters": response.get("ResponseParameters") or {},
                "responseTemplates": response.get("ResponseTemplates") or {},
            }
            for response in spec.get("IntegrationResponses") or ()
        },
    }


def _own_validation(
    properties: Mapping[str, Any], api_id: str, resources: Resources
) -> Validation | None:
    validators = {
        resources.scope.get((name, None), name): spec
        for name, spec in _of_api("AWS::ApiGateway::RequestValidator", api_id, resources)
    }
    validator = validators.get(properties.get("RequestValidatorId"))
    if validator is None:
        return None
    required = tuple(
        name
        for name, is_required in (properties.get("RequestParameters") or {}).items()
        if as_text(is_required) == "true"
    )
    models = {
        key: spec.get("Schema")
        for name, spec in _of_api("AWS::ApiGateway::Model", api_id, resources)
        for key in (resources.scope.get((name, None), name), spec.get("Name", name))
    }
    schema = models.get((properties.get("RequestModels") or {}).get("application/json"))
    return Validation(
        required if as_text(validator.get("ValidateRequestParameters", False)) == "true" else (),
        (json.loads(schema) if isinstance(schema, str) else schema)
        if as_text(validator.get("ValidateRequestBody", False)) == "true"
        else None,
    )


# ---------------------------------------------------------------- both


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
    needs_key: bool,
    validation: Validation | None,
) -> Route:
    kind = str(integration.get("type") or "none").lower()
    uri = str(integration.get("uri", ""))
    function, mock, absent = "", None, None
    if kind == "aws_proxy" and "/functions/" in uri:
        function, absent = find_target(functions, where, uri, report)
    elif kind == "mock" and (mock := mock_of(integration)) is not None:
        for response in (integration.get("responses") or {}).values():
            _report_computed(where, (response or {}).get("responseParameters") or {}, report)
    else:
        what = f"the integration {kind}" + (
            " with a mapping template" if kind == "mock" else f" to {uri}" if uri else ""
        )
        report.absent(where, what)
        absent = f"{what} is absent here"
    timeout = integration.get("timeoutInMillis")
    return Route(
        "ANY" if method == "*" else method, path, function, authorizer,
        payload="1.0", mock=mock, absent=absent, needs_key=needs_key, scopes=scopes,
        validation=validation, seconds=None if timeout is None else int(timeout) / 1000,
    )  # fmt: skip


def _report_computed(where: str, parameters: Mapping[str, Any], report: Report) -> None:
    for header in computed_headers(parameters):
        report.absent(where, f"the header {header} of its response, which must be computed")


def _stages(api_id: str, resources: Resources) -> tuple[Stage, ...]:
    """Returns the stages of an API: its own, then those that a deployment makes."""
    stages = {
        str(properties.get("StageName")): Stage(
            str(properties.get("StageName")),
            {key: as_text(value) for key, value in (properties.get("Variables") or {}).items()},
        )
        for _, properties in _of_api("AWS::ApiGateway::Stage", api_id, resources)
    }
    for _, properties in _of_api("AWS::ApiGateway::Deployment", api_id, resources):
        if name := properties.get("StageName"):
            given = (properties.get("StageDescription") or {}).get("Variables") or {}
            made = Stage(str(name), {key: as_text(value) for key, value in given.items()})
            stages.setdefault(str(name), made)
    return tuple(stages.values()) or (Stage(_NO_STAGE),)


def _api_keys(
    api: str, api_id: str, stages: tuple[Stage, ...], resources: Resources
) -> dict[str, tuple[str, ...]]:
    """Returns the keys of each stage, by the usage plans that join them.

    If the template has no key for any stage, one is made, so that the routes can be tried.
    """
    values = {
        resources.scope.get((name, None), name): str(
            properties.get("Value") or _made_key(resources, name)
        )
        for name, properties in resources.of_type("AWS::ApiGateway::ApiKey")
        if as_text(properties.get("Enabled", True)) == "true"
    }
    plans = {
        resources.scope.get((name, None), name): {
            (stage.get("ApiId"), stage.get("Stage")) for stage in properties.get("ApiStages") or ()
        }
        for name, properties in resources.of_type("AWS::ApiGateway::UsagePlan")
    }
    joined = [
        (values.get(properties.get("KeyId")), plans.get(properties.get("UsagePlanId"), set()))
        for _, properties in resources.of_type("AWS::ApiGateway::UsagePlanKey")
    ]
    keys = {
        stage.name: tuple(key for key, plan in joined if key and (api_id, stage.name) in plan)
        for stage in stages
    }
    if not any(keys.values()):
        return dict.fromkeys(keys, (_made_key(resources, api),))
    return keys


def _made_key(resources: Resources, name: str) -> str:
    """Returns the value of a key that the template leaves to AWS. It is the same at every start."""
    digest = hashlib.sha256(f"{resources.template.name} {name}".encode()).hexdigest()
    return f"local-{digest[:34]}"


def _responses(
    api: str, api_id: str, body: Mapping[str, Any], resources: Resources, report: Report
) -> dict[str, GatewayResponse]:
    given = {
        str(kind): (
            spec.get("statusCode"),
            spec.get("responseParameters") or {},
            spec.get("responseTemplates") or {},
        )
        for kind, spec in (body.get("x-amazon-apigateway-gateway-responses") or {}).items()
    }
    for _, spec in _of_api("AWS::ApiGateway::GatewayResponse", api_id, resources):
        given[str(spec.get("ResponseType"))] = (
            spec.get("StatusCode"),
            spec.get("ResponseParameters") or {},
            spec.get("ResponseTemplates") or {},
        )
    for kind, (_, parameters, _) in given.items():
        _report_computed(f"{api}: gateway response {kind}", parameters, report)
    return {
        kind: GatewayResponse(
            None if status is None else int(status),
            static_headers(parameters),
            templates.get("application/json"),
        )
        for kind, (status, parameters, templates) in given.items()
    }


def _of_api(kind: str, api_id: str, resources: Resources) -> list[tuple[str, dict[str, Any]]]:
    return [
        (name, properties)
        for name, properties in resources.of_type(kind)
        if properties.get("RestApiId") == api_id
    ]
