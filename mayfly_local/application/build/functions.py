"""Functions: their sizes, variables, libraries, layers and roles."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from mayfly_local.application.build.asynchronous import build_asynchronous_rules
from mayfly_local.application.build.code import absence_of_code, code_path
from mayfly_local.application.build.images import Image, read_image
from mayfly_local.application.build.layers import build_layers
from mayfly_local.application.build.qualifiers import qualifiers_of
from mayfly_local.application.build.resources import Report, Resources, as_text
from mayfly_local.application.build.roles import build_role
from mayfly_local.application.metadata import has_libraries, is_bundled
from mayfly_local.application.model import Function
from mayfly_local.application.template import UNUSABLE, Template
from mayfly_local.errors import TemplateError
from mayfly_local.iam.function_names import FunctionName

__all__ = ["build_functions", "find_function", "find_target"]

#: The URI under which API Gateway calls a function.
_LAMBDA_URI: Final = re.compile(r"/functions/(?P<arn>arn:[^/]+)/invocations$")


def build_functions(resources: Resources, report: Report) -> dict[str, Function]:
    """Returns all functions by logical id. Raises TemplateError for a value of a wrong shape."""
    functions = {}
    for name, properties in resources.of_type("AWS::Lambda::Function"):
        try:
            code = _code(name, properties, resources.template, report)
            if isinstance(code, str):
                report.leave_out(name, code)
            else:
                functions[name] = _function(name, properties, code, resources, report)
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


class Target(NamedTuple):
    """The function of a route by its logical id, and the reason if it is absent here."""

    function: str
    absent: str | None


def find_target(
    functions: Mapping[str, Function], where: str, reference: Any, report: Report
) -> Target:
    """Returns the function that a route refers to, as `find_function` finds it."""
    name = find_function(functions, where, reference, report)
    if name in functions:
        return Target(name, None)
    return Target(name, f"the function {name or '(none)'} is absent here")


class _Code(NamedTuple):
    """A function's code: a folder, or None if it is in the template, and its handler.

    An image has variables and packages, too.
    """

    folder: Path | None
    handler: str
    runtime: str
    variables: Mapping[str, str] = MappingProxyType({})
    packages: tuple[str, ...] = ()


def _code(name: str, properties: dict[str, Any], template: Template, report: Report) -> _Code | str:
    """Returns the code of a function, or the reason if it cannot run here."""
    runtime = str(properties.get("Runtime", ""))
    if properties.get("PackageType") == "Image" or not runtime:
        metadata = template.resources[name].get("Metadata") or {}
        image = read_image(metadata, template)
        if isinstance(image, str):
            return f"a function of an image: {image}"
        return _code_of_image(name, image, properties.get("ImageConfig") or {}, report)
    if not runtime.startswith("python3"):
        return f"a function of the runtime {runtime}"
    code = properties.get("Code") or {}
    if reason := absence_of_code(code, template):
        return f"a function: {reason}"
    return _Code(code_path(code, template), str(properties.get("Handler", "")), runtime)


def _code_of_image(
    name: str, image: Image, config: Mapping[str, Any], report: Report
) -> _Code | str:
    """Returns the code of a function of an image; `config` is its ImageConfig."""
    match config.get("Command"):
        case None | []:
            if image.handler is None:
                return "a function of an image: its Dockerfile has no handler in CMD"
            handler = image.handler
        case [str(handler)]:
            pass
        case other:
            return f"a function of an image: its ImageConfig.Command {other} is not one handler"
    for line in image.missed:
        report.absent(name, line)
    for key in sorted(set(config) - {"Command"}):
        report.absent(name, f"ImageConfig.{key}")
    return _Code(image.folder, handler, image.runtime, image.variables, image.packages)


def _function(
    name: str, properties: dict[str, Any], code: _Code, resources: Resources, report: Report
) -> Function:
    template, function_name = resources.template, str(resources.scope[name, None])
    metadata = template.resources[name].get("Metadata") or {}
    folder = code.folder
    layers = build_layers(name, properties.get("Layers") or [], resources, report)
    variables = (properties.get("Environment") or {}).get("Variables") or {}
    limit = properties.get("ReservedConcurrentExecutions")
    libraries = template.libraries if has_libraries(template.resources[name]) else ()
    if has_libraries(template.resources[name]) and not libraries and not is_bundled(folder):
        report.accepted(name, "BuildMethod makefile: its folder runs as it is")
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
        handler=code.handler,
        runtime=code.runtime,
        timeout_seconds=timeout,
        memory_mb=memory,
        variables={**code.variables, **{key: as_text(v) for key, v in variables.items()}},
        code=folder,
        inline=(properties.get("Code") or {}).get("ZipFile"),
        brings_packages=folder is not None
        and any((folder / file).exists() for file in ("requirements.txt", "pyproject.toml"))
        and not metadata.get("SkipBuild"),
        libraries=libraries,
        layers=layers.folders,
        packages=(*code.packages, *layers.packages),
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
        tmp_mb=tmp,
    )
