"""The first ten minutes of a user, from the wheel alone: install, `mayfly init`, run, test, build.

The home folder is empty. Packages come from the package index of this machine's pip.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from mayfly_cli.bundling.packages import PROGRAMS
from mayfly_cli.bundling.services import SERVICES
from mayfly_cli.new_application import runtime_here
from mayfly_testing.stack import ROOT, Stack, await_start, launch

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1200)]

SAM = ROOT / ".venv-sam" / "bin"
#: Bound of a function's folder, in MB; SAM's own builder makes 44.
FOLDER_MB = 19
#: Settings of pip that are in the home folder.
PIP_SETTINGS = (".config/pip/pip.conf", ".pip/pip.conf", "Library/Application Support/pip/pip.conf")


@dataclass
class Machine:
    """A folder with an environment of its own, in which the wheel is installed."""

    folder: Path
    wheels: Path
    began: float = field(default_factory=time.monotonic)

    @property
    def bin(self) -> Path:
        """The folder of the environment's programs."""
        return self.folder / "venv" / "bin"

    @property
    def env(self) -> dict[str, str]:
        """The variables of a user's terminal, with the environment active."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("AWS_", "MAYFLY_", "PYTEST_", "PYTHON"))
        }
        home = Path.home()
        for settings in PIP_SETTINGS:
            if "PIP_CONFIG_FILE" not in kept and (home / settings).exists():
                kept["PIP_CONFIG_FILE"] = str(home / settings)
        path = os.pathsep.join([str(self.bin), str(SAM), kept["PATH"]])
        return {
            **kept, "HOME": str(self.folder / "home"), "PATH": path, "SAM_CLI_TELEMETRY": "0",
            "AWS_DEFAULT_REGION": "us-east-1",
            "PIP_FIND_LINKS": f"{kept.get('PIP_FIND_LINKS', '')} {self.wheels}".strip(),
        }  # fmt: skip

    def run(self, *command: str, folder: Path | None = None) -> str:
        """Runs a command, and returns what it printed. Raises AssertionError if it fails."""
        done = subprocess.run(
            command, cwd=folder or self.folder, env=self.env, text=True, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(command)}:\n{done.stdout[-5000:]}"
        return done.stdout

    def note(self, what: str) -> None:
        """Prints the seconds since the installation began."""
        print(f"{what}: {time.monotonic() - self.began:.1f} s after the installation began")


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    folder = tmp_path_factory.mktemp("machine")
    (folder / "home").mkdir()
    wheels = tmp_path_factory.mktemp("wheels")
    program = "import sys; from hatchling.build import build_wheel; print(build_wheel(sys.argv[1]))"
    command = [sys.executable, "-c", program, str(wheels)]
    name = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    made = Machine(folder, wheels)
    made.run(sys.executable, "-m", "venv", str(folder / "venv"))
    made.run(str(made.bin / "pip"), "install", "--quiet", f"{wheels / name.strip()}[local]")
    made.note("installed")
    return made


@pytest.fixture(scope="module")
def shop(machine: Machine) -> Path:
    """The application, which the command makes in the folder."""
    assert "mayfly up" in machine.run("mayfly", "init", "shop")
    return machine.folder / "shop"


@pytest.fixture
def stack(machine: Machine, shop: Path, tmp_path: Path) -> Iterator[Stack]:
    """The application, run by the user's own command; its packages come from the environment."""
    env = {**machine.env, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": ""}
    command = ["env", "-i", *(f"{name}={value}" for name, value in env.items()), "mayfly"]
    stack = launch(command, tmp_path, template=shop / "template.yaml", work=shop / ".mayfly")
    try:
        await_start(stack)
        yield stack
    finally:
        if stack.process.poll() is None:
            stack.stop()


def test_first_job_is_done_soon_after_the_installation(
    machine: Machine, shop: Path, stack: Stack
) -> None:
    page = stack.get("/")
    assert (page.status_code, page.text) == (200, "shop: visits 1, orders 0")
    job = stack.job(stack.submit("orders.tally", {"items": 3})["id"], wait=20)
    assert (job["status"], job["result"]) == ("succeeded", {"items": 3})
    machine.note("first job done")
    assert stack.get("/").text == "shop: visits 2, orders 1"
    assert stack.counter("items") == 3
    assert "installing the packages" not in stack.output
    # The whole of Mayfly's API, at its own address, with the tasks of the wheel next to one's own.
    refused = requests.post(
        f"{stack.api}/jobs", json={"task": "no"}, headers=stack.headers, timeout=20
    )
    assert refused.json()["detail"] == (
        "no task is called 'no'; known tasks: counter.add, csv.import, fail, http.deliver, "
        "orders.tally, sleep"
    )
    # Operators' commands find the part that the application nests.
    listed = machine.run("mayfly", "keys", "list", folder=shop)
    assert len(listed.splitlines()) == 2
    assert machine.run("mayfly", "counters", "show", "items", folder=shop).strip().endswith("3")


def test_tests_of_the_application_pass(machine: Machine, shop: Path) -> None:
    printed = machine.run("pytest", folder=shop)
    assert " 4 passed" in printed, printed


@pytest.mark.skipif(not SAM.exists(), reason="make .venv-sam/ready installs SAM")
def test_application_is_valid_and_is_built_without_what_only_a_machine_needs(
    machine: Machine, shop: Path
) -> None:
    for template in ("template.yaml", "mayfly.yaml"):
        printed = machine.run("sam", "validate", "--lint", "-t", template, folder=shop)
        assert "is a valid SAM Template" in printed
    machine.run("sam", "build", folder=shop)
    built = shop / ".aws-sam" / "build"
    functions = [built / "Page", *(path for path in (built / "Mayfly").iterdir() if path.is_dir())]
    assert len(functions) == 11
    for function in functions:
        assert {"mayfly", "mayfly_functions", "shop"} <= deployed(function)
    # The folder that is deployed has all that a handler imports.
    variables = "COUNTERS_TABLE=c JOBS_TABLE=j JOBS_QUEUE_URL=https://q DEFAULT_TENANT=default"
    printed = machine.run(
        "env", "-i", *variables.split(), "MAYFLY_TASKS=shop.tasks", "AWS_REGION=us-east-1",
        str(machine.bin / "python"), "-I", "-S", "-c",
        f"import sys; sys.path.insert(0, {str(built / 'Mayfly' / 'RunJobs')!r})\n"
        "import mayfly_functions.run_jobs.main, shop.page\nprint('imported')",
    )  # fmt: skip
    assert printed.strip() == "imported"
    machine.note("built")


def deployed(function: Path) -> set[str]:
    """Returns the names in a function's folder, and checks what is true of every function."""
    names = {path.name for path in function.iterdir()}
    assert not names & {*PROGRAMS, "Makefile"}
    services = {path.name for path in (function / "botocore" / "data").iterdir() if path.is_dir()}
    assert services == set(SERVICES)
    uncompiled = [
        str(path)
        for path in function.rglob("*.py")
        if not list((path.parent / "__pycache__").glob(f"{path.stem}.cpython-*.pyc"))
    ]
    assert uncompiled == []
    size = sum(path.stat().st_size for path in function.rglob("*") if path.is_file()) / 1_000_000
    print(f"{function.name}: {size:.1f} MB")
    assert size < FOLDER_MB
    return names


@pytest.mark.skipif(not SAM.exists(), reason="make .venv-sam/ready installs SAM")
def test_part_that_is_added_to_a_project_is_built_in_the_same_way(
    machine: Machine, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT / "tests" / "apps" / "sam_init", project)
    # SAM builds the project's own function, for which it wants a Python of that version.
    template = project / "template.yaml"
    template.write_text(re.sub(r"python3\.\d+", runtime_here(), template.read_text()))
    machine.run("mayfly", "add", "counters", "jobs", folder=project)
    machine.run("sam", "build", folder=project)
    parts = project / ".aws-sam" / "build" / "Mayfly"
    functions = [path for path in parts.iterdir() if path.is_dir()]
    assert len(functions) == 10
    for function in functions:
        assert {"mayfly", "mayfly_functions", "tasks"} <= deployed(function)


def test_pages_of_the_wheel_are_found(machine: Machine) -> None:
    page = Path(machine.run("mayfly", "docs", "start").strip())
    assert page.is_relative_to(machine.folder / "venv")
    assert page.read_text().startswith("# Start an application\n")


def test_crash_lab_of_the_wheel_finds_functions_library_and_template(machine: Machine) -> None:
    program = (
        "from mayfly_cli.checkout import checkout\n"
        "with checkout() as root:\n"
        "    for name in ('functions/run_jobs/main.py', 'functions/tasks/counter_add.py',\n"
        "                 'layers/mayfly/mayfly/resources.py', 'template.yaml'):\n"
        "        assert (root / name).is_file(), name\n"
        "assert not root.exists()\n"
        "print('found')"
    )
    assert machine.run("python", "-c", program).strip() == "found"


def test_handler_of_the_wheel_needs_a_folder_with_a_requirements_file_only(
    machine: Machine, tmp_path: Path
) -> None:
    """A template of one's own that names a handler of Mayfly."""
    app = tmp_path / "bare"
    (app / "src").mkdir(parents=True)
    (app / "src" / "requirements.txt").write_text("mayfly-serverless\n")
    (app / "template.yaml").write_text(
        """
Transform: AWS::Serverless-2016-10-31
Resources:
  Count:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      CodeUri: src
      Handler: mayfly_functions.hello.main.handler
      Environment:
        Variables:
          {COUNTERS_TABLE: !Ref Table, SESSIONS_TABLE: !Ref Table, SUBJECT_KEY: k,
           DEFAULT_TENANT: default, PAGE_LIMIT: "0"}
      Policies: [DynamoDBCrudPolicy: {TableName: !Ref Table}]
      Events:
        Page: {Type: HttpApi, Properties: {Path: /, Method: GET}}
  Table:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions:
        - {AttributeName: pk, AttributeType: S}
        - {AttributeName: sk, AttributeType: S}
      KeySchema: [{AttributeName: pk, KeyType: HASH}, {AttributeName: sk, KeyType: RANGE}]
"""
    )
    command = ["env", "-i", *(f"{name}={value}" for name, value in machine.env.items()), "mayfly"]
    stack = launch(command, tmp_path / "run", template=app / "template.yaml")
    try:
        await_start(stack)
        assert stack.get("/").text == "Hello World! 1 times."
    finally:
        if stack.process.poll() is None:
            stack.stop()
