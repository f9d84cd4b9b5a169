"""Formats of items: later ones are refused by what reads them, and old releases ignore today's."""

import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from mayfly import sessions, tenants
from mayfly.aws.dynamodb import DynamoDB
from mayfly.aws.errors import NewerFormat
from mayfly.aws.items import FORMATS, check_format, format_of
from mayfly.core.ids import new_secret
from mayfly.jobs.errors import BadRecord
from mayfly.jobs.model import Status, Wake
from mayfly.resources import session_store
from mayfly.schedules.items import read_schedule, schedule_item
from mayfly.schedules.model import Definition, Schedule
from mayfly.tenants import ALL_SCOPES, TenantStore, mint

from tests.conftest import ROOT, make_tables
from tests.releases.maker import make
from tests.support.clients import make_client
from tests.support.mocked import MockedAws
from tests.support.stage import Stage

RELEASES: Final = {
    path.parent.name: path.parent
    for path in sorted((ROOT / "tests" / "releases").glob("*/code.tar.xz"))
}
LATER: Final = {"N": "2"}
#: The kinds with a format: their table, and the beginning of their key.
PLACES: Final[Mapping[str, tuple[str, Callable[[Mapping[str, Any]], bool]]]] = {
    "job": ("JobsTable", lambda item: item["sk"]["S"] == "job"),
    "schedule": ("JobsTable", lambda item: item["sk"]["S"].startswith("schedule/")),
    "session": ("SessionsTable", lambda item: item["sk"]["S"].startswith("session/")),
    "API key": ("TenantsTable", lambda item: item["pk"]["S"].startswith("key/")),
}
#: Reads items from the standard input by the functions of one release, and prints how many.
READER: Final = """
import importlib, json, sys

def found(*places):
    for place in places:
        module, _, name = place.rpartition(".")
        try:
            return getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError):
            continue
    raise SystemExit(f"none of {places} is there")

read_session = found("mayfly.sessions.items.read_item")
readers = {
    "job": found("mayfly.jobs.items.read_job"),
    "schedule": found("mayfly.schedules.items.read_schedule",
                      "mayfly.schedules.transitions.read_item"),
    "session": lambda item: read_session(item["pk"]["S"].partition("/")[0], item),
    "API key": found("mayfly.tenants.items.read_key", "mayfly.tenants.store._read"),
}
counts = {}
for kind, items in json.load(sys.stdin).items():
    counts[kind] = len([readers[kind](item) for item in items])
print(json.dumps(counts))
"""


@pytest.fixture(scope="module")
def items() -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Everything that this checkout's handlers store, by kinds with a format."""
    with MockedAws():
        client = make_client("dynamodb")
        stored = make(client, make_tables(client, "formats-")).items
        yield {
            kind: [item for item in stored[table] if belongs(item)]
            for kind, (table, belongs) in PLACES.items()
        }


def test_every_kind_with_a_format_is_tested() -> None:
    assert set(FORMATS) == set(PLACES)


@pytest.mark.parametrize("kind", FORMATS)
def test_every_new_item_carries_its_format(
    items: dict[str, list[dict[str, Any]]], kind: str
) -> None:
    assert items[kind]
    assert {item.get("v", {}).get("N") for item in items[kind]} == {str(FORMATS[kind])}


@pytest.mark.parametrize("version", RELEASES)
def test_earlier_release_reads_every_item_that_this_one_stores(
    tmp_path: Path, items: dict[str, list[dict[str, Any]]], version: str
) -> None:
    with tarfile.open(RELEASES[version] / "code.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    done = subprocess.run(
        [sys.executable, "-c", READER], input=json.dumps(items), cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "layers" / "mayfly")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {kind: len(some) for kind, some in items.items()}


@pytest.mark.parametrize("kind", FORMATS)
def test_item_without_a_format_has_the_first_one(kind: str) -> None:
    assert format_of({}) == 1
    check_format(kind, {})


@pytest.mark.parametrize("kind", FORMATS)
def test_later_format_is_an_error_that_names_both_formats(kind: str) -> None:
    with pytest.raises(NewerFormat, match=f"the {kind} has format 2, .* up to 1: deploy the later"):
        check_format(kind, {"v": LATER})


