"""`sam build` and `tools.bundle`: what is deployed, by each interpreter that makes byte-code.

Packages come from the package index. A test skips, and says why, if its interpreter is missing.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

import tools.pythons
from mayfly_cli.bundling.services import SERVICES
from mayfly_cli.bundling.target import target_of
from mayfly_local.application.template import load
from mayfly_testing.stack import ROOT

VERSION = target_of(ROOT / "template.yaml").version
FUNCTIONS = sorted(path.parent.name for path in (ROOT / "functions").glob("*/main.py"))
#: Bounds in MB. Library and handlers with byte-code had 34.0 and 21.2 before this build existed.
FOLDER_MB, ZIP_MB = 15.8, 6.2
MB = 1_000_000


@cache
def interpreter() -> str | None:
    """Returns an interpreter of the template's version, also one that is not on PATH."""
    return tools.pythons.interpreter(VERSION)


def checkout(folder: Path) -> Path:
    """Returns a copy of what a build reads, with a cache of its own."""
    ignored = shutil.ignore_patterns("__pycache__", "node_modules")
    for name in ("functions", "layers", "mayfly_cli", "tools"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "template.yaml", folder)
    return folder


def path_with(folder: Path, *programs: str) -> Path:
    """Returns a folder for a PATH that has these programs only."""
    folder.mkdir()
    for program in programs:
        found = shutil.which(program)
        if found is None:
            pytest.skip(f"{program} is not installed")
        (folder / program).symlink_to(Path(found).resolve())
    return folder


