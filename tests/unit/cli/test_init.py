"""`mayfly init`: the application that it makes, and input that it refuses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mayfly import __version__

from mayfly_cli.init import _write
from mayfly_cli.new_application import RUNTIMES, rendered, runtime_here
from mayfly_cli.parts import is_as_written
from mayfly_local.application.template import load
from mayfly_local.errors import LocalError
from mayfly_testing.stack import ROOT

SAM = ROOT / ".venv-sam" / "bin" / "sam"


def init(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mayfly_cli", "init", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new")
    done = init(folder, "shop")
    assert (done.returncode, done.stderr) == (0, "")
    assert "cd shop\n  mayfly up " in done.stdout
    assert [path.name for path in folder.iterdir()] == ["shop"]
    return folder / "shop"


def test_application_has_no_placeholders_and_the_runtime_of_this_python(shop: Path) -> None:
    files = tree(shop)
    assert not [name for name, text in files.items() if "cookiecutter" in name + text]
    assert f"Runtime: {runtime_here()}\n" in files["template.yaml"]
    assert f"Runtime: {runtime_here()}\n" in files["mayfly.yaml"]
    assert f'python-version: "{runtime_here()[6:]}"' in files[".github/workflows/ci.yml"]


def test_part_of_mayfly_is_as_its_release_wrote_it(shop: Path) -> None:
    assert is_as_written(tree(shop)["mayfly.yaml"])


def test_application_asks_for_the_release_that_made_it(shop: Path) -> None:
    files = tree(shop)
    assert files["src/requirements.txt"] == f"mayfly-serverless~={__version__}\n"
    assert files["requirements-dev.txt"].endswith(f"\nmayfly-serverless[local]~={__version__}\n")


def test_files_are_readable_as_those_of_any_new_folder(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    assert shop.stat().st_mode == (tmp_path / "other").stat().st_mode


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_runtime_can_be_chosen(tmp_path: Path, runtime: str) -> None:
    assert init(tmp_path, "my_shop", "--runtime", runtime).returncode == 0
    files = tree(tmp_path / "my_shop")
    assert f"Runtime: {runtime}\n" in files["template.yaml"]
    assert f"Runtime: {runtime}\n" in files["mayfly.yaml"]
    assert 'stack_name = "my-shop"' in files["samconfig.toml"]  # CloudFormation allows no _
    assert "my_shop.page.handler" in files["template.yaml"]


def test_template_runs_here_with_every_part(shop: Path, tmp_path: Path) -> None:
    template = load(
        path=shop / "template.yaml", cache=tmp_path, parameters={}, layers={}, strict=True
    )
    resources = template.resources
    assert "Page" in resources
    assert "MayflyRunJobs" in resources


def test_code_of_the_application_is_formatted(shop: Path) -> None:
    options = ["--config", "line-length = 100"]
    checks = (["format", "--check"], ["check", "--select", "B,E,F,I,N,UP"])
    for check in checks:
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *check, "--isolated", *options, str(shop)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def test_unit_tests_of_the_application_pass(shop: Path, tmp_path: Path) -> None:
    # An installation for development has no handlers under the name that they have in the wheel.
    (tmp_path / "mayfly_functions").symlink_to(ROOT / "functions")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit"],
        cwd=shop, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert "2 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["My-Shop"], "'My-Shop' is not a name of a package"),
        (["1shop"], "'1shop' is not a name of a package"),
        (["_shop"], "'_shop' is not a name of a package"),
        (["Shop"], "'Shop' is not a name of a package"),
        (["läden"], "'läden' is not a name of a package"),
        (["class"], "'class' is not a name of a package"),
        (["a" * 41], "is not a name of a package"),
        ([""], "'' is not a name of a package"),
        (["a/b"], "'a/b' is not a name of a package"),
        (["../shop"], "'../shop' is not a name of a package"),
        (["shop\n"], "is not a name of a package"),
        (["json"], "'json' is the name of a package that is installed here"),
        (["boto3"], "'boto3' is the name of a package that is installed here"),
        (["mayfly"], "'mayfly' is the name of a package that is installed here"),
        (["tests"], "'tests' is the name of a"),
        (["src"], "'src' is the name of a folder of the application"),
        (["taken"], "taken exists already"),
        (["empty"], "empty exists already"),
        (["file"], "file exists already"),
        (["link"], "link exists already"),
        (["shop", "--runtime", "python3.10"], "python3.10 is not a runtime that Mayfly supports"),
        (["shop", "--runtime", "nodejs22.x"], "nodejs22.x is not a runtime that Mayfly supports"),
        (["shop", "--runtime", "3.13"], "3.13 is not a runtime that Mayfly supports"),
    ],
    ids=lambda value: " ".join(value).replace("\n", "newline") if isinstance(value, list) else "",
)
def test_bad_input_is_named_in_one_line_and_nothing_is_written(
    tmp_path: Path, arguments: list[str], said: str
) -> None:
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "own.txt").write_text("mine")
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    before = sorted(path.name for path in tmp_path.rglob("*"))
    done = init(tmp_path, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert done.stderr.startswith("mayfly: ")
    assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_files_that_cannot_all_be_written_are_not_written_at_all(tmp_path: Path) -> None:
    files = {Path("one"): "1", Path("one/two"): "2"}
    with pytest.raises(LocalError, match="shop cannot be made"):
        _write(tmp_path / "shop", files)
    assert list(tmp_path.iterdir()) == []


def test_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="No such file or directory"):
        _write(tmp_path / "gone" / "shop", {Path("one"): "1"})


@pytest.mark.skipif(not SAM.exists(), reason="make .venv-sam/ready installs SAM")
def test_sam_init_makes_the_same_application(tmp_path: Path) -> None:
    done = subprocess.run(
        [SAM, "init", "--location", str(ROOT / "mayfly_cli" / "starter"), "--name", "my_shop",
         "--no-input", "--extra-context", '{"runtime": "python3.12"}'],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "HOME": str(tmp_path), "SAM_CLI_TELEMETRY": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = {str(path): text for path, text in rendered("my_shop", "python3.12")}
    assert tree(tmp_path / "my_shop") == expected


@pytest.mark.skipif(not SAM.exists(), reason="make .venv-sam/ready installs SAM")
@pytest.mark.parametrize(
    ("name", "runtime"), [("My-Shop", "python3.12"), ("class", "python3.12"), ("shop", "python2.7")]
)
def test_sam_init_refuses_what_mayfly_init_refuses(tmp_path: Path, name: str, runtime: str) -> None:
    done = subprocess.run(
        [SAM, "init", "--location", str(ROOT / "mayfly_cli" / "starter"), "--name", name,
         "--no-input", "--extra-context", f'{{"runtime": "{runtime}"}}'],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "HOME": str(tmp_path), "SAM_CLI_TELEMETRY": "0"},
    )  # fmt: skip
    assert done.returncode != 0
    assert not (tmp_path / name).exists()
