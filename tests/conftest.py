"""Fixtures of all tests.

Tests use loopback only and no real credentials. Tables are made as in template.yaml.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mayfly_local.ports.access import is_loopback_name
from tests.support.faults import Faults

ROOT = Path(__file__).parent.parent

# Must run before any AWS client is made, in this process or in one that it starts.
os.environ.update(
    AWS_ACCESS_KEY_ID="test",
    AWS_SECRET_ACCESS_KEY="test",
    AWS_REGION="us-east-1",
    AWS_DEFAULT_REGION="us-east-1",
    AWS_EC2_METADATA_DISABLED="true",
)
for inherited in (
    "AWS_PROFILE",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_LAMBDA_FUNCTION_NAME",
):
    os.environ.pop(inherited, None)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds options for the sizes of long tests."""
    parser.addoption(
        "--hostile",
        type=int,
        default=6000,
        metavar="EVENTS",
        help="hostile events to run (default: 6000)",
    )
    parser.addoption(
        "--rounds",
        type=int,
        default=3,
        metavar="N",
        help="rounds of kills on one state, and a quarter of each other kind (default: 3)",
    )
    parser.addoption(
        "--searches",
        type=int,
        default=100,
        metavar="CASES",
        help="cases of each long random search (default: 100)",
    )
    parser.addoption(
        "--schema",
        type=int,
        default=20,
        metavar="CASES",
        help="schemathesis cases for each operation and phase (default: 20)",
    )


#: Files that take longest, in this order. They start before shorter ones, so that no worker
#: finishes long after the others.
SLOWEST = [
    "test_state", "test_stack", "test_schedules", "test_recovery", "test_lifecycle", "test_crash",
    "test_full_run", "test_machine_faults",
    "test_session_histories", "test_second_application", "test_counter_histories", "test_counting",
    "test_hostile_input", "test_tutorial",
]  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the tests.

    Unit and contract tests run first, since they find a mistake soonest; then the slow files, then
    the rest.
    """

    def place(item: pytest.Item) -> tuple[bool, int]:
        is_quick = bool({"unit", "contract"} & set(item.path.parts))
        return not is_quick, SLOWEST.index(item.path.stem) if item.path.stem in SLOWEST else len(
            SLOWEST
        )

    items.sort(key=place)


def pytest_xdist_auto_num_workers() -> int:
    """Returns one worker more than processors, since many tests wait for processes and timeouts."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture
def searches(request: pytest.FixtureRequest) -> int:
    """Returns how many cases a long random search tries."""
    return int(request.config.getoption("--searches"))


@pytest.fixture
def hostile_events(request: pytest.FixtureRequest) -> int:
    """Returns how many hostile events to run, over all entry points."""
    return int(request.config.getoption("--hostile"))


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails a test that uses the network, on every machine alike."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_loopback_name(address[0]):
            raise AssertionError(f"a test connects to {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def aws() -> Iterator[None]:
    """Replaces AWS by moto, for this process."""
    from moto import mock_aws

    with mock_aws():
        yield


@pytest.fixture
def tables(aws: None) -> dict[str, str]:
    """Makes the template's tables on moto; returns physical names by logical ids."""
    return make_tables(make_client("dynamodb"))


@pytest.fixture
def dynamodb(tables: dict[str, str]) -> Any:
    """Returns a client as the functions have it."""
    return make_client("dynamodb")


@pytest.fixture
def faults(dynamodb: Any) -> Faults:
    """Makes chosen calls of `dynamodb` fail at the HTTP level."""
    return Faults(dynamodb)


def make_tables(client: Any, prefix: str = "", *, streams: bool = True) -> dict[str, str]:
    """Makes the template's tables, without their streams if requested.

    Returns their names by logical ids.
    """
    from samtranslator.yaml_helper import yaml_parse

    names = {}
    for logical, resource in yaml_parse((ROOT / "template.yaml").read_text())["Resources"].items():
        if resource["Type"] == "AWS::DynamoDB::Table":
            wanted = (
                "AttributeDefinitions",
                "KeySchema",
                "BillingMode",
                "GlobalSecondaryIndexes",
                "StreamSpecification",
            )
            properties = {
                key: value for key, value in resource["Properties"].items() if key in wanted
            }
            if not streams:
                properties.pop("StreamSpecification", None)
            if "StreamSpecification" in properties:
                properties["StreamSpecification"] = {
                    "StreamEnabled": True,
                    **properties["StreamSpecification"],
                }
            client.create_table(TableName=prefix + logical, **properties)
            names[logical] = prefix + logical
    return names


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Starts the emulator as a process, for tests that moto cannot run (PartiQL, races)."""
    from mayfly_testing.stack import embedded_store

    with embedded_store(tmp_path_factory.mktemp("store")) as found:
        yield found


@pytest.fixture
def embedded(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns a DynamoDB client for the emulator, made by the production code."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    return make_client("dynamodb")


def make_client(service: str, *, attempts: int = 3) -> Any:
    """Returns a client made by the production code."""
    from mayfly.resources import client

    return client(service, attempts=attempts)
