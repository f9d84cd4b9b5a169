"""Packages that do not run their `__init__`: they give the same names, and import less."""

import ast
import os
import subprocess
import sys
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
