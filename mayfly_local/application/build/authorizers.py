"""Authorizers of HTTP and REST APIs: from an API's definition, or from resources of their own.

Both forms are brought to that of a definition first (`x-amazon-apigateway-authorizer`).
Page api-gateway-swagger-extensions-authorizer of
https://docs.aws.amazon.com/apigateway/latest/developerguide/
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from mayfly_local.account import REGION
from mayfly_local.application.apis import Authorizer, AuthorizerKind
from mayfly_local.application.build.functions import find_function
from mayfly_local.application.build.resources import Report
from mayfly_local.application.model import Function

__all__ = ["IAM", "Security", "authorizer_of", "scheme_of_resource", "schemes_of", "security_of"]

#: The authorizer of routes with AuthorizationType AWS_IAM.
IAM: Final = Authorizer("AWS_IAM", kind=AuthorizerKind.IAM)
_DEFAULT_CACHE_SECONDS: Final = 300
_SOURCE: Final = re.compile(
    r"(\$request|method\.request)\.(header|querystring)\.[^.]+"
    r"|\$?(context|stageVariables)(\.[A-Za-z0-9_]+)+"
)


@dataclass(frozen=True)
class Security:
    """The requirements of a route for its callers."""

    authorizer: Authorizer | None
    scopes: tuple[str, ...]
    needs_key: bool


def schemes_of(body: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the security schemes of a definition in OpenAPI 3 or Swagger 2."""
    components = body.get("components") or {}
    return {**(body.get("securityDefinitions") or {}), **(components.get("securitySchemes") or {})}


def security_of(
    operation: Mapping[str, Any],
    body: Mapping[str, Any],
    authorizers: Mapping[str, Authorizer],
) -> Security:
    """Returns what an operation asks of its callers, or what its definition asks of all."""
    schemes = schemes_of(body)
    asked = [
        (name, scopes or ())
        for requirement in operation.get("security", body.get("security")) or ()
        for name, scopes in requirement.items()
    ]
    chosen = [(name, scopes) for name, scopes in asked if name in authorizers]
    needs_key = any(_is_api_key(schemes.get(name)) for name, _ in asked)
    if not chosen:
        return Security(None, (), needs_key)
    name, scopes = chosen[0]
    return Security(authorizers[name], tuple(map(str, scopes)), needs_key)


def authorizer_of(
    api: str,
    name: str,
    scheme: Mapping[str, Any],
    functions: Mapping[str, Function],
    report: Report,
    *,
    is_rest: bool,
) -> Authorizer | None:
    """Returns the authorizer of a security scheme, or None if the scheme has none."""
    if scheme.get("x-amazon-apigateway-authtype") == "awsSigv4":
        return IAM
    spec = scheme.get("x-amazon-apigateway-authorizer")
    if not spec:
        return None
    where = f"{api}: authorizer {name}"
    kind = str(spec.get("type", "")).lower()
    if kind == "jwt":
        return _jwt(name, spec)
    if kind == "cognito_user_pools":
        return _cognito(name, spec)
    sources = _sources(scheme, spec, kind, is_rest=is_rest)
    for source in sources:
        if not _SOURCE.fullmatch(source):
            report(f"resource {where}: the identity source {source} is not one that AWS knows")
    ttl = spec.get("authorizerResultTtlInSeconds")
    default = _DEFAULT_CACHE_SECONDS if sources else 0
    payload = "1.0" if is_rest else str(spec.get("authorizerPayloadFormatVersion", "1.0"))
    return Authorizer(
        name=name,
        function=find_function(functions, where, spec.get("authorizerUri", ""), report),
        identity_sources=sources,
        cache_seconds=int(default if ttl is None else ttl),
        is_simple=not is_rest and str(spec.get("enableSimpleResponses", False)).lower() == "true",
        kind=AuthorizerKind.TOKEN if kind == "token" else AuthorizerKind.REQUEST,
        payload=payload if payload in ("1.0", "2.0") else f"{float(payload):.1f}",
        pattern=spec.get("identityValidationExpression"),
    )


def scheme_of_resource(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Returns an authorizer that is a resource of its own as a security scheme."""
    jwt = properties.get("JwtConfiguration") or {}
    kind = properties.get("Type") or properties.get("AuthorizerType") or ""
    spec = {
        "type": str(kind).lower(),
        "authorizerUri": properties.get("AuthorizerUri", ""),
        "authorizerResultTtlInSeconds": properties.get("AuthorizerResultTtlInSeconds"),
        "authorizerPayloadFormatVersion": properties.get("AuthorizerPayloadFormatVersion", "1.0"),
        "enableSimpleResponses": properties.get("EnableSimpleResponses", False),
        "identitySource": properties.get("IdentitySource"),
        "identityValidationExpression": properties.get("IdentityValidationExpression"),
        "jwtConfiguration": {"issuer": jwt.get("Issuer"), "audience": jwt.get("Audience")},
        "providerARNs": properties.get("ProviderARNs") or (),
    }
    return {"x-amazon-apigateway-authorizer": spec}


def _is_api_key(scheme: Any) -> bool:
    """Returns whether a scheme is the API key of REST APIs, and not an authorizer's header."""
    return (
        isinstance(scheme, dict)
        and str(scheme.get("name", "")).lower() == "x-api-key"
        and "x-amazon-apigateway-authtype" not in scheme
        and "x-amazon-apigateway-authorizer" not in scheme
    )


def _sources(
    scheme: Mapping[str, Any], spec: Mapping[str, Any], kind: str, *, is_rest: bool
) -> tuple[str, ...]:
    given = spec.get("identitySource")
    if isinstance(given, str):  # REST APIs write them in one text.
        return tuple(source.strip() for source in given.split(",") if source.strip())
    if given:
        return tuple(map(str, given))
    if is_rest and kind == "token":
        return (f"method.request.header.{scheme.get('name', 'Authorization')}",)
    return ()


def _jwt(name: str, spec: Mapping[str, Any]) -> Authorizer:
    settings = spec.get("jwtConfiguration") or {}
    audience = settings.get("audience") or ()
    source = spec.get("identitySource") or "$request.header.Authorization"
    return Authorizer(
        name,
        identity_sources=(source,) if isinstance(source, str) else tuple(source),
        kind=AuthorizerKind.JWT,
        issuer=str(settings.get("issuer") or ""),
        audience=(audience,) if isinstance(audience, str) else tuple(map(str, audience)),
    )


def _cognito(name: str, spec: Mapping[str, Any]) -> Authorizer:
    pools = spec.get("providerARNs") or [""]
    pool = str(pools[0]).rpartition("/")[2]
    source = spec.get("identitySource") or "method.request.header.Authorization"
    return Authorizer(
        name,
        identity_sources=(str(source),),
        kind=AuthorizerKind.COGNITO,
        issuer=f"https://cognito-idp.{REGION}.amazonaws.com/{pool}",
    )
