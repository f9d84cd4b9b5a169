"""Function URLs: addresses that call one function each.

https://docs.aws.amazon.com/lambda/latest/dg/urls-configuration.html
"""

from collections.abc import Mapping

from mayfly_local.application.addresses import Addresses
from mayfly_local.application.apis import Api, ApiKind, Route, Stage
from mayfly_local.application.build.authorizers import IAM
from mayfly_local.application.build.functions import find_target
from mayfly_local.application.build.http_api import cors_of
from mayfly_local.application.build.resources import Report, Resources
from mayfly_local.application.model import Function

__all__ = ["build_function_urls"]


def build_function_urls(
    resources: Resources, functions: Mapping[str, Function], addresses: Addresses, report: Report
) -> list[Api]:
    """Returns the template's function URLs. Raises TemplateError."""
    urls = []
    for name, properties in resources.of_type("AWS::Lambda::Url"):
        if properties.get("InvokeMode") == "RESPONSE_STREAM":
            report.accepted(name, "InvokeMode: its responses are sent as a whole")
        reference = properties.get("TargetFunctionArn", "")
        function, absent = find_target(functions, name, reference, report)
        authorizer = IAM if properties.get("AuthType") == "AWS_IAM" else None
        address = addresses.by_name[name]
        urls.append(
            Api(
                name=name,
                id=address.id,
                kind=ApiKind.URL,
                url=address.url,
                routes=(Route("ANY", "$default", function, authorizer, absent=absent),),
                stages=(Stage("$default"),),
                cors=cors_of(properties.get("Cors")),
            )
        )
    return urls
