"""Which functions wait for a debugger, at which ports."""

import json
import re
from itertools import count
from pathlib import Path

import pytest

from mayfly_local.compute.debugging import debug_launch, debug_ports
from mayfly_local.compute.launch import Launch
from mayfly_local.errors import LocalError
from tests.conftest import ROOT

NAMES = ["RunJobs", "Hello"]


def any_port(preferred: int) -> int:
    return preferred


def test_functions_are_named_by_id_or_folder_and_have_a_port_each() -> None:
    ports = debug_ports(["run_jobs", "Hello", "RunJobs"], NAMES, any_port)
    assert ports == {"RunJobs": 5678, "Hello": 5679}


def test_port_that_is_in_use_is_replaced() -> None:
    others = count(40_000)
    assert debug_ports(["Hello"], NAMES, lambda _: next(others)) == {"Hello": 40_000}


@pytest.mark.parametrize("name", ["Goodbye", ""], ids=["unknown", "empty"])
def test_unknown_function_is_an_error_that_names_the_known_ones(name: str) -> None:
    with pytest.raises(LocalError, match=f"no function '{name}'; the template has: Hello, RunJobs"):
        debug_ports(["Hello", name], NAMES, any_port)


def test_launch_under_a_debugger_has_debugpy_and_no_timeout(tmp_path: Path) -> None:
    usual = Launch(
        name="Hello", arn="arn", handler="app.main", runtime="awslambdaric", variables={},
        folder=tmp_path, path=[tmp_path], timeout_seconds=3, memory_mb=128,
    )  # fmt: skip
    launch = debug_launch(usual, 5678, cache=tmp_path)
    assert (launch.timeout_seconds, launch.memory_mb, launch.debug_port) == (86_400, 384, 5678)
    assert launch.path[0] == tmp_path
    assert [link.name for link in launch.path[1].iterdir()].count("debugpy") == 1
    assert usual.debug_port is None


def test_launch_json_of_the_page_attaches_to_the_first_port() -> None:
    page = (ROOT / "docs" / "debugger.md").read_text()
    (text,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    (attach,) = json.loads(text)["configurations"]
    assert (attach["type"], attach["request"]) == ("debugpy", "attach")
    (port,) = debug_ports(["Hello"], NAMES, any_port).values()
    assert attach["connect"] == {"host": "127.0.0.1", "port": port}
