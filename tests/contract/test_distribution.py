"""The distribution: what the wheel and the sdist hold, and what they ask for."""

import ast
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import mayfly
import pytest
from packaging.requirements import Requirement

from mayfly_cli.bundling.packages import PROGRAMS
from mayfly_cli.new_application import RUNTIMES
from mayfly_testing.stack import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
#: Folders of the repository by the names of their packages in the wheel.
FOLDERS = {
    "mayfly": "layers/mayfly/mayfly",
    "mayfly_functions": "functions",
    "mayfly_cli": "mayfly_cli",
    "mayfly_lab": "mayfly_lab",
    "mayfly_local": "mayfly_local",
    "mayfly_testing": "mayfly_testing",
}
#: Packages that are imported under another name, or that come with a package of that name.
DISTRIBUTIONS = {
    "aws_lambda_powertools": "aws-lambda-powertools",
    "botocore": "boto3",
    "samtranslator": "aws-sam-translator",
    "urllib3": "boto3",
    "werkzeug": "flask",
    "yaml": "pyyaml",
    "anyio": "starlette",
    "asgiref": "django",
    # For types only.
    "mypy_boto3_s3": "boto3",
}
#: Modules that an extra is for.
OF_EXTRAS = {
    "sessions/web/flask.py": "flask",
    "sessions/web/asgi.py": "starlette",
    "sessions/web/django.py": "django",
    "sessions/web/django_options.py": "django",
}


def names(requirements: Iterable[str]) -> set[str]:
    return {Requirement(text).name for text in requirements}


BASE = names(PROJECT["dependencies"])


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Builds the sdist and the wheel; two times in processes of their own, with equal bytes."""
    program = (
        "import sys\nfrom hatchling.build import build_sdist, build_wheel\n"
        "print(build_sdist(sys.argv[1]))\nprint(build_wheel(sys.argv[1]))"
    )
    made: list[list[Path]] = []
    for time in ("first", "again"):
        folder = tmp_path_factory.mktemp(time)
        done = subprocess.run(
            [sys.executable, "-c", program, str(folder)],
            cwd=ROOT, capture_output=True, text=True, check=True,
        )  # fmt: skip
        made.append([folder / name for name in done.stdout.split()])
    first, again = made
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in again]
    sdist, wheel = first
    return sdist, wheel


def test_wheel_holds_the_code_of_every_package_and_nothing_else(
    archives: tuple[Path, Path],
) -> None:
    with zipfile.ZipFile(archives[1]) as wheel:
        held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    folders = {**FOLDERS, "mayfly_cli/docs": "docs"}
    kept = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders.values()],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    expected = {
        f"{package}/{path.removeprefix(f'{folder}/')}"
        for path in kept
        for package, folder in folders.items()
        if path.startswith(f"{folder}/") and (ROOT / path).exists()
    }
    assert held == expected - {"mayfly_functions/Makefile"} | {"mayfly_cli/template.yaml"}


def test_all_of_the_wheel_but_library_and_handlers_is_kept_from_functions() -> None:
    """`mayfly bundle` deletes these packages from what is deployed."""
    assert set(PROGRAMS) == set(FOLDERS) - {"mayfly", "mayfly_functions"}


def test_wheel_is_made_from_the_sdist_alone(archives: tuple[Path, Path], tmp_path: Path) -> None:
    sdist, wheel = archives
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    program = "from hatchling.build import build_wheel; print(build_wheel('.'))"
    subprocess.run([sys.executable, "-c", program], cwd=source, capture_output=True, check=True)
    assert (source / wheel.name).read_bytes() == wheel.read_bytes()


def test_wheel_is_for_every_python_and_system(archives: tuple[Path, Path]) -> None:
    assert archives[1].name == f"mayfly_serverless-{PROJECT['version']}-py3-none-any.whl"
    with zipfile.ZipFile(archives[1]) as wheel:
        (path,) = [name for name in wheel.namelist() if name.endswith("/METADATA")]
        metadata = wheel.read(path).decode()
        licences = [name for name in wheel.namelist() if name.endswith("/licenses/LICENSE")]
    assert "Requires-Python: >=3.11\n" in metadata
    assert "License-Expression: Apache-2.0\n" in metadata
    assert len(licences) == 1
    # The project has no public address. The pages are in the wheel.
    assert not re.search(r"^(Project-URL|Home-page|Download-URL)", metadata, re.MULTILINE)


def test_packages_that_a_user_imports_are_typed() -> None:
    """`mayfly_functions` is named in templates; the others are programs."""
    assert "Typing :: Typed" in PROJECT["classifiers"]
    for package in ("mayfly", "mayfly_testing"):
        assert (ROOT / FOLDERS[package] / "py.typed").exists(), package


def test_classifiers_name_the_pythons_that_init_writes() -> None:
    named = re.findall(r"^Programming Language :: Python :: (3\.\d+)$", "\n".join(
        PROJECT["classifiers"]), re.MULTILINE)  # fmt: skip
    assert tuple(f"python{version}" for version in named) == RUNTIMES
    assert PROJECT["requires-python"] == f">={named[0]}"


def test_wheel_has_these_packages_at_its_top(archives: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(archives[1]) as wheel:
        tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {
        "mayfly", "mayfly_cli", "mayfly_functions", "mayfly_lab", "mayfly_local", "mayfly_testing",
    }  # fmt: skip


@pytest.mark.parametrize("name", ["jobs", "jobs.md", "docs/jobs.md"])
def test_page_is_found_by_the_name_that_errors_use(name: str) -> None:
    done = mayfly_docs(name)
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()).read_text().startswith("# Jobs\n")


def test_all_pages_are_listed_and_others_are_refused() -> None:
    names = [Path(line).name for line in mayfly_docs().stdout.splitlines()]
    assert names == sorted(path.name for path in (ROOT / "docs").glob("*.md"))
    done = mayfly_docs("job")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("mayfly: no page is called job; there are add-a-route, ")


def mayfly_docs(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mayfly_cli", "docs", *arguments],
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_version_is_the_one_of_the_library() -> None:
    assert PROJECT["version"] == mayfly.__version__


def test_function_needs_what_is_locked_for_the_layer() -> None:
    wanted = (ROOT / "layers/mayfly/requirements.in").read_text()
    asked_for = set(re.findall(r"^([a-z0-9-]+)", wanted, re.MULTILINE))
    # botocore comes with boto3; the lock only holds its version back.
    assert asked_for - {"botocore"} == BASE


@pytest.mark.parametrize(
    ("lock", "requirements"),
    [
        ("layers/mayfly/requirements.txt", PROJECT["dependencies"]),
        ("requirements/local.txt", [text for extra in EXTRAS.values() for text in extra]),
    ],
    ids=["function", "extras"],
)
def test_requirement_is_a_range_that_has_the_locked_version(
    lock: str, requirements: list[str]
) -> None:
    locked = dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (ROOT / lock).read_text(), re.MULTILINE))
    for requirement in map(Requirement, requirements):
        assert locked[requirement.name] in requirement.specifier, requirement
        # Only the emulator is pinned: its modules are used, not only its API.
        is_pinned = any(clause.operator == "==" for clause in requirement.specifier)
        assert is_pinned == (requirement.name == "ministack"), requirement


def imported(path: Path) -> set[str]:
    """Returns the third-party packages that a file imports, by the names of distributions."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            modules.add(node.module)
    tops = {module.split(".")[0] for module in modules} - set(sys.stdlib_module_names)
    tops.discard("_typeshed")  # the type checker brings it
    return {DISTRIBUTIONS.get(top, top) for top in tops if not top.startswith("mayfly")}


