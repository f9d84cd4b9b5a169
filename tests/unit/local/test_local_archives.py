"""Code and layers in zip archives: what a function finds where they are unpacked."""

import os
import stat
import zipfile
from pathlib import Path
from typing import Any

import pytest

from mayfly_local.application.build import build
from mayfly_local.application.model import Application
from mayfly_local.application.template import load
from mayfly_local.compute.archives import unpack
from mayfly_local.errors import LocalError

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  L: {Type: AWS::Serverless::LayerVersion, Properties: {ContentUri: layer.zip}}
  F:
    Type: AWS::Serverless::Function
    Properties: {Runtime: python3.13, Handler: app.f, CodeUri: code.zip, Layers: [!Ref L]}
  G:
    Type: AWS::Serverless::Function
    Properties: {Runtime: python3.13, Handler: app.f, CodeUri: code.zip}
"""


def zipped(path: Path, members: dict[str, str | tuple[int, str]]) -> Path:
    """Writes an archive; a member is a text, or a mode and a text."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, member in members.items():
            mode, text = member if isinstance(member, tuple) else (0, member)
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, text)
    return path


def application(folder: Path, members: dict[str, Any]) -> Application:
    (folder / "template.yaml").write_text(TEMPLATE)
    zipped(folder / "code.zip", members)
    zipped(folder / "layer.zip", {"python/words.py": "WORD = 1"})
    template = load(folder / "template.yaml", cache=folder / "cache")
    return build(template, {}, api_url="http://x", strict=True)


def code(folder: Path, members: dict[str, Any]) -> Path:
    path = unpack(application(folder, members), folder / "cache").functions["F"].code
    assert path is not None
    return path


def test_archives_are_folders_after_unpacking(tmp_path: Path) -> None:
    made = unpack(application(tmp_path, {"app.py": "1", "part/x.py": "2"}), tmp_path / "cache")
    first, second = made.functions["F"], made.functions["G"]
    assert first.code is not None
    assert first.code == second.code
    assert (first.code / "app.py").read_text() == "1"
    assert (first.code / "part" / "x.py").read_text() == "2"
    assert (first.layers[0] / "python" / "words.py").read_text() == "WORD = 1"


def test_packages_of_an_archive_are_not_installed_again(tmp_path: Path) -> None:
    made = unpack(application(tmp_path, {"requirements.txt": "flask"}), tmp_path / "cache")
    assert not made.functions["F"].brings_packages


def test_unpacked_archive_is_used_again_until_its_content_changes(tmp_path: Path) -> None:
    before = code(tmp_path, {"app.py": "1"})
    (before / "trace").touch()
    assert code(tmp_path, {"app.py": "1"}) == before
    assert (before / "trace").exists()
    assert code(tmp_path, {"app.py": "2"}) != before


def test_members_keep_their_permissions(tmp_path: Path) -> None:
    folder = code(tmp_path, {"tool": (stat.S_IFREG | 0o755, "#!/bin/sh"), "app.py": "1"})
    assert os.access(folder / "tool", os.X_OK)
    assert not os.access(folder / "app.py", os.X_OK)


def test_links_are_links(tmp_path: Path) -> None:
    folder = code(tmp_path, {"a.so": (stat.S_IFLNK | 0o777, "a.so.1"), "a.so.1": "library"})
    assert (folder / "a.so").is_symlink()
    assert (folder / "a.so").read_text() == "library"


def test_no_member_is_written_outside_the_folder(tmp_path: Path) -> None:
    folder = code(tmp_path, {"../outside.py": "1", "/abs/olute.py": "2"})
    assert {path.name for path in folder.rglob("*.py")} == {"outside.py", "olute.py"}


@pytest.mark.parametrize(
    ("members", "damage"),
    [
        pytest.param({"app.py": "1" * 100}, True, id="checksum"),
        pytest.param(
            {"a": (stat.S_IFLNK | 0o777, "/tmp"), "a/x": "1"}, False, id="member below a link"
        ),
    ],
)
def test_archive_that_cannot_be_unpacked_is_an_error(
    tmp_path: Path, members: dict[str, Any], damage: bool
) -> None:
    made = application(tmp_path, members)
    if damage:
        archive = tmp_path / "code.zip"
        archive.write_bytes(archive.read_bytes().replace(b"1" * 100, b"2" * 100))
    with pytest.raises(LocalError, match=r"code\.zip cannot be unpacked: "):
        unpack(made, tmp_path / "cache")
    assert not [
        path for path in (tmp_path / "cache" / "archives").glob("*") if "." not in path.name
    ]