# ---------------------------------------------------------------- each reader


@pytest.fixture
def stage(dynamodb: Any) -> Stage:
    return Stage(dynamodb)


def make_later(stage: Stage, job_id: str) -> None:
    key = {"pk": {"S": f"acme/{job_id}"}, "sk": {"S": "job"}}
    stage.client.update_item(
        TableName="JobsTable",
        Key=key,
        UpdateExpression="SET v = :v",
        ExpressionAttributeValues={":v": LATER},
    )


def stored_job(stage: Stage, job_id: str) -> dict[str, Any]:
    key = {"pk": {"S": f"acme/{job_id}"}, "sk": {"S": "job"}}
    item: dict[str, Any] = stage.client.get_item(TableName="JobsTable", Key=key)["Item"]
    return item


def test_job_of_a_later_format_is_a_bad_record_that_says_so(stage: Stage) -> None:
    stage.submit()
    make_later(stage, "j1")
    with pytest.raises(BadRecord, match="the job has format 2"):
        stage.job()


@pytest.mark.parametrize("receives", [1, 2], ids=["first receive", "later receive"])
def test_worker_leaves_a_job_of_a_later_format_as_it_is_and_its_message_comes_back(
    stage: Stage, receives: int
) -> None:
    stage.submit(id="j0")
    stage.submit(id="j1")
    make_later(stage, "j1")
    before = stored_job(stage, "j1")
    report = stage.handle(Wake("acme", "j0"), Wake("acme", "j1"), receives=receives)
    assert report["batchItemFailures"] == [{"itemIdentifier": "m1"}]
    assert stored_job(stage, "j1") == before
    assert stage.job("j0").status is Status.COMPLETED


def test_exclusive_job_of_a_later_format_is_not_claimed(dynamodb: Any) -> None:
    stage = Stage(dynamodb, exclusive=True)
    stage.submit(id="j1")
    make_later(stage, "j1")
    before = stored_job(stage, "j1")
    report = stage.handle(Wake("acme", "j1"))
    assert report["batchItemFailures"] == [{"itemIdentifier": "m0"}]
    assert stored_job(stage, "j1") == before


def test_session_of_a_later_format_is_refused_and_stays(dynamodb: Any) -> None:
    names = {"SESSIONS_TABLE": "SessionsTable", "SUBJECT_KEY": "k"}
    store = session_store(names, DynamoDB(dynamodb, lambda attempt: None))
    token, _ = sessions.create(store, tenant="acme", data={"cart": 1})
    (item,) = dynamodb.scan(TableName="SessionsTable")["Items"]
    dynamodb.put_item(TableName="SessionsTable", Item={**item, "v": LATER})
    with pytest.raises(NewerFormat, match="the session has format 2"):
        sessions.read(store, token, tenant="acme")
    dynamodb.put_item(TableName="SessionsTable", Item=item)
    assert sessions.read(store, token, tenant="acme").data == {"cart": 1}


def test_api_key_of_a_later_format_opens_nothing(dynamodb: Any) -> None:
    store = TenantStore(DynamoDB(dynamodb, lambda attempt: None), "TenantsTable")
    text, key = mint("live", "acme", ALL_SCOPES, now_ms=1, new_secret=new_secret)
    store.add_key(key)
    (item,) = dynamodb.scan(TableName="TenantsTable")["Items"]
    dynamodb.put_item(TableName="TenantsTable", Item={**item, "v": LATER})
    with pytest.raises(NewerFormat, match="the API key has format 2"):
        tenants.authenticate(store, f"Bearer {text}")


def test_schedule_of_a_later_format_is_refused() -> None:
    schedule = Schedule(
        tenant="acme",
        name="nightly",
        definition=Definition("t", None, None, None, 60, "UTC"),
        edition="e",
        anchor_ms=0,
        next_ms=60_000,
        made_ms=0,
        version=1,
        is_paused=False,
    )
    item = schedule_item(schedule)
    assert read_schedule(item) == schedule
    with pytest.raises(NewerFormat, match="the schedule has format 2"):
        read_schedule({**item, "v": LATER})
