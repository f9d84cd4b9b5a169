"""The application that runs: a template's functions and event sources, resolved and frozen.

::

    scope       Ref and GetAtt of compute resources
    resources   resources by type, with these values in their properties
    functions   functions with their sizes, variables, libraries and layers
    code        the folders of functions and layers
    asynchronous  retries and destinations of asynchronous invocations
    roles       the role of a function, with its policies
    http_api    routes, authorizers, CORS and stage variables
    sources     event source mappings: queues and streams
    schedules   rules and schedules of EventBridge
    outputs     the outputs of the template
"""

from mayfly_local.application.build.functions import build_functions
from mayfly_local.application.build.http_api import build_http_api, build_stage_variables
from mayfly_local.application.build.outputs import build_outputs
from mayfly_local.application.build.resources import Resources
from mayfly_local.application.build.schedules import build_schedules
from mayfly_local.application.build.scope import Scope, compute_scope
from mayfly_local.application.build.sources import build_sources
from mayfly_local.application.model import Application, QueueSource, StreamSource
from mayfly_local.application.template import UNUSABLE, Template
from mayfly_local.errors import TemplateError

__all__ = ["build"]


def build(template: Template, state: Scope, *, api_url: str) -> Application:
    """Resolves functions and event sources against the deployed state.

    Raises TemplateError with every problem found.
    """
    try:
        return _application(template, state, api_url)
    except UNUSABLE as problem:
        raise TemplateError(
            template.path, [f"a property has a value that cannot be used: {problem!r}"]
        ) from None


def _application(template: Template, state: Scope, api_url: str) -> Application:
    # Each part reports its problems here, so that one error names all of them.
    problems: list[str] = []
    report = problems.append
    resources = Resources(template, {**compute_scope(template), **state})
    functions = build_functions(resources, report)
    routes, cors = build_http_api(resources, functions, report)
    sources = build_sources(resources, functions, report)
    schedules = build_schedules(resources, functions, report)
    application = Application(
        name=template.name,
        functions=functions,
        routes=routes,
        cors=cors,
        stage_variables=build_stage_variables(resources),
        queues=tuple(source for source in sources if isinstance(source, QueueSource)),
        streams=tuple(source for source in sources if isinstance(source, StreamSource)),
        schedules=schedules,
        outputs=build_outputs(resources, api_url),
        after_deploy=tuple((template.metadata.get("Mayfly") or {}).get("AfterDeploy") or ()),
    )
    if problems:
        raise TemplateError(template.path, problems)
    return application
