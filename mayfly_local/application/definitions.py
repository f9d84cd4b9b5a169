"""API definitions in files of their own, which the template names by a local path.

`sam package` uploads such a file; here its content takes the place of the path.
"""

import re
from pathlib import Path
from typing import Any, Final

__all__ = ["definition_texts", "inline_definitions"]

_URI: Final = re.compile(r"DefinitionUri[\"']?\s*:\s*([^\s,}]+)")
_KINDS: Final = ("AWS::Serverless::Api", "AWS::Serverless::HttpApi")


def definition_texts(text: str, folder: Path) -> str:
    """Returns the content of all definition files that a template's text names.

    The cache of transformed templates depends on it.
    """
    paths = [folder / name.strip("\"'") for name in _URI.findall(text)]
    return "".join(path.read_text(errors="replace") for path in paths if path.is_file())


def inline_definitions(source: dict[str, Any], folder: Path) -> list[str]:
    """Replaces each local `DefinitionUri` by a `DefinitionBody`, and returns the problems found."""
    from samtranslator.yaml_helper import yaml_parse

    problems = []
    for name, resource in source["Resources"].items():
        properties = resource.get("Properties") or {}
        uri = properties.get("DefinitionUri")
        is_local = isinstance(uri, str) and not uri.startswith("s3://")
        if resource.get("Type") not in _KINDS or not is_local or "DefinitionBody" in properties:
            continue
        try:
            body = yaml_parse((folder / uri).read_text(encoding="utf-8"))
        except (OSError, ValueError) as problem:
            problems.append(f"resource {name}: DefinitionUri {uri} cannot be read: {problem}")
            continue
        if not isinstance(body, dict):
            problems.append(f"resource {name}: DefinitionUri {uri} is not an API definition")
            continue
        del properties["DefinitionUri"]
        properties["DefinitionBody"] = body
    return problems
