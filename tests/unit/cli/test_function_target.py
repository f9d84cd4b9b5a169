"""`mayfly bundle`: which function of which template it builds for, and input that it refuses."""

import subprocess
import sys
from pathlib import Path

import pytest

from mayfly_cli.bundling.target import Target
from mayfly_cli.function_target import find_function
from mayfly_cli.new_application import MAKEFILE
from mayfly_local.application.metadata import is_bundled
from mayfly_local.errors import LocalError

HEAD = "Transform: AWS::Serverless-2016-10-31\n"
ARM = "manylinux2014_aarch64"
INTEL = "manylinux2014_x86_64"


def function(name: str, *properties: str, code: str = "src") -> str:
    lines = "".join(f"      {line}\n" for line in (f"CodeUri: {code}", *properties))
    return f"  {name}:\n    Type: AWS::Serverless::Function\n    Properties:\n{lines}"


def project(folder: Path, *functions: str, head: str = "", file: str = "template.yaml") -> Path:
    """Writes a template; returns the folder of code next to it."""
    (folder / "src").mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(HEAD + head + "Resources:\n" + "".join(functions))
    return folder / "src"


GLOBALS = "Globals:\n  Function:\n    Runtime: python3.12\n    Architectures: [arm64]\n"


@pytest.mark.parametrize(
    ("head", "properties", "target"),
    [
        ("", ["Runtime: python3.13"], Target("3.13", INTEL)),
        ("", ["Runtime: python3.13", "Architectures: [arm64]"], Target("3.13", ARM)),
        ("", ["Runtime: 'python3.11'", "Architectures:", "  - x86_64"], Target("3.11", INTEL)),
        (GLOBALS, [], Target("3.12", ARM)),
        (GLOBALS, ["Runtime: python3.14"], Target("3.14", ARM)),
        (GLOBALS + "    CodeUri: other\n", ["Architectures: [x86_64]"], Target("3.12", INTEL)),
    ],
    ids=["own", "architecture", "block", "globals", "own-before-globals", "globals-code"],
)
def test_target_is_that_of_the_function(
    tmp_path: Path, head: str, properties: list[str], target: Target
) -> None:
    code = project(tmp_path, function("Page", *properties), head=head)
    found = find_function("Page", code)
    assert (found.target, found.template) == (target, tmp_path / "template.yaml")


def test_function_of_the_same_name_with_other_code_is_passed_over(tmp_path: Path) -> None:
    code = project(tmp_path, function("Jobs", "Runtime: python3.11", code="mine"))
    project(tmp_path, function("Jobs", "Runtime: python3.13"), file="mayfly.yaml")
    found = find_function("Jobs", code)
    assert (found.template.name, found.target.version) == ("mayfly.yaml", "3.13")


def test_template_is_searched_for_in_the_folders_above(tmp_path: Path) -> None:
    (tmp_path / "services" / "page").mkdir(parents=True)
    project(tmp_path, function("Page", "Runtime: python3.13", code="services/page/"))
    project(tmp_path / "services", function("Other", "Runtime: python3.11"))
    found = find_function("Page", tmp_path / "services" / "page")
    assert found.template == tmp_path / "template.yaml"


def test_named_template_is_the_only_one(tmp_path: Path) -> None:
    code = project(tmp_path, function("Page", "Runtime: python3.13"), file="app.yaml")
    assert find_function("Page", code, tmp_path / "app.yaml").target.version == "3.13"
    with pytest.raises(LocalError, match=r"no template in .*src or a folder above it has the func"):
        find_function("Page", code)
    with pytest.raises(LocalError, match=r"no\.yaml cannot be read"):
        find_function("Page", code, tmp_path / "no.yaml")


@pytest.mark.parametrize(
    ("properties", "said"),
    [
        ([], "the Runtime of Page is none; mayfly bundle needs one such as python3.13"),
        (["Runtime: nodejs22.x"], "the Runtime of Page is nodejs22.x"),
        (["Runtime: !Ref Python"], "the Runtime of Page is Python"),
        (["Runtime: python3.13", "Architectures: [m68k]"], "of Page is m68k; write out one of arm"),
        (["Runtime: python3.13", "Architectures: [!Ref A]"], "of Page is A; write out one of arm"),
    ],
    ids=["missing", "node", "reference", "architecture", "reference-to-architecture"],
)
def test_target_that_is_not_written_out_is_named(
    tmp_path: Path, properties: list[str], said: str
) -> None:
    code = project(tmp_path, function("Page", *properties))
    with pytest.raises(LocalError, match=said):
        find_function("Page", code)


def bundle(folder: Path, *arguments: str, bytecode: str = "") -> str:
    """Returns what the command said on its way to the exit code 1."""
    done = subprocess.run(
        [sys.executable, "-m", "mayfly_cli", "bundle", *arguments],
        cwd=folder, capture_output=True, text=True, check=False, env={"BYTECODE": bytecode},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def test_errors_of_the_command_are_one_line(tmp_path: Path) -> None:
    project(tmp_path, function("Page", "Runtime: python3.2"))
    assert bundle(tmp_path, "Page", "src", "out", bytecode="on") == (
        "mayfly: BYTECODE is 'on'; it may be off\n"
    )
    assert bundle(tmp_path, "Pages", "src", "out").count("\n") == 1
    said = bundle(tmp_path, "Page", "src", "out")
    assert said.startswith("mayfly: no Python 3.2 is here to compile byte-code for Lambda.")
    assert not (tmp_path / "out").exists()


def test_makefile_without_the_command_says_what_is_missing(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "--makefile", str(MAKEFILE), "build-Page", "MAYFLY=no-such-mayfly"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.startswith("the command no-such-mayfly is not on PATH: activate the ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MAKEFILE.read_text(), True),
        ('build-Page:\n\tmayfly bundle Page . "$(ARTIFACTS_DIR)"\n', True),
        ('build-Page:\n\t.venv/bin/mayfly bundle Page . "$(ARTIFACTS_DIR)"\n', True),
        ("# mayfly bundle is not for me\nbuild-Page:\n\tcp -r . $(ARTIFACTS_DIR)\n", False),
        (None, False),
    ],
    ids=["starter", "by-name", "by-path", "comment", "no-makefile"],
)
def test_local_stack_knows_a_makefile_that_bundles(
    tmp_path: Path, text: str | None, *, expected: bool
) -> None:
    if text is not None:
        (tmp_path / "Makefile").write_text(text)
    assert is_bundled(tmp_path) is expected
    assert not is_bundled(None)