@pytest.mark.parametrize("package", FOLDERS)
def test_every_import_is_asked_for_by_the_package_or_its_extra(package: str) -> None:
    root = ROOT / FOLDERS[package]
    is_base = package in ("mayfly", "mayfly_functions")
    local = BASE | names(EXTRAS["local"])
    for path in sorted(root.rglob("*.py")):
        inner = str(path.relative_to(root))
        if inner.startswith("starter/"):
            continue
        extra = OF_EXTRAS.get(inner) if package == "mayfly" else None
        allowed = BASE | names(EXTRAS[extra]) if extra else BASE if is_base else local
        assert imported(path) <= allowed, inner


def test_import_of_the_library_loads_nothing_of_the_extras() -> None:
    program = (
        "import json, sys\nimport mayfly\nfrom mayfly import counters, jobs, limits, sessions\n"
        "from mayfly import Api, Effects, task, resources\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(ast.literal_eval(done.stdout))
    runtime = {"aiohttp", "click", "debugpy", "ministack", "moto", "psutil", "yaml"}
    of_extras = runtime | {"django", "flask", "starlette"}
    assert not loaded & of_extras
    assert not {name for name in loaded if name.startswith("mayfly_")}


def test_command_without_its_extra_says_which_one_is_missing(tmp_path: Path) -> None:
    """The folder of a base installation: the code, and none of the extra's packages."""
    for name in ("mayfly_cli", "mayfly_local"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "mayfly").symlink_to(ROOT / "layers/mayfly/mayfly")
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n" + (
        "from mayfly_cli.program import main\nsys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "mayfly: the package click is not installed; the command needs the extra local: "
        "pip install 'mayfly-serverless[local]'\n"
    )
