"""Packages of functions: their sources, and the calls that wait for them."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from mayfly_local.compute.installations import Installations, installed, package_folder
from mayfly_local.compute.packages import python_path
from mayfly_local.compute.requirements import Requirements
from mayfly_local.errors import LocalError

PROJECT = """
[project]
name = "own"
version = "1"
dependencies = ["requests>=2", "idna"]
"""
LOCK = """
version = 1

[[package]]
name = "requests"
version = "2.32.3"
source = { registry = "https://packages.example/simple" }

[[package]]
name = "own"
version = "1"
source = { virtual = "." }
"""


def test_requirements_come_from_the_file_that_sam_builds_with(tmp_path: Path) -> None:
    assert Requirements.of_folder(tmp_path) is None
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    plain = Requirements.of_folder(tmp_path)
    assert plain is not None
    assert (plain.text, plain.constraints) == ("requests>=2\nidna\n", "")
    (tmp_path / "uv.lock").write_text(LOCK)
    locked = Requirements.of_folder(tmp_path)
    assert locked is not None
    assert locked.constraints == "requests==2.32.3\n"
    assert package_folder(locked, tmp_path) != package_folder(plain, tmp_path)
    (tmp_path / "requirements.txt").write_text("idna\n")
    first = Requirements.of_folder(tmp_path)
    assert first is not None
    assert first.text == "idna\n"


@pytest.mark.parametrize("text", ["", "[tool.x]\na = 1\n", "= nothing", "[project]\nname = 'a'\n"])
def test_project_without_dependencies_asks_for_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert Requirements.of_folder(tmp_path) is None


def test_packages_in_place_of_layers_come_last_on_the_path(tmp_path: Path) -> None:
    path, wanted = python_path(
        tmp_path, (), ("idna",), brings_packages=True, cache=tmp_path / "cache"
    )
    (requirements,) = wanted
    assert path == [tmp_path, package_folder(requirements, tmp_path / "cache")]


def test_call_waits_for_its_own_packages_only_and_a_failure_is_its_own(tmp_path: Path) -> None:
    asyncio.run(_installs(tmp_path))


async def _installs(tmp_path: Path) -> None:
    slow, bad = (Requirements(f"{name}\n", "", name, tmp_path) for name in ("slow", "bad"))
    said: list[str] = []
    may_end = asyncio.Event()

    async def install(
        requirements: Requirements, *, cache: Path, say: Callable[[str], None]
    ) -> Path:
        if requirements is bad:
            raise LocalError("the packages of bad could not be installed")
        say(f"installing {requirements.origin}")
        await may_end.wait()
        return package_folder(requirements, cache)

    installations = Installations(
        {"Slow": [slow], "Bad": [bad], "Both": [slow, bad], "None": []},
        cache=tmp_path, say=said.append, install=install,
    )  # fmt: skip
    assert await installations.ready("None") == ""
    assert await installations.ready("Bad") == "the packages of bad could not be installed"
    assert await installations.settle(0) == ["Slow", "Both"]
    may_end.set()
    assert await installations.ready("Slow") == ""
    assert "bad" in await installations.ready("Both")
    assert await installations.settle(1) == []
    assert sum("slow" in line for line in said) == 1
    await installations.close()


def test_stop_ends_a_running_installation(tmp_path: Path) -> None:
    asyncio.run(_stops(tmp_path))


async def _stops(tmp_path: Path) -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def install(_: Requirements, *, cache: Path, say: Callable[[str], None]) -> Path:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return cache

    installations = Installations(
        {"F": [Requirements("a\n", "", "a", tmp_path)]},
        cache=tmp_path, say=lambda _: None, install=install,
    )  # fmt: skip
    await started.wait()
    await asyncio.wait_for(installations.close(), 5)
    assert ended.is_set()


def test_package_that_does_not_exist_is_named_with_pips_error(tmp_path: Path) -> None:
    requirements = Requirements("./gone\n", "", "requirements.txt", tmp_path)
    with pytest.raises(LocalError, match=r"requirements\.txt could not be installed"):
        asyncio.run(installed(requirements, cache=tmp_path / "cache"))
    assert list((tmp_path / "cache" / "packages").iterdir()) == []
