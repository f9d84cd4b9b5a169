"""The application that runs: a template's functions and event sources, resolved and frozen.

::

    scope         Ref and GetAtt of compute resources
    qualifiers    aliases and versions of functions
    resources     resources by type, with these values in their properties
    functions     functions with their sizes, variables, libraries and layers
    code          the folders of functions and layers
    images        functions of images, by their Dockerfiles
    roles         the role of a function, with its policies
    asynchronous  retries and destinations of asynchronous invocations
    definitions   methods and authorizers of definitions in OpenAPI
    apis          all APIs: http_api, rest_api (with mocks) and function_urls, with authorizers and
                  stage_variables
    sources       event source mappings: queues and streams
    schedules     rules and schedules of EventBridge
    outputs       the outputs of the template
    description   outputs and resources, as CloudFormation describes them
"""

from collections.abc import Callable
from dataclasses import replace

from mayfly_local.application.addresses import Addresses
from mayfly_local.application.build.apis import build_apis
from mayfly_local.application.build.description import build_description
from mayfly_local.application.build.functions import build_functions
from mayfly_local.application.build.outputs import build_outputs
from mayfly_local.application.build.qualifiers import qualifier_scope
from mayfly_local.application.build.resources import Resources
from mayfly_local.application.build.schedules import build_schedules
from mayfly_local.application.build.scope import Scope, compute_scope
from mayfly_local.application.build.sources import build_sources
from mayfly_local.application.classes import Report, refusals
from mayfly_local.application.model import Application, QueueSource, StreamSource
from mayfly_local.application.template import UNUSABLE, Template
from mayfly_local.errors import TemplateError

__all__ = ["build"]


def build(
    template: Template,
    state: Scope,
    *,
    api_url: str,
    next_port: Callable[[int], int] = lambda port: port,
    strict: bool = False,
    report: Report | None = None,
) -> Application:
    """Resolves functions and event sources against the deployed state.

    `api_url` is the address of the first API, and `next_port` returns a free port for each further
    one. Raises TemplateError with every problem found. With `strict`, a part that is absent here is
    a problem. `report` has what is known before: resources that were not deployed.
    """
    addresses = Addresses.of(template, url=api_url, next_port=next_port)
    try:
        return _application(template, state, addresses, strict=strict, report=report or Report())
    except UNUSABLE as problem:
        raise TemplateError(
            template.path, [f"a property has a value that cannot be used: {problem!r}"]
        ) from None


def _application(
    template: Template, state: Scope, addresses: Addresses, *, strict: bool, report: Report
) -> Application:
    # Each part reports its problems here, so that one error names all of them.
    scope = {**compute_scope(template), **addresses.scope(template), **state}
    resources = Resources(template, {**scope, **qualifier_scope(template, scope)})
    functions = {
        name: replace(function, variables=addresses.localized_all(function.variables))
        for name, function in build_functions(resources, report).items()
    }
    sources = build_sources(resources, functions, report)
    schedules = tuple(
        schedule
        for schedule in build_schedules(resources, functions, report)
        if schedule.function is None or schedule.function in functions
    )
    outputs = build_outputs(resources, addresses, report)
    application = Application(
        name=template.name,
        functions=functions,
        apis=build_apis(resources, functions, addresses, report),
        queues=tuple(source for source in sources if isinstance(source, QueueSource)),
        streams=tuple(source for source in sources if isinstance(source, StreamSource)),
        schedules=schedules,
        outputs=outputs,
        after_deploy=tuple((template.metadata.get("Mayfly") or {}).get("AfterDeploy") or ()),
        parts=report.with_classes(template.parts),
        description=build_description(resources, outputs),
    )
    problems = [*report.problems, *(refusals(application.parts) if strict else ())]
    if problems:
        raise TemplateError(template.path, problems)
    return application
