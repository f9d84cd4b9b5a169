"""Rules of the repository as a whole: locks, documents, and texts that no file may hold."""

import json
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.support.containers import MARK, container_line
from tools import licences as dependencies
from tools.openapi.errors import all_errors
from tools.stand_in.image import Image

ROOT = Path(__file__).parent.parent.parent
LOCKS = list(dependencies.LOCKS)


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_is_pinned_and_hashed_and_names_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text()
    packages = re.findall(
        r"^([a-z0-9][^ ]*==[^ ]+)((?:.*\\\n    --hash=sha256:[0-9a-f]{64}.*)+)", text, re.MULTILINE
    )
    assert len(packages) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE)) > 2
    assert "://" not in text
    assert "--index" not in text


def test_lock_of_npm_is_pinned_and_hashed_and_names_no_host() -> None:
    text = (ROOT / dependencies.NODE_LOCK).read_text()
    packages = dependencies.locked_by_npm()
    assert "pyodide" in packages
    for name, said in packages.items():
        assert re.fullmatch(r"[0-9]+\.[0-9]+\.[0-9]+", said["version"]), name
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", said["integrity"]), name
    assert "://" not in text
    wanted = json.loads((ROOT / dependencies.NODE_LOCK).with_name("package.json").read_text())
    assert wanted["dependencies"] == {"pyodide": packages["pyodide"]["version"]}


def test_packages_of_npm_are_listed_with_their_versions_and_licences() -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    section = page[page.index(f"`{dependencies.NODE_LOCK}`") :].split("\n## ")[0]
    rows = re.findall(r"^\| (\S+) \| (\S+) \| (.+) \|$", section, re.MULTILINE)
    assert {name: (version, licence) for name, version, licence in rows[1:]} == {
        name: (said["version"], said["license"])
        for name, said in dependencies.locked_by_npm().items()
    }, "run: make licences"


def test_functions_and_tests_run_on_the_same_versions() -> None:
    def versions(lock: str) -> dict[str, str]:
        return dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", (ROOT / lock).read_text(), re.MULTILINE))

    deployed, local = versions(LOCKS[0]), versions(LOCKS[1])
    assert {name: local.get(name) for name in deployed} == deployed


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_is_listed_with_its_version_and_a_licence(lock: str) -> None:
    page = (ROOT / "docs" / "dependencies.md").read_text()
    section = page[page.index(f"`{lock}`") :].split("\n## ")[0]
    listed = {
        name: (version, licence)
        for name, version, licence in re.findall(
            r"^\| (\S+) \| (\S+) \| (.+) \|$", section, re.MULTILINE
        )
    }
    del listed["package"]
    assert {name: version for name, (version, _) in listed.items()} == dependencies.locked(lock), (
        "run: make licences"
    )
    assert [name for name, (_, licence) in listed.items() if licence in ("?", "UNKNOWN")] == []


def test_every_error_has_its_row_in_the_documents() -> None:
    documented = (ROOT / "docs" / "errors.md").read_text()
    classes = [error for error in all_errors().values() if error.code != "internal-error"]
    assert len(classes) > 15
    assert [each.code for each in classes if f"`{each.code}`" not in documented] == []


def test_every_command_has_help_that_names_it() -> None:
    makefile = (ROOT / "Makefile").read_text()
    readme = (ROOT / "README.md").read_text()
    targets = re.findall(r"^([a-z-]+):.*##", makefile, re.MULTILINE)
    assert [target for target in targets if f"make {target}" not in readme] == []


def test_nothing_is_patched() -> None:
    """Tests pass their replacements in; see CONTRIBUTING.md.

    The one exception guards the network.
    """
    patching = re.compile(r"unittest\.mock|mocker|monkeypatch\.setattr")
    files = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if ".mayfly" not in path.parts and patching.search(path.read_text())
    ]
    assert files == ["tests/conftest.py", "tests/contract/test_repository.py"]


def test_no_file_names_a_package_host_or_a_path_of_one_machine() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split()
    if not tracked:
        pytest.skip("no git checkout: nothing says which files belong to the repository")
    forbidden = re.compile(
        r"files\.pythonhosted|pypi\.org|registry\.npmjs|deb\.debian|"
        + "/ro"
        + r"ot/|/ho"
        + r"me/\w|/wo"
        + "rk/"
    )
    files = [
        path
        for path in tracked
        if (ROOT / path).is_file() and forbidden.search((ROOT / path).read_text(errors="replace"))
    ]
    assert files == []


def test_ci_runs_the_soaks_that_make_test_leaves_out() -> None:
    commands = (ROOT / ".ci" / "run").read_text().splitlines()
    for target in ("lint", "test", "soak"):
        assert [line for line in commands if re.search(rf"make {target}( \||$)", line)]


@pytest.mark.parametrize(
    ("outcome", "is_enough"), [("passed", True), ("failed", False), ("skipped", False)]
)
def test_ci_fails_unless_a_container_ran(outcome: str, is_enough: bool) -> None:
    line = container_line({outcome: [SimpleNamespace(nodeid="a::b", keywords={MARK: 1})]})
    (pattern,) = re.findall(r'^grep "(.*?)"', (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert line == f"make invoke in a container: 1 {outcome} (b)"
    assert bool(re.search(pattern, line)) == is_enough
    assert container_line({outcome: [SimpleNamespace(nodeid="a::b", keywords={})]}) is None


def test_machine_of_github_gets_the_image_of_the_templates_runtime() -> None:
    (runtime,) = set(
        re.findall(r"^ *Runtime: (python.*)$", (ROOT / "template.yaml").read_text(), re.MULTILINE)
    )
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    assert f"docker pull {Image(runtime, 'x86_64').tag}\n" in workflow
