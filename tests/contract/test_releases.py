"""Releases: their archives are complete, and this library reads everything that they have stored.

A release's folder holds its code, its items, and what the release itself read from them. See
tests/releases/README.md.
"""

import ast
import hashlib
import json
import re
import subprocess
import sys
import tarfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from mayfly import jobs
from mayfly.aws.client import as_client
from mayfly.aws.dynamodb import DynamoDB
from mayfly.aws.errors import Refused
from mayfly.jobs.authoring.task import Declaration
from mayfly.jobs.model import Outcome, Status, Submission
from mayfly.jobs.store import JobStore
from mayfly.limits import Algorithm

from tests.conftest import ROOT, make_tables
from tests.releases.make import fill, load, members
from tests.releases.maker import make
from tests.releases.readings import READINGS, Stores, read, stores
from tests.support.clients import make_client
from tests.support.fakes import FixedClock
from tests.support.mocked import MockedAws

FIRST = "0.1.0"
FOLDERS = {
    path.parent.name: path.parent
    for path in sorted((ROOT / "tests" / "releases").glob("*/manifest.json"))
}
LIBRARY = ROOT / "layers" / "mayfly" / "mayfly"

#: Kinds of items: their table, and a pattern of partition key and sort key with a space between
#: them.
KINDS = {
    "job": ("JobsTable", r"\S+ job"),
    "payload next to its job": ("JobsTable", r"\S+ payload/\S+"),
    "schedule": ("JobsTable", r"\S+/schedules schedule/\S+"),
    "unreadable message": ("JobsTable", r"unreadable \S+/[0-9]+"),
    "search for stranded jobs": ("JobsTable", r"stranded search"),
    "counter": ("CountersTable", r"\S+ shard/[0-9]+"),
    "key of an increment": ("CountersTable", r"\S+/key/\S+ key"),
    "fixed limit": ("CountersTable", r"\S+/limit/\S+ fixed/\S+"),
    "sliding limit": ("CountersTable", r"\S+/limit/\S+ sliding/\S+"),
    "gcra limit": ("CountersTable", r"\S+/limit/\S+ gcra"),
    "session": ("SessionsTable", r"\S+ session/\S+"),
    "generation of a subject": ("SessionsTable", r"\S+ generation"),
    "API key": ("TenantsTable", r"key/\S+ "),
    "endpoint that is gone": ("EndpointsTable", r"\S+/[0-9a-f]{64} "),
}
#: The places in the library that build an item's key, by feature and name, with their kinds.
BUILDERS = {
    "counters._key": ["counter"],
    "counters.remember": ["key of an increment"],
    "jobs.SEARCH_KEY": ["search for stranded jobs"],
    "jobs._increment_write": ["counter"],
    "jobs._unreadable_key": ["unreadable message"],
    "jobs.job_key": ["job"],
    "jobs.payload_key": ["payload next to its job"],
    "limits.item_key": ["fixed limit", "gcra limit", "sliding limit"],
    "schedules.schedule_key": ["schedule"],
    "sessions.generation_key": ["generation of a subject"],
    "sessions.session_key": ["session"],
    "tenants.key_of": ["API key"],
    "webhooks.key": ["endpoint that is gone"],
}
#: The version that first stores a kind, status, outcome, algorithm or `kind: attribute`.
SINCE = {
    **dict.fromkeys(("search", "search for stranded jobs"), "0.2.0"),
    **dict.fromkeys(("job: canonical_fingerprint", "job: omitted"), "0.4.0"),
    **dict.fromkeys(("job: v", "schedule: v", "session: v", "API key: v"), "0.4.0"),
}


def is_of_its_time(what: str, version: str) -> bool:
    """Returns whether a release can hold a kind, status, outcome, algorithm or attribute."""
    return _number(SINCE.get(what, FIRST)) <= _number(version)


def _number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


@cache
def held(version: str) -> dict[str, Any]:
    return load(FOLDERS[version])


@cache
def document(version: str, name: str) -> Any:
    return json.loads((FOLDERS[version] / name).read_text())


def kind_of(table: str, item: Mapping[str, Any]) -> str:
    """Returns the kind of an item; its key if the kind is not known here."""
    key = " ".join(item[name]["S"] if name in item else "" for name in ("pk", "sk"))
    return next(
        (
            kind
            for kind, (place, pattern) in KINDS.items()
            if place == table and re.fullmatch(pattern, key)
        ),
        f"{table}: {key}",
    )


