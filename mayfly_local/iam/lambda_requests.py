"""The actions of requests to Lambda, by their paths.

https://docs.aws.amazon.com/service-authorization/latest/reference/list_awslambda.html
"""

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import unquote

from mayfly_local.iam.function_names import FunctionName

__all__ = ["lambda_actions"]

_PATH: Final = re.compile(r"/\d{4}-\d\d-\d\d/functions/(?P<name>[^/]+)(?P<rest>/[^/]+)?/?.*")
_OPERATIONS: Final = {
    ("POST", "/invocations"): "InvokeFunction",
    ("POST", "/invoke-async"): "InvokeAsync",
    ("GET", "/configuration"): "GetFunctionConfiguration",
    ("GET", ""): "GetFunction",
}


def lambda_actions(method: str, path: str, query: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Yields the action of a request and the ARN of its function.

    An unqualified reference is checked as such, so a policy for the function's own ARN allows it.
    """
    match = _PATH.fullmatch(path)
    if match is None:
        yield ("ListFunctions" if method == "GET" else "?"), "*"
        return
    name = FunctionName.parse(unquote(match["name"]), query.get("Qualifier", ""))
    action = _OPERATIONS.get((method, match["rest"] or ""), "?")
    yield action, name.arn if name else "*"