def script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def bundle(
    root: Path, kind: str, target: Path, *, path: Path | None = None, bytecode: str = ""
) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "BYTECODE": bytecode, **({"PATH": str(path)} if path else {})}
    return subprocess.run(
        [sys.executable, "-m", "tools.bundle", kind, str(target)],
        cwd=root, env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def run_isolated(code: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Runs code that sees the standard library and the folders of `path` only."""
    setup = f"import sys; sys.path[:0] = {[str(folder) for folder in path]!r}\n"
    return subprocess.run(
        [sys.executable, "-I", "-S", "-B", "-c", setup + code],
        env={"AWS_DEFAULT_REGION": "xx-1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A function's folder without byte-code, which tests of contents do not need."""
    target = tmp_path_factory.mktemp("without") / "Hello"
    done = bundle(checkout(tmp_path_factory.mktemp("source")), "functions", target, bytecode="off")
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout == "BYTECODE=off: without byte-code, a cold start takes about twice as long\n"
    )
    assert not list(target.rglob("*.pyc"))
    return target


# ---------------------------------------------------------------- byte-code, by each interpreter


@pytest.fixture(params=["python", "uv", "pyodide"], scope="module")
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A way to find an interpreter, and what is deployed if the machine has only that way."""
    folder = tmp_path_factory.mktemp(request.param)
    if request.param == "pyodide":
        if not request.config.getoption("--pyodide"):
            pytest.skip("--pyodide makes byte-code with Pyodide, too")
        # npm finds node by `env`, and runs nothing else.
        path = path_with(folder / "bin", "node", "npm", "env")
    else:
        if interpreter() is None:
            pytest.skip(f"python{VERSION} is not installed")
        path = path_with(folder / "bin")
        if request.param == "python":
            script(path / f"python{VERSION}", f'exec "{interpreter()}" "$@"')
        else:
            script(path / "uv", f'[ "$1 $2" = "python find" ] && echo "{interpreter()}"')
    done = bundle(checkout(folder / "source"), "functions", folder / "Hello", path=path)
    assert done.returncode == 0, done.stderr
    return request.param, folder / "Hello"


def in_interpreter(way: str, folder: Path, code: str) -> str:
    """Returns what code prints in the interpreter that made a folder's byte-code.

    The folder is first on the module path.
    """
    if way != "pyodide":
        setup = f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        command = [str(interpreter()), "-I", "-B", "-c", setup + code]
    else:
        (installed,) = (folder.parent / "source" / ".aws-sam" / "mayfly").glob("pyodide-*")
        program = folder.parent / "code.py"
        program.write_text(f"import sys; sys.path.insert(0, '/folder')\n{code}")
        command = ["node", str(installed / "compile.mjs"), str(program), str(folder), "unused"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_every_module_has_the_byte_code_of_the_interpreter_that_made_it(
    built: tuple[str, Path],
) -> None:
    way, folder = built
    said = (
        "import importlib.util, sys; print(sys.version_info[:2], importlib.util.MAGIC_NUMBER.hex())"
    )
    version, _, magic = in_interpreter(way, folder, said).rpartition(" ")
    assert version == str(tuple(map(int, VERSION.split("."))))
    modules = {str(path.relative_to(folder)) for path in folder.rglob("*.py")}
    compiled = list(folder.rglob("*.pyc"))
    sources = {
        str((path.parent.parent / f"{path.name.split('.')[0]}.py").relative_to(folder))
        for path in compiled
    }
    assert sources == modules
    assert len(modules) > 500
    # Unchecked, with a hash: PEP 552.
    assert {path.read_bytes()[:8].hex() for path in compiled} == {f"{magic}01000000"}


def test_interpreter_that_made_byte_code_imports_it_and_not_the_source(
    built: tuple[str, Path],
) -> None:
    way, folder = built
    said = "from mayfly.core import ids; print(ids.__file__, hasattr(ids, 'CHANGED'))"
    source = folder / "mayfly" / "core" / "ids.py"
    text = source.read_text()
    source.unlink()  # the file has other links
    source.write_text(f"{text}\nCHANGED = True\n")
    try:
        assert in_interpreter(way, folder, said).endswith("mayfly/core/ids.py False")
    finally:
        source.write_text(text)


def test_build_without_the_three_fails_and_names_them_and_the_way_without(tmp_path: Path) -> None:
    done = bundle(
        checkout(tmp_path / "source"),
        "functions",
        tmp_path / "Hello",
        path=path_with(tmp_path / "bin"),
    )
    assert done.returncode == 1
    assert done.stderr == (
        f"no Python {VERSION} is here to compile byte-code for Lambda. These were tried:\n"
        f"  python{VERSION} on PATH: is not installed\n"
        f"  uv python find {VERSION}: uv is not installed\n"
        "  Pyodide under Node: node is not installed\n"
        "Install one of them, or build with BYTECODE=off: "
        "without byte-code, a cold start takes about twice as long.\n"
    )
    assert not (tmp_path / "Hello").exists()


def test_pyodide_with_another_hash_than_the_locked_one_is_refused(tmp_path: Path) -> None:
    root = checkout(tmp_path / "source")
    lock = root / "mayfly_cli" / "bundling" / "pyodide" / "package-lock.json"
    text = lock.read_text()
    (hashed,) = re.findall(r'node_modules/pyodide".*?"integrity": "sha512-(.*?)"', text, re.DOTALL)
    lock.write_text(text.replace(hashed, hashed[::-1].lstrip("=") + "=="))
    path = path_with(tmp_path / "bin", "node", "npm", "env")
    done = bundle(root, "functions", tmp_path / "Hello", path=path)
    assert done.returncode == 1
    assert "Pyodide under Node: " in done.stderr
    assert "npm error code EINTEGRITY; npm error Integrity checksum failed" in done.stderr


def test_folder_with_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "old.py").touch()
    done = bundle(ROOT, "functions", tmp_path)
    assert (done.returncode, done.stderr) == (
        1,
        f"{tmp_path} is not empty: delete it, and build again\n",
    )


def test_other_values_of_bytecode_are_refused(tmp_path: Path) -> None:
    done = bundle(ROOT, "functions", tmp_path / "Hello", bytecode="on")
    assert (done.returncode, done.stderr) == (1, "BYTECODE is 'on'; it may be off\n")


def test_folder_and_zip_are_small(built: tuple[str, Path], tmp_path: Path) -> None:
    _, folder = built
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files(folder).items():
            archive.writestr(name, content)
    size = sum(map(len, files(folder).values())) / MB
    zipped = (tmp_path / "a.zip").stat().st_size / MB
    assert (size < FOLDER_MB, zipped < ZIP_MB) == (True, True), (
        f"{size:.1f} MB, {zipped:.1f} MB zipped"
    )


# ---------------------------------------------------------------- contents


@pytest.mark.parametrize("function", FUNCTIONS)
def test_function_imports_with_nothing_but_its_folder(without: Path, function: str) -> None:
    done = run_isolated(f"import {function}.app, {function}.deps", without)
    assert done.returncode == 0, done.stderr


def test_packages_tell_their_versions(without: Path) -> None:
    said = "from importlib.metadata import version; print(version('boto3'), version('tzdata'))"
    lock = (ROOT / "layers" / "mayfly" / "requirements.txt").read_text()
    versions = dict(re.findall(r"^([a-z0-9-]+)==([^ ;]+)", lock, re.MULTILINE))
    assert run_isolated(said, without).stdout.split() == [versions["boto3"], versions["tzdata"]]


def test_nothing_but_functions_library_and_packages_is_deployed(without: Path) -> None:
    names = set(files(without))
    assert not [
        name for name in names if re.search(r"(^|/)(bin|tests?|Makefile|RECORD)(/|$)|\.pyi$", name)
    ]
    assert not [
        name for name in names if name.startswith(("tools/", "mayfly_cli/", "mayfly_local/"))
    ]
    assert {name for name in names if name.startswith("mayfly/")} == {
        str(path.relative_to(ROOT / "layers" / "mayfly"))
        for path in (ROOT / "layers" / "mayfly" / "mayfly").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    data = without / "botocore" / "data"
    assert {path.name for path in data.iterdir() if path.is_dir()} == set(SERVICES)


def test_clients_of_the_listed_services_need_no_other_botocore(without: Path) -> None:
    code = f"import boto3\nfor name in {SERVICES}: boto3.client(name)\nboto3.resource('dynamodb')"
    done = run_isolated(code, without)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- services out of the list

_ASKS_SES = """
import boto3, botocore
client = boto3.client("ses", endpoint_url={url!r})
print(client.list_identities()["Identities"], client.can_paginate("list_identities"))
try:
    boto3.client("sess")
except botocore.exceptions.UnknownServiceError as problem:
    print(type(problem).__name__, "ses," in str(problem))
print(boto3.client("sqs").meta.service_model.metadata["serviceId"])
"""


class _Ses(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = (
            b'<ListIdentitiesResponse xmlns="http://ses.amazonaws.com/doc/2010-12-01/">'
            b"<ListIdentitiesResult><Identities><member>ada@example.com</member></Identities>"
            b"</ListIdentitiesResult></ListIdentitiesResponse>"
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keeps the output of tests clean."""


@pytest.fixture
def ses() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Ses) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def runtimes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like that of Lambda's Python: it has boto3 with all services."""
    import botocore

    folder = tmp_path_factory.mktemp("runtime")
    for name in ("boto3", "botocore", "s3transfer", "jmespath", "dateutil", "urllib3"):
        (folder / name).symlink_to(Path(botocore.__file__).parent.parent / name)
    return folder