def items_of(version: str, kind: str) -> list[dict[str, Any]]:
    return [
        item
        for table, items in held(version)["tables"].items()
        for item in items
        if kind_of(table, item) == kind
    ]


# ---------------------------------------------------------------- the archive


@pytest.mark.parametrize("version", FOLDERS)
def test_archive_unpacks_to_the_files_of_its_manifest(version: str) -> None:
    with tarfile.open(FOLDERS[version] / "code.tar.xz") as archive:
        hashes = {
            member.name: hashlib.sha256(_content(archive, member)).hexdigest() for member in archive
        }
    assert hashes == document(version, "manifest.json")["code"]


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = archive.extractfile(member)
    return b"" if file is None else file.read()


@pytest.mark.parametrize("version", FOLDERS)
def test_archive_holds_handlers_library_requirements_and_template(version: str) -> None:
    files = document(version, "manifest.json")["code"]
    expected = {
        "functions/hello/main.py",
        "layers/mayfly/mayfly/__init__.py",
        "layers/mayfly/requirements.txt",
        "template.yaml",
    }
    assert expected - set(files) == set()


@pytest.mark.parametrize("version", FOLDERS)
def test_archive_names_no_time_and_no_owner_and_is_sorted(version: str) -> None:
    with tarfile.open(FOLDERS[version] / "code.tar.xz") as archive:
        members = archive.getmembers()
    assert {
        (member.mtime, member.uid, member.gid, member.uname, member.gname) for member in members
    } == {(0, 0, 0, "", "")}
    assert [member.name for member in members] == sorted(member.name for member in members)


@pytest.mark.parametrize("version", FOLDERS)
def test_documents_of_a_release_are_unchanged(version: str) -> None:
    hashes = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in FOLDERS[version].iterdir()
        if path.name != "manifest.json"
    }
    assert hashes == document(version, "manifest.json")["documents"]


def test_first_release_exists() -> None:
    assert FIRST in FOLDERS


# ---------------------------------------------------------------- kinds of items


def test_every_place_that_builds_a_key_is_listed_with_its_kinds() -> None:
    builders = {name for path in sorted(LIBRARY.rglob("*.py")) for name in _key_builders(path)}
    assert builders - set(BUILDERS) == set(), "list it in BUILDERS, and its kind in KINDS and SINCE"


def _key_builders(path: Path) -> Iterator[str]:
    """Yields the functions and constants of a module in which an item's key is written down."""
    for node in ast.walk(ast.parse(path.read_text())):
        name = getattr(node, "name", None) if isinstance(node, ast.FunctionDef) else None
        if isinstance(node, ast.AnnAssign | ast.Assign):
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            name = target.id if isinstance(target, ast.Name) and target.id.isupper() else None
        if name is not None and any(_is_key(child) for child in ast.walk(node)):
            yield f"{path.relative_to(LIBRARY).parts[0]}.{name}"


def _is_key(node: ast.AST) -> bool:
    return isinstance(node, ast.Dict) and any(
        isinstance(key, ast.Constant) and key.value == "pk" for key in node.keys
    )


@pytest.mark.parametrize("version", FOLDERS)
@pytest.mark.parametrize("kind", sorted({kind for kinds in BUILDERS.values() for kind in kinds}))
def test_release_holds_items_of_every_kind(version: str, kind: str) -> None:
    assert bool(items_of(version, kind)) == is_of_its_time(kind, version)


@pytest.mark.parametrize("version", FOLDERS)
def test_release_holds_no_item_of_an_unlisted_kind(version: str) -> None:
    kinds = {
        kind_of(table, item) for table, items in held(version)["tables"].items() for item in items
    }
    assert kinds - set(KINDS) == set()


@pytest.mark.parametrize("version", FOLDERS)
@pytest.mark.parametrize("status", Status)
def test_release_holds_jobs_of_every_status(version: str, status: Status) -> None:
    statuses = {item["status"]["S"] for item in items_of(version, "job")}
    assert (status in statuses) == is_of_its_time(status, version)


@pytest.mark.parametrize("version", FOLDERS)
@pytest.mark.parametrize(
    "outcome", [outcome for outcome in Outcome if outcome is not Outcome.RUNNING]
)
def test_release_holds_attempts_of_every_stored_outcome(version: str, outcome: Outcome) -> None:
    attempts = [
        json.loads(entry["S"])
        for item in items_of(version, "job")
        for entry in item["history"]["L"]
    ]
    assert (outcome in {attempt["outcome"] for attempt in attempts}) == is_of_its_time(
        outcome, version
    )


