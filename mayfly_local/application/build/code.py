"""The folders and zip archives that have the code of functions and the content of layers."""

import zipfile
from pathlib import Path
from typing import Any

from mayfly_local.application.sam import LOCAL_BUCKET
from mayfly_local.application.template import Template

__all__ = ["absence_of_code", "code_path"]


def code_path(code: dict[str, Any], template: Template) -> Path | None:
    """Returns the folder or archive of a function's code or of a layer's content, or None.

    If the code is one Python file, which `sam package` uploads by itself, this is its folder.
    """
    if code.get("S3Bucket") != LOCAL_BUCKET:
        return None
    path = (template.folder / str(code.get("S3Key"))).resolve()
    return path.parent if path.suffix == ".py" and path.is_file() else path


def absence_of_code(code: dict[str, Any], template: Template) -> str:
    """Returns the reason if code or content is not on this machine, else an empty text."""
    if "ZipFile" in code:
        return ""
    path = code_path(code, template)
    if path is None:
        return "its code is not a local folder"
    if path.is_dir() or zipfile.is_zipfile(path):
        return ""
    problem = "is not a folder or a zip archive" if path.exists() else "does not exist"
    return f"its code {code['S3Key']} {problem}"
