"""Packages of a lock that are linked from this environment, in place of an installation."""

import json
import os
import subprocess
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from pathlib import Path

import pytest

from mayfly_local.compute.reuse import mark, pins, reuse

OURS = "mayfly-serverless"
HASH = f"--hash=sha256:{'0' * 64}"


def lock(*entries: str) -> str:
    return "".join(f"{entry} \\\n    {HASH}\n" for entry in entries)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("six\n", id="no version"),
        pytest.param("six==1.17.0\n", id="no hash, so its dependencies may be missing"),
        pytest.param(f"six>=1.0 {HASH}\n", id="a range"),
        pytest.param(f"six==1.17.0 ; python_version < '4' {HASH}\n", id="a condition"),
        pytest.param(f"-r more.txt\nsix==1.17.0 {HASH}\n", id="an option"),
        pytest.param(f"boto3[crt]==1.0 {HASH}\n", id="an extra"),
        pytest.param(f"six @ file:///six.whl {HASH}\n", id="a file"),
    ],
)
def test_text_that_is_not_a_plain_lock_is_left_to_pip(text: str, tmp_path: Path) -> None:
    assert pins(text) is None
    assert not reuse(text, tmp_path / "packages")


def test_versions_of_a_lock_are_read_with_comments_and_several_hashes() -> None:
    text = (
        f"# a comment\nsix==1.17.0 \\\n    {HASH} \\\n    {HASH}\n    # via boto3\n"
        f"boto3==1.2 {HASH}\n"
    )
    assert pins(text) == {"six": "1.17.0", "boto3": "1.2"}


def test_packages_of_these_versions_can_be_imported_from_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    entries = [f"{name}=={version(name)}" for name in ("six", "python-dateutil")]
    assert reuse(lock(*entries), folder)
    program = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "import dateutil.parser, six, importlib.metadata as m; "
        "print(dateutil.__file__, six.__file__, m.version('six'))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [
        f"{folder}/dateutil/__init__.py",
        f"{folder}/six.py",
        version("six"),
    ]


def test_upgrade_of_the_environment_does_not_change_the_folder(tmp_path: Path) -> None:
    """An installer writes a new file in place of the old one, and never into it."""
    folder = tmp_path / "packages"
    assert reuse(lock(f"six=={version('six')}"), folder)
    source = Path(str(distribution("six").locate_file("six.py")))
    assert not (folder / "six.py").is_symlink()
    assert os.stat(folder / "six.py").st_size == source.stat().st_size


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param("six==0.0.1", id="another version"),
        pytest.param("no-such-package-here==1.0", id="not installed"),
        pytest.param(
            f"mayfly-serverless=={version('mayfly-serverless')}", id="an editable installation"
        ),
    ],
)
def test_lock_with_one_other_package_is_left_to_pip(entry: str, tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    assert not reuse(lock(f"python-dateutil=={version('python-dateutil')}", entry), folder)
    assert not folder.exists()


def test_lock_of_this_repository_needs_no_installation(tmp_path: Path) -> None:
    text = Path(__file__).parents[3].joinpath("layers/mayfly/requirements.txt").read_text()
    assert reuse(text, tmp_path / "packages")


class Here:
    """An installation with packages of a few lines."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, name: str, number: str, *needs: str, origin: object = None) -> None:
        info = self.folder / f"{name.replace('-', '_')}-{number}.dist-info"
        info.mkdir(parents=True)
        (self.folder / f"{name.replace('-', '_')}.py").write_text(f"VERSION = {number!r}\n")
        needed = "".join(f"Requires-Dist: {need}\n" for need in needs)
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n{needed}"
        (info / "METADATA").write_text(head)
        if origin is not None:
            (info / "direct_url.json").write_text(json.dumps(origin))
        (info / "RECORD").write_text(f"{name.replace('-', '_')}.py,,\n{info.name}/METADATA,,\n")

    def find(self, name: str) -> Distribution:
        for found in Distribution.discover(name=name, path=[str(self.folder)]):
            return found
        raise PackageNotFoundError(name)


@pytest.fixture
def here(tmp_path: Path) -> Here:
    """An environment in which a wheel of this runtime is installed from a file."""
    made = Here(tmp_path / "here")
    file = {"url": "file:///dist/own.whl", "archive_info": {}}
    needs = ("alpha>=1,<2", "gone; python_version < '3'", "click; extra == 'local'")
    made.add("mayfly-serverless", "0.3.0", *needs, origin=file)
    made.add("alpha", "1.5", "beta")
    made.add("beta", "3.0")
    made.add("gamma", "2.0")
    return made


@pytest.mark.parametrize(
    ("text", "modules"),
    [
        ("mayfly-serverless~=0.3.0\n", {"mayfly_serverless", "alpha", "beta"}),
        ("# ours\nmayfly-serverless  # any\ngamma>=2\n",
         {"mayfly_serverless", "alpha", "beta", "gamma"}),
        ("mayfly-serverless==0.3.0\nabsent; python_version < '3'\n",
         {"mayfly_serverless", "alpha", "beta"}),
    ],
    ids=["alone", "with another package", "with a condition that is false"],
)  # fmt: skip
def test_file_that_asks_for_the_runtime_gets_the_one_that_runs(
    here: Here, tmp_path: Path, text: str, modules: set[str]
) -> None:
    folder = tmp_path / "packages"
    assert reuse(text, folder, here.find)
    assert {path.stem for path in folder.glob("*.py")} == modules


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("mayfly-serverless~=0.4.0\n", id="another version"),
        pytest.param("mayfly-serverless\ngamma>=3\n", id="another version of another package"),
        pytest.param("mayfly-serverless\nabsent\n", id="a package that is not here"),
        pytest.param("mayfly-serverless[local]\n", id="an extra that is not here"),
        pytest.param("gamma>=2\n", id="a file that does not ask for the runtime"),
        pytest.param("--pre\nmayfly-serverless\n", id="an option"),
        pytest.param("mayfly-serverless @ file:///own.whl\n", id="a file"),
    ],
)
def test_file_that_this_python_cannot_fill_is_left_to_pip(
    here: Here, tmp_path: Path, text: str
) -> None:
    folder = tmp_path / "packages"
    assert not reuse(text, folder, here.find)
    assert not folder.exists()


def test_runtime_that_runs_from_its_sources_is_left_to_pip(tmp_path: Path) -> None:
    here = Here(tmp_path / "here")
    editable = {"url": "file:///sources", "dir_info": {"editable": True}}
    here.add("mayfly-serverless", "0.3.0", origin=editable)
    assert not reuse("mayfly-serverless\n", tmp_path / "packages", here.find)
    assert mark("mayfly-serverless\n", here.find) == ""


def test_upgrade_of_the_runtime_is_another_folder(here: Here, tmp_path: Path) -> None:
    newer = Here(tmp_path / "newer")
    newer.add("mayfly-serverless", "0.3.1")
    text = "mayfly-serverless~=0.3.0\n"
    assert mark(text, here.find) != mark(text, newer.find) != ""
    assert mark("gamma\n", here.find) == ""