@pytest.mark.parametrize("version", FOLDERS)
@pytest.mark.parametrize("algorithm", Algorithm)
def test_release_holds_limits_of_every_algorithm(version: str, algorithm: Algorithm) -> None:
    assert bool(items_of(version, f"{algorithm} limit")) == is_of_its_time(algorithm, version)


@pytest.mark.parametrize("version", FOLDERS)
@pytest.mark.parametrize("queue", ["JobsQueue", "WebhooksQueue", "RelayFailures", "UploadsQueue"])
def test_release_holds_messages_of_every_queue(version: str, queue: str) -> None:
    assert queue in {message["queue"] for message in held(version)["messages"].values()}


@pytest.mark.parametrize("version", FOLDERS)
@pytest.mark.parametrize("kind", READINGS)
def test_release_is_read_by_every_reading(version: str, kind: str) -> None:
    kinds = {case["kind"] for case in document(version, "expected.json")["cases"]}
    assert (kind in kinds) == is_of_its_time(kind, version)


# ---------------------------------------------------------------- reading


class Asked(dict[str, Any]):
    """An item that records the names of the attributes that its reader uses."""

    def __init__(self, item: Mapping[str, Any], names: set[str]) -> None:
        super().__init__(item)
        self._names = names

    def __getitem__(self, name: str) -> Any:
        self._names.add(name)
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        self._names.add(str(name))
        return super().__contains__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self._names.add(name)
        return super().get(name, default)


class Watched:
    """A DynamoDB client that records the items it returns and the attributes that are read."""

    def __init__(self, client: Any) -> None:
        self._client = as_client(client)
        self._ordinary = client
        self.given: set[tuple[str, str, str]] = set()
        self.asked: dict[str, set[str]] = defaultdict(set)

    def call(self, operation: str, request: Mapping[str, Any]) -> Any:
        """Calls an operation, as `Client` does."""
        try:
            return self._watch(self._client.call(operation, request), request)
        except Refused as refusal:
            self._watch(refusal.answer, request)
            raise

    def get_item(self, **request: Any) -> Any:
        """Reads an item, as boto3's clients do."""
        return self._watch(self._ordinary.get_item(**request), request)

    def _watch(self, reply: Any, request: Mapping[str, Any]) -> Any:
        table = request.get("TableName", "")
        for name in ("Item", "Attributes"):
            if name in reply:
                reply[name] = self._given(table, reply[name])
        if "Items" in reply:
            reply["Items"] = [self._given(table, item) for item in reply["Items"]]
        if isinstance(reply.get("Responses"), dict):  # of BatchGetItem
            for place, items in reply["Responses"].items():
                reply["Responses"][place] = [self._given(place, item) for item in items]
        for write, reason in zip(
            request.get("TransactItems", ()), reply.get("CancellationReasons", ()), strict=False
        ):
            if "Item" in reason:
                (body,) = write.values()
                reason["Item"] = self._given(body["TableName"], reason["Item"])
        return reply

    def _given(self, table: str, item: dict[str, Any]) -> dict[str, Any]:
        if "pk" not in item:
            return item
        self.given.add(_place(table, item))
        return Asked(item, self.asked[kind_of(table, item)])


def _place(table: str, item: Mapping[str, Any]) -> tuple[str, str, str]:
    return table, item["pk"]["S"], item["sk"]["S"] if "sk" in item else ""


@dataclass(frozen=True)
class Opened:
    """A release whose items are in tables of their own, and this library's stores on them."""

    version: str
    client: Watched
    stores: Stores
    #: The names of the cases that were read.
    read: set[str] = field(default_factory=set)

    def value(self, case: Mapping[str, Any]) -> Any:
        """Reads a case."""
        self.read.add(_name(case))
        return read(self.stores, case["kind"], case["of"])


