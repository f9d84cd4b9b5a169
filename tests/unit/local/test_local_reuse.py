"""Packages of a lock that are linked from this environment, in place of an installation."""

import os
import subprocess
import sys
from importlib.metadata import distribution, version
from pathlib import Path

import pytest

from mayfly_local.compute.reuse import pins, reuse

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
        pytest.param(f"mayfly=={version('mayfly')}", id="an editable installation"),
    ],
)
def test_lock_with_one_other_package_is_left_to_pip(entry: str, tmp_path: Path) -> None:
    folder = tmp_path / "packages"
    assert not reuse(lock(f"python-dateutil=={version('python-dateutil')}", entry), folder)
    assert not folder.exists()


def test_lock_of_this_repository_needs_no_installation(tmp_path: Path) -> None:
    text = Path(__file__).parents[3].joinpath("layers/mayfly/requirements.txt").read_text()
    assert reuse(text, tmp_path / "packages")
