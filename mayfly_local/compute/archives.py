"""Code of functions and content of layers in zip archives, unpacked as on Lambda.

https://docs.aws.amazon.com/lambda/latest/dg/configuration-function-zip.html
"""

import hashlib
import os
import shutil
import stat
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

from mayfly_local.application.model import Application
from mayfly_local.errors import LocalError

__all__ = ["archives", "unpack"]


def archives(application: Application) -> list[Path]:
    """Returns the archives of all functions and their layers."""
    paths = {
        path
        for function in application.functions.values()
        for path in (function.code, *function.layers)
        if path is not None and path.is_file()
    }
    return sorted(paths)


def unpack(application: Application, cache: Path) -> Application:
    """Returns the application with folders in place of archives. Raises LocalError."""
    folders = {path: _folder(path, cache) for path in archives(application)}
    functions = {
        name: replace(
            function,
            code=None if function.code is None else folders.get(function.code, function.code),
            layers=tuple(folders.get(layer, layer) for layer in function.layers),
        )
        for name, function in application.functions.items()
    }
    return replace(application, functions=functions)


def _folder(archive: Path, cache: Path) -> Path:
    """Returns the folder with the content of an archive. It is kept by the archive's content."""
    try:
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        folder = cache / "archives" / digest[:32]
        if folder.is_dir():
            return folder
        unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        with zipfile.ZipFile(archive) as content:
            _extract(content, unfinished)
        unfinished.replace(folder)
    except (OSError, RuntimeError, ValueError, zipfile.BadZipFile, zlib.error) as problem:
        # zipfile raises RuntimeError for a member that needs a password.
        raise LocalError(f"{archive} cannot be unpacked: {problem}") from None
    return folder


def _extract(content: zipfile.ZipFile, folder: Path) -> None:
    """Writes the members of an archive with their permissions, and its links last.

    No member is therefore written through a link.
    """
    links: dict[Path, str] = {}
    for member in content.infolist():
        mode = member.external_attr >> 16
        path = Path(content.extract(member, folder))
        if stat.S_ISLNK(mode):  # Its content is the target.
            links[path] = content.read(member).decode()
        elif mode and path.is_file():
            path.chmod(stat.S_IMODE(mode) | stat.S_IRUSR | stat.S_IWUSR)
    for path, target in links.items():
        path.unlink()
        path.symlink_to(target)
