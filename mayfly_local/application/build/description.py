"""The stack as CloudFormation describes it: outputs, and resources with their Refs."""

import contextlib
from collections.abc import Mapping

from mayfly_local.application.build.resources import Resources, as_text
from mayfly_local.application.model import Description
from mayfly_local.application.physical_ids import physical_id
from mayfly_local.errors import TemplateError

__all__ = ["build_description"]


def build_description(resources: Resources, outputs: Mapping[str, str]) -> Description:
    """Returns the description of a stack whose outputs are known."""
    template = resources.template
    return Description(
        text=template.description,
        outputs=tuple(_output(resources, name, value) for name, value in outputs.items()),
        resources={
            name: (str(resource["Type"]), _reference(resources, name))
            for name, resource in template.resources.items()
        },
    )


def _output(resources: Resources, name: str, value: str) -> dict[str, str]:
    output = resources.template.outputs[name]
    described = {"OutputKey": name, "OutputValue": value}
    if text := output.get("Description"):
        described["Description"] = str(text)
    if export := (output.get("Export") or {}).get("Name"):
        # A name that refers to something absent is left out: no other stack is here to import it.
        with contextlib.suppress(TemplateError):
            described["ExportName"] = as_text(resources.template.resolve(export, resources.scope))
    return described


def _reference(resources: Resources, name: str) -> str:
    if name in resources.template.state():
        return ""
    known = resources.scope.get((name, None))
    resource = resources.template.resources[name]
    if known is None:
        properties = resource.get("Properties") or {}
        known = physical_id(resources.template.name, name, resource["Type"], properties, None)
    return as_text(known)
