"""The outputs of a template, with the addresses of the local stack."""

from mayfly_local.account import REGION
from mayfly_local.application.build.resources import Resources, as_text

__all__ = ["build_outputs"]


def build_outputs(resources: Resources, api_url: str) -> dict[str, str]:
    """Returns the outputs as texts, by name. Raises TemplateError."""
    outputs = {}
    for name, output in resources.template.outputs.items():
        value = as_text(resources.template.resolve(output.get("Value", ""), resources.scope))
        # The API's own address becomes the local one in every output.
        outputs[name] = value.replace(f"https://local.execute-api.{REGION}.amazonaws.com", api_url)
    return outputs
