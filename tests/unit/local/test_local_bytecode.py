"""Byte-code that functions find when they first run with a template."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mayfly_local.compute.bytecode import bytecode_folder


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A folder of a function's code that something else has compiled."""
    folder = tmp_path / "code"
    (folder / "shop").mkdir(parents=True)
    (folder / "shop" / "orders.py").write_text("SAID = 'first'\n")
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(folder)], check=True)
    return folder


def said(code: Path, bytecode: Path) -> str:
    """Returns what a process with its byte-code in `bytecode` reads in the function's module."""
    command = [sys.executable, "-X", f"pycache_prefix={bytecode}", "-c"]
    program = "import shop.orders; print(shop.orders.SAID, shop.orders.__cached__)"
    done = subprocess.run(
        [*command, program],
        cwd=code, env={"PATH": os.defpath, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout


def test_new_folder_has_the_byte_code_of_compiled_modules(tmp_path: Path, code: Path) -> None:
    folder = bytecode_folder(tmp_path / "cache", [code, tmp_path / "absent"])
    value, place = said(code, folder).split()
    assert value == "first"
    assert Path(place).is_relative_to(folder)
    assert Path(place).exists()


def test_new_folder_has_the_byte_code_of_the_standard_library(tmp_path: Path) -> None:
    folder = bytecode_folder(tmp_path / "cache", [])
    source = Path(subprocess.__file__)
    name = f"subprocess.{sys.implementation.cache_tag}.pyc"
    assert (folder / source.parent.relative_to("/") / name).exists()


def test_byte_code_of_a_module_that_has_changed_is_not_used(tmp_path: Path, code: Path) -> None:
    folder = bytecode_folder(tmp_path / "cache", [code])
    (code / "shop" / "orders.py").write_text("SAID = 'changed'\n")
    assert said(code, folder).startswith("changed ")


def test_folder_that_exists_is_left_as_it_is(tmp_path: Path, code: Path) -> None:
    folder = bytecode_folder(tmp_path / "cache", [])
    before = sorted(folder.rglob("*"))
    assert bytecode_folder(tmp_path / "cache", [code]) == folder
    assert sorted(folder.rglob("*")) == before
