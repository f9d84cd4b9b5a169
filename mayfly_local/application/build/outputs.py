"""The outputs of a template, with the addresses of the local stack."""

from mayfly_local.application.addresses import Addresses
from mayfly_local.application.build.resources import Report, Resources, as_text
from mayfly_local.errors import TemplateError

__all__ = ["build_outputs"]


def build_outputs(resources: Resources, addresses: Addresses, report: Report) -> dict[str, str]:
    """Returns the outputs as texts, by name. One that refers to nothing is absent."""
    outputs = {}
    for name, output in resources.template.outputs.items():
        try:
            value = resources.template.resolve(output.get("Value", ""), resources.scope)
        except TemplateError as problem:
            report.absent(name, f"an output: {'; '.join(problem.problems)}")
        else:
            outputs[name] = addresses.localized(as_text(value))
    return outputs
