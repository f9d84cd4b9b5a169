"""Packages that do not run their `__init__`: they give the same names, and import less."""

import ast
import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from mayfly.core.deferred import PACKAGES

from mayfly_testing.stack import ROOT


def run(code: str, *path: Path) -> str:
    """Runs code in a new process, and returns what it prints."""
    folders = os.pathsep.join(map(str, (ROOT / "layers" / "mayfly", *path)))
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": folders},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_package_does_nothing_but_import_names(package: str) -> None:
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    for statement in ast.parse(Path(spec.origin).read_text()).body:
        if isinstance(statement, ast.Assign):
            assert [ast.unparse(target) for target in statement.targets] == ["__all__"]
        elif isinstance(statement, ast.Expr):
            assert isinstance(statement.value, ast.Constant)
        else:
            assert isinstance(statement, ast.ImportFrom)


@pytest.mark.parametrize("package", [name for name in PACKAGES if PACKAGES[name]])
def test_names_of_the_table_are_those_of_the_package(package: str) -> None:
    checks = "\n".join(
        f"from {package}.{module} import {name}; assert whole.{name} is {name}"
        for name, module in PACKAGES[package].items()
    )
    # It is imported before mayfly, so that its `__init__` runs.
    code = f"import {package} as whole\n{checks}\nprint(type(whole).__name__)"
    assert run(code) == "module"


def test_package_imports_the_module_of_a_name_and_no_other() -> None:
    code = (
        "import sys, mayfly\n"
        "from aws_lambda_powertools.event_handler import APIGatewayHttpResolver, Response\n"
        "from aws_lambda_powertools.event_handler.api_gateway import Response as same\n"
        "assert Response is same\n"
        "print('aws_lambda_powertools.event_handler.appsync' in sys.modules)"
    )
    assert run(code) == "False"


def test_package_that_was_imported_before_is_left_alone() -> None:
    code = (
        "import aws_lambda_powertools.event_handler as package, mayfly\n"
        "print(type(package).__name__, package.AppSyncResolver.__name__)"
    )
    assert run(code) == "module AppSyncResolver"


@pytest.mark.parametrize(
    ("use", "printed"),
    [
        ("from pack import one; print(one)", "1"),
        ("from pack import near; print(near.one)", "1"),
        ("import pack; print(pack.own, pack.one)", "of the package 1"),
        ("from pack import *; print(one, own)", "1 of the package"),
        ("import pack; print(hasattr(pack, 'absent'))", "False"),
        ("import pack; print(hasattr(pack, '__wrapped__'))", "False"),
        ("import pack, inspect; print(inspect.getsource(pack).splitlines()[0])",
         "from .near import one"),
    ],
)  # fmt: skip
def test_deferred_package_gives_every_kind_of_name(tmp_path: Path, use: str, printed: str) -> None:
    package = tmp_path / "pack"
    package.mkdir()
    (package / "near.py").write_text("one = 1\n")
    (package / "__init__.py").write_text(
        "from .near import one\nown = 'of the package'\n__all__ = ['one', 'own']\n"
    )
    defer = (
        "from mayfly.core import deferred\n"
        "deferred.PACKAGES = {'pack': {'one': 'near'}}\ndeferred.install()\n"
        "import pack\nassert type(pack).__name__ == '_Package'\n"
    )
    assert run(defer + use, tmp_path) == printed


def test_every_name_of_a_package_is_what_it_is_without_mayfly() -> None:
    """Each name is asked for in a process of its own, whose package is still deferred."""
    ask = (
        "import importlib, os, sys\n"
        "for package in sys.argv[1:]:\n"
        "    module = importlib.import_module(package)\n"
        "    for name in names[package]:\n"
        "        if os.fork() == 0:\n"
        "            found = getattr(module, name)\n"
        "            print(package, name, type(found).__name__, flush=True)\n"
        "            os._exit(0)\n"
        "        os.wait()\n"
    )
    names = {package: list(import_module(package).__all__) for package in PACKAGES}
    plain, deferred = (
        run(f"import sys\nsys.argv[1:] = {sorted(PACKAGES)}\n{first}\nnames = {names}\n{ask}")
        for first in ("", "import mayfly")
    )
    assert deferred.splitlines() == plain.splitlines()
    assert "data_classes event_source function" in deferred


def test_decorator_is_no_module_whatever_was_imported_before() -> None:
    code = (
        "import mayfly\n"
        "import aws_lambda_powertools.utilities.data_classes.event_source\n"
        "from aws_lambda_powertools.utilities.data_classes import event_source\n"
        "print(type(event_source).__name__)"
    )
    assert run(code) == "function"


def test_threads_that_ask_at_the_same_time_get_the_name() -> None:
    code = (
        "import mayfly, threading\n"
        "import aws_lambda_powertools.utilities.idempotency as package\n"
        "ready, found = threading.Barrier(8), []\n"
        "def ask():\n"
        "    ready.wait()\n"
        "    found.append(package.DynamoDBPersistenceLayer)\n"
        "threads = [threading.Thread(target=ask) for _ in range(8)]\n"
        "for thread in threads: thread.start()\n"
        "for thread in threads: thread.join()\n"
        "print(len(found), len(set(found)))"
    )
    assert run(code) == "8 1"


def test_package_whose_init_fails_names_the_cause_each_time(tmp_path: Path) -> None:
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").write_text("from .gone import name\n")
    code = (
        "from mayfly.core import deferred\n"
        "deferred.PACKAGES = {'pack': {}}\ndeferred.install()\n"
        "for _ in range(2):\n"
        "    try:\n"
        "        from pack import name\n"
        "    except ModuleNotFoundError as problem:\n"
        "        print(problem)"
    )
    assert run(code, tmp_path).splitlines() == ["No module named 'pack.gone'"] * 2
