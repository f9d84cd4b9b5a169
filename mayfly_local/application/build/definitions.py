"""Definitions of APIs in OpenAPI 3 or Swagger 2: their methods and authorizers."""

from collections.abc import Mapping
from typing import Any, Final

from mayfly_local.application.apis import Authorizer
from mayfly_local.application.build.authorizers import authorizer_of, schemes_of
from mayfly_local.application.build.resources import Report
from mayfly_local.application.model import Function

__all__ = ["METHODS", "authorizers_of"]

_ANY_METHOD: Final = "x-amazon-apigateway-any-method"
#: Keys of a path that are methods, with the methods of routes.
METHODS: Final = {
    **{
        method: method.upper()
        for method in ("get", "put", "post", "delete", "options", "head", "patch", "trace")
    },
    _ANY_METHOD: "ANY",
}


def authorizers_of(
    api: str,
    body: Mapping[str, Any],
    functions: Mapping[str, Function],
    report: Report,
    *,
    is_rest: bool,
) -> dict[str, Authorizer]:
    """Returns the authorizers of a definition by the names of their security schemes."""
    found = {
        name: authorizer_of(api, name, scheme, functions, report, is_rest=is_rest)
        for name, scheme in schemes_of(body).items()
    }
    return {name: authorizer for name, authorizer in found.items() if authorizer is not None}
