"""The outputs of a template, with the addresses of the local stack."""

from mayfly_local.application.addresses import Addresses
from mayfly_local.application.build.resources import Resources, as_text

__all__ = ["build_outputs"]


def build_outputs(resources: Resources, addresses: Addresses) -> dict[str, str]:
    """Returns the outputs as texts, by name. Raises TemplateError."""
    outputs = {}
    for name, output in resources.template.outputs.items():
        value = as_text(resources.template.resolve(output.get("Value", ""), resources.scope))
        outputs[name] = addresses.localized(value)
    return outputs