@pytest.fixture(scope="module")
def open_release() -> Iterator[Callable[..., Opened]]:
    """Opens a release by its version.

    One is open at a time, so that releases share nothing. With `whole`, every case of the release
    was read: by the tests that ran before, or now. A reading that fails does so in its own test,
    too.
    """
    latest: dict[str, Opened] = {}
    current = ""
    with ExitStack() as aws:

        def opened(version: str, *, whole: bool = False) -> Opened:
            nonlocal current
            cases = document(version, "expected.json")["cases"]
            if whole and version in latest and latest[version].read == set(map(_name, cases)):
                return latest[version]
            if current != version:
                aws.close()
                aws.enter_context(MockedAws())
                current, latest[version] = version, _open(version)
            if whole:
                for case in cases:
                    with suppress(Exception):
                        latest[version].value(case)
            return latest[version]

        yield opened


def _name(case: Mapping[str, Any]) -> str:
    return f"{case['kind']}: {case['name']}"


def _open(version: str) -> Opened:
    client = make_client("dynamodb")
    tables = make_tables(client)
    fill(client, tables, held(version))
    watched = Watched(client)
    clock = FixedClock(document(version, "expected.json")["read_at_ms"])
    return Opened(version, watched, stores(watched, tables, clock, held(version)["messages"]))


CASES = [
    (version, case) for version in FOLDERS for case in document(version, "expected.json")["cases"]
]


@pytest.mark.parametrize(
    ("version", "case"),
    CASES,
    ids=[f"{version}: {_name(case)}" for version, case in CASES],
)
def test_this_library_reads_the_same_values_as_the_release(
    open_release: Callable[..., Opened], version: str, case: dict[str, Any]
) -> None:
    value, gives = open_release(version).value(case), case["gives"]
    if isinstance(gives, dict) and isinstance(value, dict):
        # A later library may return more.
        value = {name: value.get(name, "missing") for name in gives}
    assert value == gives


@pytest.mark.parametrize("version", FOLDERS)
def test_every_item_of_a_release_is_read(open_release: Callable[..., Opened], version: str) -> None:
    every = {
        _place(table, item) for table, items in held(version)["tables"].items() for item in items
    }
    assert every - open_release(version, whole=True).client.given == set()


@pytest.mark.parametrize("version", FOLDERS)
def test_every_attribute_that_this_library_reads_is_in_an_item(
    open_release: Callable[..., Opened], version: str
) -> None:
    whole = open_release(version, whole=True)
    read = {(kind, name) for kind, names in whole.client.asked.items() for name in names}
    stored = {(kind, name) for kind in KINDS for item in items_of(version, kind) for name in item}
    missing = {f"{kind}: {name}" for kind, name in read - stored}
    assert {attribute for attribute in missing if is_of_its_time(attribute, version)} == set()


# ---------------------------------------------------------------- answers


ANSWERS = [(version, name) for version in FOLDERS for name in document(version, "answers.json")]


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """Returns the answers of this checkout's handlers to the requests that make a release."""
    with MockedAws():
        client = make_client("dynamodb")
        return make(client, make_tables(client, "answers-")).answers


@pytest.mark.parametrize(
    ("version", "name"), ANSWERS, ids=[f"{version}: {name}" for version, name in ANSWERS]
)
def test_answer_keeps_its_status_its_members_and_its_headers(
    answers: dict[str, Any], version: str, name: str
) -> None:
    before, now = document(version, "answers.json")[name], answers[name]
    assert now["status"] == before["status"]
    assert members(before["body"]) - members(now["body"]) == set()
    assert set(before["headers"]) - set(now["headers"]) == set()


@pytest.mark.parametrize("version", FOLDERS)
def test_release_reads_a_job_whose_large_payload_is_part_of_its_item(
    tmp_path: Path, version: str
) -> None:
    """`jobs.in_transaction` writes such a job; a worker of an earlier release may get it."""
    db = DynamoDB(make_client("dynamodb"), lambda attempt: None)
    write = jobs.in_transaction(
        JobStore(db, "JobsTable"),
        Submission("orders.tally", {"note": "x" * 50_000}),
        tenant="acme",
        tasks={"orders.tally": Declaration("orders.tally")},
    )
    with tarfile.open(FOLDERS[version] / "code.tar.xz") as archive:
        archive.extractall(tmp_path, filter="data")
    program = (
        "import json, sys\n"
        "from mayfly.jobs.items import read_job\n"
        "job = read_job(json.load(sys.stdin))\n"
        "print(job.status, job.task, len(job.payload['note']))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(write["Put"]["Item"]),
        env={"PYTHONPATH": str(tmp_path / "layers" / "mayfly")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["QUEUED", "orders.tally", "50000"], done.stderr
