"""The folders and zip archives that have the code of functions and the content of layers."""

import re
import zipfile
from pathlib import Path
from typing import Any, Final

from mayfly_local.application.sam import LOCAL_BUCKET
from mayfly_local.application.template import Template

__all__ = ["absence_of_code", "code_path", "image_folder"]

#: Images of AWS with Python and nothing else, and the ones that mirror them.
_BASE_IMAGE: Final = re.compile(
    r"(?:public\.ecr\.aws/lambda/|(?:docker\.io/)?amazon/aws-lambda-)python[:@]\S+"
)
_TASK_ROOT: Final = re.compile(r"\$\{?LAMBDA_TASK_ROOT\}?|/var/task")
#: Instructions that do not change which files a function has, or that pip's packages replace.
_HARMLESS: Final = {"ARG", "CMD", "COPY", "ENV", "FROM", "LABEL", "RUN", "WORKDIR"}


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


def image_folder(metadata: dict[str, Any], template: Template) -> tuple[Path, str] | str:
    """Returns the folder and the handler of a function whose Dockerfile only copies Python files.

    Otherwise it returns the reason why the image is needed. A Dockerfile of one stage counts, from
    AWS's image for Python, that copies one folder to the task root, and names the handler in CMD.
    """
    context = template.folder / str(metadata.get("DockerContext") or ".")
    path = context / str(metadata.get("Dockerfile") or "Dockerfile")
    if not path.is_file():
        return "its image has no Dockerfile here"
    instructions = _instructions(path.read_text(errors="replace"))
    bases = [text for word, text in instructions if word == "FROM"]
    if len(bases) != 1 or not _BASE_IMAGE.match(bases[0].removeprefix("--platform=linux/amd64 ")):
        return "its image is not AWS's for Python"
    if other := next((word for word, _ in instructions if word not in _HARMLESS), None):
        return f"its Dockerfile has {other}"
    handlers = re.findall(r'"([^"]+)"', " ".join(t for word, t in instructions if word == "CMD"))
    if len(handlers) != 1:
        return "its Dockerfile has no handler in CMD"
    folders = set()
    for text in (text for word, text in instructions if word == "COPY"):
        *sources, target = re.findall(r'[^\s\[\],"]+', text)
        if _TASK_ROOT.sub("", target).strip("./") or text.startswith("--"):
            return f"its Dockerfile copies to {target}"
        for source in sources:
            folders |= {_copied(context, source)}
    if len(folders) > 1:
        return "its Dockerfile copies more than one folder"
    folder = next(iter(folders), context).resolve()
    return (folder, handlers[0]) if folder.is_dir() else "its Dockerfile copies a missing folder"


def _copied(context: Path, source: str) -> Path:
    """Returns the folder whose content an argument of COPY puts into the target."""
    path = context / re.sub(r"/?\*+$", "", _TASK_ROOT.sub(".", source))
    return path if path.is_dir() else path.parent


def _instructions(text: str) -> list[tuple[str, str]]:
    lines = re.sub(r"\\\s*\n", " ", re.sub(r"(?m)^\s*#.*\n?", "", text)).splitlines()
    words = [line.strip().split(None, 1) for line in lines if line.strip()]
    return [(word[0].upper(), word[1].strip() if len(word) > 1 else "") for word in words]
