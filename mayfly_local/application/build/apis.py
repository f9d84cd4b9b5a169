"""All APIs of a template, in the order of their addresses."""

from collections.abc import Mapping

from mayfly_local.application.addresses import Addresses
from mayfly_local.application.apis import Api
from mayfly_local.application.build.function_urls import build_function_urls
from mayfly_local.application.build.http_api import build_http_apis
from mayfly_local.application.build.resources import Report, Resources
from mayfly_local.application.build.rest_api import build_rest_apis
from mayfly_local.application.model import Function

__all__ = ["build_apis"]


def build_apis(
    resources: Resources, functions: Mapping[str, Function], addresses: Addresses, report: Report
) -> tuple[Api, ...]:
    """Returns HTTP APIs, REST APIs and function URLs. Raises TemplateError."""
    apis = [
        *build_http_apis(resources, functions, addresses, report),
        *build_rest_apis(resources, functions, addresses, report),
        *build_function_urls(resources, functions, addresses, report),
    ]
    order = list(addresses.by_name)
    return tuple(sorted(apis, key=lambda api: order.index(api.name)))
