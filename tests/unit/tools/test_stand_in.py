"""The stand-in for AWS's runtime image: what can be tested without an engine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tools.stand_in.errors import StandInError
from tools.stand_in.image import Image, debian_mirror, pinned
from tools.stand_in.runc import without_limits

ROOT = Path(__file__).parent.parent.parent.parent

LOCK = """\
boto3==1.2.3 \\
    --hash=sha256:aa \\
    --hash=sha256:bb
boto3-stubs==1.2.3 \\
    --hash=sha256:cc
six==1.17.0 ; python_version < '4' \\
    --hash=sha256:dd
"""


def test_mirror_is_that_of_the_main_archive() -> None:
    targets = (
        "Debian Debian-Security http://mirror.example/security/\n"
        "Vendor Tools http://other.example/\n"
        "Debian Debian http://mirror.example/debian/\n"
    )
    assert debian_mirror(targets) == "http://mirror.example/debian/"


@pytest.mark.parametrize("targets", ["", "Ubuntu Ubuntu http://mirror.example/\n", "Debian Debian"])
def test_system_without_a_debian_mirror_is_told_what_to_do(targets: str) -> None:
    with pytest.raises(StandInError, match="apt-get update"):
        debian_mirror(targets)


def test_packages_of_the_runtime_keep_their_versions_and_hashes() -> None:
    assert pinned(LOCK, ("six", "boto3")) == [
        "six==1.17.0 ; python_version < '4' \\\n    --hash=sha256:dd",
        "boto3==1.2.3 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb",
    ]


def test_lock_without_a_package_is_refused() -> None:
    with pytest.raises(StandInError, match="awslambdaric"):
        pinned(LOCK, ("awslambdaric", "six"))


def test_tag_is_the_one_that_sam_looks_for() -> None:
    assert Image("python3.13", "x86_64").tag == "public.ecr.aws/lambda/python:3.13-x86_64"
    assert Image("python3.13", "aarch64").tag == "public.ecr.aws/lambda/python:3.13-arm64"


def test_image_of_another_recipe_is_another_one() -> None:
    recipes = {Image(version, "x86_64").recipe for version in ("python3.11", "python3.13")}
    assert len(recipes) == 2
    assert Image("python3.13", "x86_64").recipe in recipes


def test_runtime_that_debian_does_not_have_is_refused(tmp_path: Path) -> None:
    template = tmp_path / "template.yaml"
    template.write_text("Globals: {Function: {Runtime: python3.99}}\nResources: {}\n")
    with pytest.raises(StandInError, match=r"no stand-in for python3\.99"):
        Image.of_template(template)


def test_container_gets_no_limits_that_this_machine_cannot_set(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"process": {"args": ["x"], "rlimits": [{"hard": 1}]}}))
    without_limits(["--log", "x", "create", "--bundle", str(tmp_path), "id"])
    assert json.loads(config.read_text()) == {"process": {"args": ["x"]}}


def test_call_without_a_bundle_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, text = tmp_path / "config.json", '{"process": {"args": ["x"], "rlimits": [1]}}'
    config.write_text(text)
    monkeypatch.chdir(tmp_path)
    without_limits(["--version"])
    assert config.read_text() == text


def test_call_without_a_command_shows_how_to_call_it() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.stand_in"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "python -m tools.stand_in pytest" in done.stderr
