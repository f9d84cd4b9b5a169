"""Functions: their sizes, variables, libraries, layers and roles."""

import re
from collections.abc import Mapping
from typing import Any, Final

from mayfly_local.application.build.code import code_folder, layer_folder
from mayfly_local.application.build.resources import Report, Resources, as_text
from mayfly_local.application.build.roles import build_role
from mayfly_local.application.metadata import has_libraries
from mayfly_local.application.model import Function
from mayfly_local.application.template import UNUSABLE
from mayfly_local.errors import TemplateError

__all__ = ["build_functions", "find_function"]

#: The URI under which API Gateway calls a function.
_LAMBDA_URI: Final = re.compile(r"/functions/(?P<arn>arn:[^/]+)/invocations$")


def build_functions(resources: Resources, report: Report) -> dict[str, Function]:
    """Returns all functions by logical id. Raises TemplateError for a value of a wrong shape."""
    functions = {}
    for name, properties in resources.of_type("AWS::Lambda::Function"):
        try:
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

    If no function has it, reports that with `where` and returns an empty text.
    """
    text = str(reference)
    uri = _LAMBDA_URI.search(text)
    wanted = uri["arn"] if uri else text
    for name, function in functions.items():
        if wanted in (name, function.arn):
            return name
    report(f"{where}: {text or '(none)'} is not a function of this template")
    return ""


def _function(
    name: str, properties: dict[str, Any], resources: Resources, report: Report
) -> Function:
    template = resources.template
    code = properties.get("Code", {})
    folder = code_folder(name, code, template, report)
    runtime = properties.get("Runtime", "")
    if not runtime.startswith("python3"):
        report(
            f"resource {name}: the runtime {runtime or 'of a container image'} is not "
            "supported locally (python3.x is)"
        )
    variables = properties.get("Environment", {}).get("Variables", {})
    limit = properties.get("ReservedConcurrentExecutions")
    metadata = template.resources[name].get("Metadata") or {}
    libraries = template.libraries if has_libraries(template.resources[name]) else ()
    timeout, memory = int(properties.get("Timeout", 3)), int(properties.get("MemorySize", 128))
    if not 1 <= timeout <= 900:
        report(f"resource {name}: Timeout {timeout} is not from 1 to 900 seconds")
    if not 128 <= memory <= 10240:
        report(f"resource {name}: MemorySize {memory} is not from 128 to 10240 MB")
    tmp = int((properties.get("EphemeralStorage") or {}).get("Size", 512))
    if not 512 <= tmp <= 10240:
        report(f"resource {name}: EphemeralStorage {tmp} is not from 512 to 10240 MB")
    return Function(
        name=name,
        arn=resources.scope[name, "Arn"],
        handler=properties.get("Handler", ""),
        runtime=runtime,
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
        log_group=str(properties.get("LoggingConfig", {}).get("LogGroup") or f"/aws/lambda/{name}"),
        role=build_role(properties.get("Role"), resources, report),
        tmp_mb=tmp,
    )