def test_service_out_of_the_list_uses_the_data_of_lambdas_python(
    without: Path, runtimes: Path, ses: str
) -> None:
    done = run_isolated(_ASKS_SES.format(url=ses), without, runtimes)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "['ada@example.com'] True",
        "UnknownServiceError True",
        "SQS",
    ]


def test_service_out_of_the_list_fails_with_its_name_if_there_is_no_other_data(
    without: Path,
) -> None:
    done = run_isolated("import boto3; boto3.client('ses')", without)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "botocore.left_out.ServiceLeftOut: The AWS service 'ses' is not in this deployment, which "
        f"has {', '.join(sorted(SERVICES))}. No other botocore is on sys.path to take its data "
        "from. Add --service ses to mayfly bundle in the Makefile of the function, or, in a "
        "checkout of Mayfly, the service to SERVICES in mayfly_cli/bundling/services.py; deploy "
        "again"
    )


# ---------------------------------------------------------------- sam build


@pytest.fixture(scope="module")
def sam() -> Path:
    program = ROOT / ".venv-sam" / "bin" / "sam"
    if not program.exists():
        pytest.skip("there is no .venv-sam; make it with: make .venv-sam/ready")
    return program


def sam_build(sam: Path, root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "SAM_CLI_TELEMETRY": "0", "BYTECODE": "off", "PYTHON": sys.executable}
    return subprocess.run(
        [sam, "build", *arguments], cwd=root, env=env, capture_output=True, text=True, check=False
    )


