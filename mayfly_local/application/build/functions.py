"""Functions: their sizes, variables, libraries, layers and roles."""

import re
from collections.abc import Mapping
from typing import Any, Final

from mayfly_local.application.build.asynchronous import build_asynchronous_rules
from mayfly_local.application.build.code import code_folder, layer_folder
from mayfly_local.application.build.qualifiers import qualifiers_of
from mayfly_local.application.build.resources import Report, Resources, as_text
from mayfly_local.application.build.roles import build_role
from mayfly_local.application.metadata import has_libraries
from mayfly_local.application.model import Function
from mayfly_local.application.template import UNUSABLE
from mayfly_local.errors import TemplateError
from mayfly_local.iam.function_names import FunctionName

__all__ = ["absence_of", "build_functions", "find_function"]

#: The URI under which API Gateway calls a function.
_LAMBDA_URI: Final = re.compile(r"/functions/(?P<arn>arn:[^/]+)/invocations$")


def build_functions(resources: Resources, report: Report) -> dict[str, Function]:
    """Returns all functions by logical id. Raises TemplateError for a value of a wrong shape."""
    functions = {}
    for name, properties in resources.of_type("AWS::Lambda::Function"):
        try:
            if reason := _absence(properties):
                report.leave_out(name, reason)
            else:
                functions[name] = _function(name, properties, resources, report)
        except UNUSABLE as problem:
            raise TemplateError(
                resources.template.path,
                [f"resource {name}: a property has a value that cannot be used ({problem})"],
            ) from None
    return functions


def find_function(
    functions: Mapping[str, Function], where: str, reference: Any, report: Report
) -> str:
    """Returns the logical id of the function that an ARN, a URI or a name refers to.

    If no function that runs here has it, reports it as absent from `where` and returns the
    reference.
    """
    text = str(reference)
    uri = _LAMBDA_URI.search(text)
    wanted = uri["arn"] if uri else text
    # An alias or a version is the function itself here.
    named = FunctionName.parse(wanted)
    for name, function in functions.items():
        if named is not None and named.name in (name, function.function_name):
            return name
    report.absent(where, f"{wanted or '(none)'} is not a function that runs here")
    return wanted.rpartition(":")[2]


def absence_of(function: str, functions: Mapping[str, Function]) -> str | None:
    """Returns the reason why a route cannot call a function, or None if it runs here."""
    return None if function in functions else f"the function {function or '(none)'} is absent here"


def _absence(properties: dict[str, Any]) -> str:
    """Returns the reason if a function cannot run here, else an empty text."""
    runtime = str(properties.get("Runtime", ""))
    code = properties.get("Code") or {}
    if not runtime:
        return "a function of a container image"
    if not runtime.startswith("python3"):
        return f"a function of the runtime {runtime}"
    if code.get("S3Bucket") != "local" and "ZipFile" not in code:
        return "a function whose code is not a local folder"
    return ""


def _function(
    name: str, properties: dict[str, Any], resources: Resources, report: Report
) -> Function:
    template, function_name = resources.template, str(resources.scope[name, None])
    code = properties.get("Code", {})
    folder = code_folder(name, code, template, report)
    variables = properties.get("Environment", {}).get("Variables", {})
    limit = properties.get("ReservedConcurrentExecutions")
    metadata = template.resources[name].get("Metadata") or {}
    libraries = template.libraries if has_libraries(template.resources[name]) else ()
    timeout, memory = int(properties.get("Timeout", 3)), int(properties.get("MemorySize", 128))
    if not 1 <= timeout <= 900:
        report(f"resource {name}: Timeout {timeout} is not from 1 to 900 seconds")
    if not 128 <= memory <= 10240:
        report(f"resource {name}: MemorySize {memory} is not from 128 to 10240 MB")
    return Function(
        name=name,
        arn=resources.scope[name, "Arn"],
        handler=properties.get("Handler", ""),
        runtime=properties["Runtime"],
        timeout_seconds=timeout,
        memory_mb=memory,
        variables={key: as_text(value) for key, value in variables.items()},
        code=folder,
        inline=code.get("ZipFile"),
        brings_packages=folder is not None
        and (folder / "requirements.txt").exists()
        and not metadata.get("SkipBuild"),
        libraries=libraries,
        layers=tuple(
            layer_folder(name, reference, template, report)
            for reference in properties.get("Layers", [])
        ),
        limit=None if limit is None else int(limit),
        log_group=str(
            properties.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{function_name}"
        ),
        role=build_role(properties.get("Role"), resources, report),
        function_name=function_name,
        qualifiers=qualifiers_of(resources.scope[name, "Arn"], template, resources.scope),
        asynchronous=build_asynchronous_rules(
            name, resources.scope[name, "Arn"], properties, resources, report
        ),
    )
