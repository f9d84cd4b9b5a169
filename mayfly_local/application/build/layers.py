"""Layers of a function: folders of the template, and packages in place of published layers."""

import re
from pathlib import Path
from typing import Any, Final, NamedTuple

from mayfly_local.application.build.code import absence_of_code, code_path
from mayfly_local.application.build.resources import Report, Resources

__all__ = ["Layers", "build_layers"]

#: Published layers that are Python packages, and the requirement that installs the same.
#: https://docs.powertools.aws.dev/lambda/python/latest/getting-started/install/
#: https://aws-sdk-pandas.readthedocs.io/en/stable/layers.html
_PACKAGES: Final = (
    (re.compile(r"AWSLambdaPowertoolsPythonV3.*"), "aws-lambda-powertools[all]>=3,<4"),
    (re.compile(r"AWSLambdaPowertoolsPythonV2.*"), "aws-lambda-powertools[all]>=2,<3"),
    (re.compile(r"AWSLambdaPowertoolsPython"), "aws-lambda-powertools>=1,<2"),
    (re.compile(r"AWSSDKPandas-Python.*"), "awswrangler"),
    (re.compile(r"AWSDataWrangler-Python.*"), "awswrangler<3"),
)
#: Published layers that only observe.
_WITHOUT_EFFECT: Final = re.compile(
    r"LambdaInsightsExtension.*|aws-otel-.*|AWSOpenTelemetryDistro.*|AWSCodeGuruProfiler.*"
    r"|Datadog-Extension.*|Dynatrace_.*|NewRelic.*|AWSLambdaDebugger.*"
)


class Layers(NamedTuple):
    """Layers of a function: folders or archives of content, and requirements that pip installs."""

    folders: tuple[Path, ...]
    packages: tuple[str, ...]


def build_layers(function: str, references: Any, resources: Resources, report: Report) -> Layers:
    """Returns the layers that a function refers to, and reports those that are missing.

    A reference is an ARN, of a layer of the template or of a published one. A folder may be given
    for a published one.
    """
    template = resources.template
    own = template.of_type("AWS::Lambda::LayerVersion")
    names = {resources.scope[name, None]: name for name in own}
    folders: list[Path] = []
    packages: list[str] = []
    for reference in map(str, references if isinstance(references, list) else [references]):
        if (name := names.get(reference)) is not None:
            content = {"Content": own[name].get("Content") or {}}
            content = resources.resolve(name, content)["Content"]
            if reason := absence_of_code(content, template):
                report.leave_out(name, f"a layer: {reason.replace('code', 'content')}")
            elif path := code_path(content, template):
                folders.append(path)
            continue
        published = _published_name(reference)
        if (given := _given(reference, template.layers)) is not None:
            folders.append(given)
        elif package := next((text for form, text in _PACKAGES if form.fullmatch(published)), None):
            packages.append(package)
        elif _WITHOUT_EFFECT.fullmatch(published):
            report.accepted(function, f"the layer {published}")
        else:
            report.absent(
                function, f"the layer {reference} (give its folder: --layer {reference}=PATH)"
            )
    return Layers(tuple(folders), tuple(packages))


def _published_name(arn: str) -> str:
    """Returns the name in an ARN: `arn:aws:lambda:REGION:ACCOUNT:layer:NAME:VERSION`."""
    parts = arn.split(":")
    return parts[6] if len(parts) > 6 else arn


def _given(arn: str, layers: dict[str, Path]) -> Path | None:
    """Returns the folder that is given for an ARN, with or without its version, or for its name."""
    for key in (arn, arn.rpartition(":")[0], _published_name(arn)):
        if key in layers:
            return layers[key]
    return None
