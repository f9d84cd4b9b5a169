"""Fixtures of all tests.

Tests use loopback only and no real credentials. Tables are made as in template.yaml.
"""

import gc
import os
import socket
from collections.abc import Collection, Generator, Iterator
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mayfly_local.ports.access import is_loopback_name
from tests.support.clients import make_client
from tests.support.containers import container_line
from tests.support.faults import Faults
from tests.support.mocked import MockedAws

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
        "--soaks",
        action="store_true",
        help="run soaks, too: kills under load, random requests, many processes at once",
    )
    parser.addoption(
        "--hostile",
        type=int,
        default=1000,
        metavar="EVENTS",
        help="hostile events to run (default: 1000)",
    )
    parser.addoption(
        "--rounds",
        type=int,
        default=3,
        metavar="N",
        help="rounds of kills on one state, and a quarter of each other kind, two at least "
        "(default: 3)",
    )
    parser.addoption(
        "--searches",
        type=int,
        default=25,
        metavar="CASES",
        help="cases of each random search (default: 25)",
    )
    parser.addoption(
        "--pyodide",
        action="store_true",
        help="make byte-code with Pyodide, too, which npm installs for it",
    )
    parser.addoption(
        "--schema",
        type=int,
        default=10,
        metavar="CASES",
        help="schemathesis cases for each operation and phase (default: 10)",
    )

    parser.addoption(
        "--load-seconds",
        type=int,
        default=10,
        metavar="SECONDS",
        help="how long workers are killed under load; stores are hammered for a tenth of it, 2 s "
        "at least, and a page is asked for in proportion (default: 10)",
    )
    parser.addoption(
        "--lease-seconds",
        type=int,
        default=6,
        metavar="SECONDS",
        help="the lease of jobs whose worker is killed (default: 6; the template's is 15)",
    )
    parser.addoption(
        "--webhooks",
        type=int,
        default=60,
        metavar="N",
        help="webhooks to a receiver that misbehaves (default: 60)",
    )
    parser.addoption(
        "--megabytes",
        type=int,
        default=16,
        metavar="N",
        help="the size of a file that is imported (default: 16)",
    )
    parser.addoption(
        "--ended-jobs",
        type=int,
        default=2000,
        metavar="N",
        help="ended jobs whose memory is measured (default: 2000)",
    )
    parser.addoption(
        "--continuations",
        type=int,
        default=60,
        metavar="N",
        help="how often a job with a bounded history continues (default: 60)",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Sets the cases of each property test, which are those of a long search."""
    from hypothesis import settings

    cases = int(config.getoption("--searches"))
    settings.register_profile("mayfly", settings(), max_examples=cases)
    settings.load_profile("mayfly")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collects no garbage meanwhile, and later does not search what was loaded.

    Each worker loads all tests; searching them took a second of its CPU time.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.freeze()


#: Files that take longest, in this order. They start before shorter ones, so that no worker
#: finishes long after the others.
SLOWEST = [
    "test_updates", "test_release_data", "test_state_files", "test_stack", "test_crash",
    "test_full_run", "test_schedules",
    "test_recovery", "test_second_application", "test_kills", "test_state", "test_machine_faults",
    "test_lifecycle", "test_counting", "test_session_histories", "test_counter_histories",
    "test_hostile_input", "test_tutorial",
]  # fmt: skip


#: Files whose tests share nothing that takes long to make: each test goes to the next free worker.
SINGLE = (
    "test_crash.py", "test_lifecycle.py", "test_machine_faults.py", "test_release_data.py",
    "test_state.py", "test_updates.py",
)  # fmt: skip

#: Files whose tests change nothing that others rely on. One worker runs them all, on one stack.
SHARED = tuple(
    f"integration/test_{name}.py"
    for name in ("browser", "hostile_requests", "hostile_wire", "sessions")
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Sorts the tests, and skips soaks unless they are asked for.

    Unit and contract tests run first, since they find a mistake soonest; then the slow files, then
    the rest.
    """
    if not config.getoption("--soaks"):
        left_out = pytest.mark.skip(
            reason="a soak: --soaks runs it, as make soak, make test-all and CI do"
        )
        for item in items:
            if "soak" in item.keywords:
                item.add_marker(left_out)

    def place(item: pytest.Item) -> tuple[bool, int]:
        is_quick = bool({"unit", "contract"} & set(item.path.parts))
        stem = item.path.stem
        return not is_quick, SLOWEST.index(stem) if stem in SLOWEST else len(SLOWEST)

    items.sort(key=place)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Says in one line which tests ran a container, since they are skipped without an engine."""
    if (line := container_line(terminalreporter.stats)) is not None:
        terminalreporter.write_line(line)


#: Files with the contract of the stores. Their tests run on both clients, on boto3's by
#: `make soak`. Others run on the lean one, which functions have.
CONTRACT_OF_STORES = (
    "test_batches", "test_claims", "test_commits", "test_counters", "test_dead_letters",
    "test_due_jobs", "test_group_commit", "test_jobs_store", "test_leases", "test_limits",
    "test_optimistic", "test_requested_jobs", "test_schedules", "test_session_faults",
    "test_session_repeats", "test_sessions", "test_tenants",
)  # fmt: skip


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs each test of the stores' contract on both clients, unless MAYFLY_CLIENT names one."""
    if (
        metafunc.definition.path.stem in CONTRACT_OF_STORES
        and metafunc.definition.path.parent.parent.name == "unit"
        and {"aws", "embedded", "endpoint"} & set(metafunc.fixturenames)
        and "MAYFLY_CLIENT" not in os.environ
    ):
        boto3 = pytest.param("boto3", marks=pytest.mark.soak)
        # Without soaks it would be a line of `skipped` for each test.
        clients = ["lean", boto3] if metafunc.config.getoption("--soaks") else ["lean"]
        metafunc.parametrize("_client_of_stores", clients, indirect=True)


@pytest.fixture(autouse=True)
def _client_of_stores(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names the client of a test of the stores' contract, before any fixture makes a client.

    It is an autouse fixture since pytest leaves out a fixture that only a parametrization names.
    """
    if client := getattr(request, "param", None):
        monkeypatch.setenv("MAYFLY_CLIENT", client)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Returns the scheduler of tests.

    A worker gets whole files, so that a stack starts once for its file, and single tests of some
    files.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            if path.endswith(SHARED):
                return "shared"
            return nodeid if path.endswith(SINGLE) else path

    return Scheduling(config, log)


def pytest_xdist_auto_num_workers() -> int:
    """Returns four workers more than processors, since many tests wait for processes."""
    return (os.cpu_count() or 1) + 4


@pytest.fixture
def searches(request: pytest.FixtureRequest) -> int:
    """Returns how many cases a long random search tries."""
    return int(request.config.getoption("--searches"))


@pytest.fixture
def hostile_events(request: pytest.FixtureRequest) -> int:
    """Returns how many hostile events to run, over all entry points."""
    return int(request.config.getoption("--hostile"))


@pytest.fixture
def load_seconds(request: pytest.FixtureRequest) -> int:
    """Returns the seconds for which workers are killed under load."""
    return int(request.config.getoption("--load-seconds"))


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
    with MockedAws():
        yield


#: moto's tables as CreateTable leaves them, by name; never used themselves.
_MADE: dict[str, Any] = {}


@pytest.fixture
def tables(aws: None) -> dict[str, str]:
    """Makes the template's tables on moto; returns physical names by logical ids.

    The first test of a process makes them. The others get copies, at a fiftieth of the cost. The
    tables have no streams: moto copies the whole stream for each transaction. See `streamed`.
    """
    from moto.core.models import DEFAULT_ACCOUNT_ID
    from moto.dynamodb.models import dynamodb_backends

    held = dynamodb_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].tables
    if not _MADE:
        make_tables(make_client("dynamodb"))
        _MADE.update(deepcopy(held))
    held.update(deepcopy(_MADE))
    return {name: name for name in _MADE}


@pytest.fixture
def dynamodb(tables: dict[str, str]) -> Any:
    """Returns a client as the functions have it."""
    return make_client("dynamodb")


@pytest.fixture
def streamed(dynamodb: Any) -> None:
    """Gives the jobs table its stream, for tests that read it."""
    specification = {
        "StreamEnabled": True,
        **_table_properties()["JobsTable"]["StreamSpecification"],
    }
    dynamodb.update_table(TableName="JobsTable", StreamSpecification=specification)


@pytest.fixture
def faults(dynamodb: Any) -> Faults:
    """Makes chosen calls of `dynamodb` fail at the HTTP level."""
    return Faults(dynamodb)


#: The tables of a worker that runs jobs.
WORKERS = ("JobsTable", "CountersTable")


def make_tables(
    client: Any, prefix: str = "", *, streams: bool = False, only: Collection[str] = ()
) -> dict[str, str]:
    """Makes the template's tables, or some of them, with their streams if requested.

    Returns their names by logical ids.
    """
    names = {}
    for logical, properties in _table_properties().items():
        if only and logical not in only:
            continue
        stream = properties.get("StreamSpecification")
        rest = {key: value for key, value in properties.items() if key != "StreamSpecification"}
        if stream and streams:
            rest["StreamSpecification"] = {"StreamEnabled": True, **stream}
        client.create_table(TableName=prefix + logical, **rest)
        names[logical] = prefix + logical
    return names


@cache
def _table_properties() -> dict[str, dict[str, Any]]:
    """Returns what CreateTable needs of each of the template's tables, by logical ids."""
    from samtranslator.yaml_helper import yaml_parse

    wanted = (
        "AttributeDefinitions",
        "KeySchema",
        "BillingMode",
        "GlobalSecondaryIndexes",
        "StreamSpecification",
    )
    return {
        logical: {key: value for key, value in resource["Properties"].items() if key in wanted}
        for logical, resource in yaml_parse((ROOT / "template.yaml").read_text())[
            "Resources"
        ].items()
        if resource["Type"] == "AWS::DynamoDB::Table"
    }


@pytest.fixture(scope="session")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Starts the emulator as a process, for tests that moto cannot run (PartiQL, races)."""
    from mayfly_testing.stack import emulator

    with emulator(tmp_path_factory.mktemp("store")) as found:
        yield found


@pytest.fixture
def embedded(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Returns a DynamoDB client for the emulator, made by the production code."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    return make_client("dynamodb")
