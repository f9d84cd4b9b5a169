"""The folders that have the code of functions and the content of layers."""

from pathlib import Path
from typing import Any

from mayfly_local.application.build.resources import Report
from mayfly_local.application.template import Template

__all__ = ["code_folder", "layer_folder"]


def code_folder(name: str, code: dict[str, Any], template: Template, report: Report) -> Path | None:
    """Returns the folder of a function's code or of a layer's content, None if it has none.

    Code without a folder must be in the template itself.
    """
    if code.get("S3Bucket") == "local":
        return (template.folder / str(code["S3Key"])).resolve()
    if "ZipFile" not in code:
        report(f"resource {name}: its code is not a local folder")
    return None


def layer_folder(function: str, reference: str, template: Template, report: Report) -> Path:
    """Returns the folder of a layer that a function refers to."""
    name = str(reference).removeprefix("layer:")
    layer = template.of_type("AWS::Lambda::LayerVersion").get(name)
    if layer is None:
        report(f"resource {function}: the layer {reference} is not in this template")
        return template.folder
    return code_folder(name, layer.get("Content", {}), template, report) or template.folder