def test_sam_build_gives_all_functions_one_folder_with_each_change_of_the_library(
    sam: Path, tmp_path: Path, without: Path
) -> None:
    root = checkout(tmp_path / "a checkout")
    done = sam_build(sam, root)
    assert done.returncode == 0, done.stderr
    built = root / ".aws-sam" / "build"
    template = load(ROOT / "template.yaml", cache=ROOT / ".mayfly" / "cache")
    functions = template.of_type("AWS::Lambda::Function")
    assert {path.name for path in built.iterdir() if path.is_dir()} == set(functions)
    wanted = files(without)
    for name in functions:
        assert files(built / name) == wanted, name
    # SAM uploads a folder under this checksum, and skips what is there already.
    checksums = (
        "import sys; from samcli.lib.utils.hash import dir_checksum\n"
        "print(len({dir_checksum(folder) for folder in sys.argv[1:]}))"
    )
    count = subprocess.run(
        [sam.parent / "python", "-c", checksums, *(built / name for name in functions)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert count.stdout == "1\n"

    (root / "layers" / "mayfly" / "mayfly" / "added.py").write_text("")
    assert sam_build(sam, root, "--cached").returncode == 0
    for name in functions:
        assert files(built / name) == {**wanted, "mayfly/added.py": b""}, name


def test_builds_at_the_same_time_share_the_cache(tmp_path: Path, without: Path) -> None:
    root = checkout(tmp_path / "source")
    targets = [tmp_path / name for name in ("A", "B", "C")]
    with ThreadPoolExecutor(3) as threads:
        done = list(
            threads.map(lambda target: bundle(root, "functions", target, bytecode="off"), targets)
        )
    assert [each.returncode for each in done] == [0, 0, 0], done
    assert all(files(target) == files(without) for target in targets)
    assert (targets[0] / "six.py").stat().st_nlink == 5
    (root / "functions" / "hello" / "added.py").write_text("")
    assert bundle(root, "functions", tmp_path / "D", bytecode="off").returncode == 0
    assert files(tmp_path / "D") == {**files(without), "hello/added.py": b""}


def test_layer_of_an_example_has_library_and_packages_but_no_handlers(
    sam: Path, tmp_path: Path, without: Path
) -> None:
    root = checkout(tmp_path / "source")
    shutil.copytree(ROOT / "examples", root / "examples")
    done = sam_build(sam, root, "--template", "examples/flask_hits/template.yaml", "MayflyLayer")
    assert done.returncode == 0, done.stderr
    layer = files(root / ".aws-sam" / "build" / "MayflyLayer" / "python")
    handlers = tuple(f"{path.name}" for path in (ROOT / "functions").iterdir())
    assert layer == {
        name: content for name, content in files(without).items() if not name.startswith(handlers)
    }
    assert json.dumps(sorted(layer)).count("mayfly/jobs/") > 20
