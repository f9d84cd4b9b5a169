"""CSV imports: files read in pieces, added up exactly, from any checkpoint on."""

import csv
import io
import json
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mayfly import jobs
from mayfly.core.errors import InvalidRequest
from mayfly.core.json_input import canonical_json
from mayfly.core.observability import observer
from mayfly.imports import import_csv
from mayfly.imports.errors import BadImport
from mayfly.imports.model import Source, Upload
from mayfly.imports.rules import CHECKPOINT_BYTES, KEPT, PIECE_BYTES, Tally
from mayfly.imports.store import Objects
from mayfly.imports.wire import read_key, read_uploads
from mayfly.jobs.authoring.task import Declaration
from mayfly.jobs.errors import LeaseHeld, StaleWrite
from mayfly.jobs.model import Status, Submission, Wake
from mayfly.jobs.rules import PROGRESS_LIMIT, check_progress
from mayfly.jobs.wire import public

from functions.start_imports.app import build as build_start
from functions.start_imports.deps import Deps as ImportsDeps
from tests.support.clients import make_client
from tests.support.events import sqs
from tests.support.fakes import Context
from tests.support.faults import Faults, Killed
from tests.support.stage import Stage, finish


def tally(data: bytes, cuts: Sequence[int] = (), *, resumes: bool = False) -> Tally:
    """Imports the whole of `data` in pieces cut at these places.

    With `resumes`, each piece begins from the saved progress of the one before.
    """
    source = Source("acme/x.csv", len(data), "e")
    sums = Tally(source)
    for cut in sorted({min(cut, len(data)) for cut in cuts} | {len(data)}):
        if sums.fetched > cut:
            continue
        sums.take(data[sums.fetched : cut], is_last=cut == len(data))
        if resumes:
            sums = Tally.resumed(source, json.loads(canonical_json(sums.progress())))
    return sums


def test_columns_are_added_up() -> None:
    result = tally(b"name,amount,note\na,1,\nb,2.50,x\nc,-0.01,7\n").result()
    assert (result["rows"], result["malformed"], result["bytes"]) == (3, 0, 41)
    assert result["columns"]["amount"] == {
        "empty": 0,
        "texts": 0,
        "numbers": 3,
        "sum": "3.49",
        "min": "-0.01",
        "max": "2.50",
    }
    assert result["columns"]["note"] == {
        "empty": 1,
        "texts": 1,
        "numbers": 1,
        "sum": "7",
        "min": "7",
        "max": "7",
    }
    assert result["columns"]["name"] == {
        "empty": 0,
        "texts": 3,
        "numbers": 0,
        "sum": "0",
        "min": None,
        "max": None,
    }


def test_sums_keep_every_digit() -> None:
    big, small = "9" * 30, "0." + "0" * 29 + "1"
    column = tally(f"n\n{big}\n{small}\n{big}\n".encode()).result()["columns"]["n"]
    assert column["sum"] == f"{int(big) * 2}." + "0" * 29 + "1"


@pytest.mark.parametrize(
    "text",
    [
        "1_000",
        "1e5",
        "0x1",
        "NaN",
        "inf",
        "1 0",
        "- 1",
        "\xa01",
        "1\n",
        "1.",
        ".5",
        "\uff11",
        "--1",
        "1,0",
        "9" * 31,
    ],
)
def test_value_that_is_not_a_plain_number_is_a_text(text: str) -> None:
    column = tally(f'n\n"{text}"\n'.encode()).result()["columns"]["n"]
    assert (column["texts"], column["numbers"]) == (1, 0)


@pytest.mark.parametrize(
    ("data", "rows", "problems"),
    [
        (b"a,b\n1,2\n1\n1,2,3\n", 1, ["1 fields instead of 2", "3 fields instead of 2"]),
        (b"a,b\n\n1,2\n\r\n", 1, []),
        (b"a,b\r\n1,2\r\n3,4", 2, []),
        (b'a,b\n"1\n2",3\n4,5\n', 2, []),
        (b'a,b\n"x""y",3\n', 1, []),
        (b'a,b\n"x"y,3\n4,5\n', 1, ["',' expected after '\"'"]),
        (b"a,b\n\xff,1\n2,3\n", 1, ["not UTF-8"]),
        (b'a,b\n1,2\n\xff,1\n"x\ny",3\n4,5\n', 3, ["not UTF-8"]),
        (b"a,b\n1\r,2\n3,4\n", 1, ["a carriage return outside of quotes"]),
        (b'a,b\n1,2\n"3,4\n', 1, ["unexpected end of data"]),
        (b"\xef\xbb\xbfa,b\n1,2\n", 1, []),
        ("a,b\nx\u2028y,2\nz\x0bz,3\n".encode(), 2, []),
        (b"a,b", 0, []),
    ],
)
def test_rows_are_read_as_rfc_4180_defines_and_the_others_are_stored(
    data: bytes, rows: int, problems: list[str]
) -> None:
    for cuts in ((), range(len(data))):
        result = tally(data, cuts).result()
        assert (result["rows"], [row["problem"] for row in result["rejected"]]) == (
            rows,
            problems,
        )
        assert result["malformed"] == len(problems)
        assert result["bytes"] == len(data)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "is empty"), (b"\n\n", "is empty"), (b"a,b\r1,2\r", "a carriage return"),
        (b'"a,b\n1,2\n', "is not valid CSV: unexpected end"),
        (b"a\n" + b"x" * (1024 * 1024 + 1), "longer than"),
    ],
)  # fmt: skip
def test_file_without_a_usable_header_or_with_an_endless_row_ends_its_import(
    data: bytes, problem: str
) -> None:
    with pytest.raises(BadImport, match=problem):
        sums = Tally(Source("acme/x.csv", len(data) + 1, "e"))
        sums.take(data, is_last=len(data) < 1000)


def test_first_hundred_malformed_rows_are_stored_and_all_are_counted() -> None:
    result = tally(b"a,b\n" + b"x\n" * 250).result()
    assert (result["malformed"], len(result["rejected"]), result["rejected"][0]) == (
        250,
        KEPT,
        {"problem": "1 fields instead of 2", "text": "x"},
    )


def test_largest_progress_fits_into_a_job() -> None:
    names = [f"{n:02}" + "ü" * 62 for n in range(64)]
    row = ",".join(["9" * 30 + "." + "9" * 30] * 64)
    for junk in ("ü" * 500, "\x00\x01" * 100, '""\\' * 100, "\U0001f600" * 100):
        data = ",".join(names) + "\n" + f"{row}\n" * 3 + f'"{junk}"\n' * 200
        assert len(canonical_json(tally(data.encode()).progress()).encode()) <= PROGRESS_LIMIT


def test_progress_that_is_too_large_is_rejected() -> None:
    with pytest.raises(InvalidRequest, match="progress"):
        check_progress("x" * PROGRESS_LIMIT)


CELLS = (
    st.text(alphabet='a1,"\n\r;ü ', max_size=4)
    | st.integers(-(10**6), 10**6).map(str)
    | st.decimals(-100, 100, places=2).map(str)
)


def is_number(text: str) -> bool:
    """Returns whether a text is a plain decimal number, with one sign at most."""
    text = text.strip(" ")
    digits = text.lstrip("+-")
    return (
        digits.replace(".", "", 1).isdecimal()
        and text.isascii()
        and text[-1:] != "."
        and digits[:1] != "."
        and len(digits) >= len(text) - 1
    )


@given(
    st.lists(st.lists(CELLS, min_size=2, max_size=2), max_size=20),
    st.lists(st.integers(0, 400), max_size=8),
    st.booleans(),
)
def test_file_has_the_same_sums_in_any_pieces_as_in_plain_python(
    rows: list[list[str]], cuts: list[int], resumes: bool
) -> None:
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows([["b", "a"], *rows])
    data = text.getvalue().encode()
    result = tally(data, cuts, resumes=resumes).result()
    assert result == tally(data).result()
    plain = list(csv.reader(io.StringIO(text.getvalue(), newline="")))[1:]
    if result["malformed"] == 0:
        assert result["rows"] == len([row for row in plain if row])
        for index, name in enumerate(("b", "a")):
            numbers = [Decimal(row[index]) for row in plain if row and is_number(row[index])]
            assert Decimal(result["columns"][name]["sum"]) == sum(numbers)


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_any_bytes_are_rows_or_malformed_rows_or_not_csv_in_any_pieces(
    data: bytes, cuts: list[int]
) -> None:
    whole: Any = None
    try:
        whole = tally(b"a,b\n" + data).result()
    except BadImport:
        with pytest.raises(BadImport):
            tally(b"a,b\n" + data, cuts)
        return
    assert tally(b"a,b\n" + data, cuts).result()["bytes"] == whole["bytes"] == len(data) + 4


# ---------------------------------------------------------------- the job


class Imports(Stage):
    """A stage whose one task imports from a bucket on moto, and which counts its reads."""

    def __init__(self, client: Any) -> None:
        super().__init__(client, exclusive=True)
        self.s3 = make_client("s3")
        self.s3.create_bucket(Bucket="imports")
        self.objects = Objects(self.s3, "imports")
        self.read: list[tuple[int, int]] = []
        self.left = 60.0
        real, stage = self.objects.read, self

        def counted(source: Source, start: int, size: int) -> bytes:
            piece = real(source, start, size)
            stage.read.append((start, len(piece)))
            stage.during_read()
            return piece

        self.objects.read = counted  # type: ignore[method-assign]  # counts the calls
        self.body = lambda job, effects: import_csv(job, effects, self.objects)

    def during_read(self) -> None:
        """Does nothing; a test replaces it."""

    def put(self, body: bytes, key: str = "acme/x.csv") -> None:
        self.s3.put_object(Bucket="imports", Key=key, Body=body)

    def attempt(self, receives: int = 1) -> None:
        with suppress(LeaseHeld):
            self.run(Wake("acme", "j1"), receives=receives)

    def shown(self) -> dict[str, Any]:
        return public(self.job(), self.clock())


@pytest.fixture
def imports(dynamodb: Any) -> Imports:
    return Imports(dynamodb)


def big(rows: int) -> bytes:
    return b"n,text\n" + b"".join(b"%d,%s\n" % (n, b"x" * 90) for n in range(rows))


def test_file_is_imported_once_and_counted_with_its_import(imports: Imports) -> None:
    imports.put(b"n\n1\n2\nx,y\n")
    imports.submit(payload={"key": "x.csv"})
    imports.attempt()
    assert imports.job().status is Status.COMPLETED
    assert imports.shown()["result"]["columns"]["n"]["sum"] == "3"
    items = imports.client.scan(TableName="CountersTable")["Items"]
    assert {item["pk"]["S"]: item["value"]["N"] for item in items} == {
        "acme/csv.import.files": "1", "acme/csv.import.rows": "2", "acme/csv.import.malformed": "1",
    }  # fmt: skip


def test_killed_import_continues_from_its_checkpoint_and_rereads_one_piece_at_most(
    imports: Imports, faults: Faults
) -> None:
    data = big(200_000)
    imports.put(data)
    imports.submit(payload={"key": "x.csv"})

    def die() -> None:
        if len(imports.read) == 14:
            # A dead process writes nothing more.
            faults.plan = lambda operation, number: "kill"
            raise Killed

    imports.during_read = die  # type: ignore[method-assign]  # a hook of this test
    with pytest.raises(Killed):
        imports.attempt()
    faults.plan = lambda operation, number: None
    progress = imports.shown()["progress"]
    assert (
        0
        < progress["bytes"]
        < sum(size for _, size in imports.read)
        <= progress["bytes"] + CHECKPOINT_BYTES + PIECE_BYTES
    )
    assert progress["of_bytes"] == len(data)
    before = imports.read[-1][0] + imports.read[-1][1]
    imports.read.clear()
    imports.clock.advance(16)
    imports.attempt(receives=2)
    assert imports.read[0][0] == progress["bytes"]
    assert before - imports.read[0][0] <= CHECKPOINT_BYTES
    shown = imports.shown()
    assert (shown["status"], shown["result"]["rows"]) == ("succeeded", 200_000)
    assert shown["result"]["columns"]["n"]["sum"] == str(sum(range(200_000)))
    assert "progress" not in shown


def test_import_at_its_deadline_continues_in_another_invocation_at_no_attempt(
    imports: Imports,
) -> None:
    imports.put(big(50_000))
    imports.submit(payload={"key": "x.csv"})
    context = Context(60_000)

    def hurry() -> None:
        context._remaining_ms = 60_000 if len(imports.read) % 2 else 9_000

    imports.during_read = hurry  # type: ignore[method-assign]  # a hook of this test
    wake = Wake("acme", "j1")
    invocations = 0
    while imports.job().status is not Status.COMPLETED:
        context._remaining_ms = 60_000
        imports.handle(wake, receives=invocations + 1, context=context)
        invocations += 1
        assert invocations < 10
    job = imports.job()
    assert (job.attempt, [attempt.outcome for attempt in job.history]) == (
        1,
        ["continued"] * (invocations - 1) + ["succeeded"],
    )
    assert invocations == 3
    assert imports.shown()["result"]["rows"] == 50_000
    assert imports.visible.asked[1] == {"r-m0": 0}, "the message was not returned immediately"


def test_attempt_fails_if_there_is_no_time_for_its_first_piece(imports: Imports) -> None:
    imports.put(b"n\n1\n")
    imports.submit(payload={"key": "x.csv"})
    imports.handle(Wake("acme", "j1"), context=Context(9_000))
    assert imports.job().history[-1].outcome == "failed"


def test_task_that_continues_without_progress_spends_its_attempts(dynamodb: Any) -> None:
    stage = Stage(dynamodb, exclusive=True)
    stage.submit()

    def body(job: Any, effects: Any) -> None:
        effects.checkpoint("the same")
        raise jobs.Continue

    stage.body = body
    for receives in range(1, 9):
        with suppress(LeaseHeld):
            stage.run(receives=receives)
        stage.clock.advance(10)
    assert (stage.job().status, [attempt.outcome for attempt in stage.job().history]) == (
        Status.DEAD,
        ["continued", "failed", "failed", "failed"],
    )


def test_import_without_time_because_of_other_jobs_spends_no_attempt(imports: Imports) -> None:
    imports.put(b"n\n1\n")
    for job_id in ("j1", "j2"):
        imports.submit(id=job_id, payload={"key": "x.csv"}, fingerprint=job_id)
        # Both were interrupted once, so they run one after another.
        imports.store.claim("acme", job_id, nonce="dead", now_ms=imports.clock(), lease_ms=1)
    imports.clock.advance(1)
    context = Context(60_000)

    def spend_time() -> None:
        context._remaining_ms = 9_000

    imports.during_read = spend_time  # type: ignore[method-assign]  # a hook of this test
    reply = imports.handle(Wake("acme", "j1"), Wake("acme", "j2"), receives=2, context=context)
    assert reply == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
    assert (imports.job("j2").attempt, len(imports.job("j2").history)) == (1, 1)


def test_cancelled_import_stops_at_its_next_piece(imports: Imports) -> None:
    imports.put(big(100_000))
    imports.submit(payload={"key": "x.csv"})

    def cancel() -> None:
        if len(imports.read) == 2:
            imports.operations.cancel("acme", "j1", now_ms=imports.clock())
            imports.batch.beat()

    imports.during_read = cancel  # type: ignore[method-assign]  # a hook of this test
    imports.batch = imports.deliver(Wake("acme", "j1"), "m1", run=False)
    finish(imports.batch)
    assert (imports.job().status, len(imports.read)) == (Status.CANCELLED, 2)


def test_lost_import_cannot_be_continued_later(imports: Imports) -> None:
    imports.submit()
    mine = imports.store.claim("acme", "j1", nonce="a", now_ms=imports.clock(), lease_ms=15_000)
    imports.store.claim("acme", "j1", nonce="b", now_ms=imports.clock() + 16_000, lease_ms=15_000)
    with pytest.raises(StaleWrite):
        imports.store.continue_later(mine, now_ms=imports.clock())
    assert imports.job().owner == "b"


@pytest.mark.parametrize(
    "message", [Wake("acme", "j1"), Submission("t", None, idempotency_key="k")]
)
def test_checkpoint_of_an_ordinary_task_claims_its_job_and_survives_a_failure(
    dynamodb: Any, message: Any
) -> None:
    stage = Stage(dynamodb)
    if isinstance(message, Wake):
        stage.submit()

    def body(job: Any, effects: Any) -> None:
        effects.checkpoint({"at": (job.progress or {"at": 0})["at"] + 1})
        assert stage.store.read("acme", job.id, now_ms=stage.clock()).status is Status.INPROGRESS
        if job.progress is None:
            raise RuntimeError("half-way")

    stage.body = body
    with suppress(LeaseHeld):
        stage.run(message)
    (job_id,) = {job.id for job in stage.ran}
    assert stage.job(job_id).progress == {"at": 1}
    stage.clock.advance(10)
    stage.run(message, receives=2)
    assert [job.progress for job in stage.ran] == [None, {"at": 1}]
    assert (stage.job(job_id).status, stage.job(job_id).progress) == (Status.COMPLETED, None)


def test_worker_that_lost_its_import_can_neither_save_nor_commit(imports: Imports) -> None:
    imports.put(big(200_000))
    imports.submit(payload={"key": "x.csv"})

    def lose() -> None:
        if len(imports.read) == 3:
            imports.clock.advance(16)
            imports.store.claim(
                "acme", "j1", nonce="other", now_ms=imports.clock(), lease_ms=15_000
            )

    imports.during_read = lose  # type: ignore[method-assign]  # a hook of this test
    imports.attempt()
    assert (imports.job().owner, imports.job().progress, imports.job().status) == (
        "other",
        None,
        Status.INPROGRESS,
    )


def test_object_that_is_replaced_during_its_import_ends_the_import(imports: Imports) -> None:
    imports.put(big(50_000))
    imports.submit(payload={"key": "x.csv"})
    # A hook of this test.
    imports.during_read = lambda: imports.put(b"n\n1\n")  # type: ignore[method-assign]
    imports.attempt()
    assert (imports.job().status, "was replaced" in str(imports.job().error)) == (Status.DEAD, True)


def test_object_that_was_replaced_between_two_attempts_ends_the_import() -> None:
    progress = tally(b"n\n1\n").progress()
    with pytest.raises(BadImport, match="was replaced"):
        Tally.resumed(Source("acme/x.csv", 4, "another"), progress)


@pytest.mark.parametrize(("payload", "problem"), [({"key": "y.csv"}, "no such object"),
    ({}, "key: is missing"), ({"key": ""}, "1 to 1000"), ({"key": "x.csv", "a": 1},
    "unknown field")])  # fmt: skip
def test_invalid_import_is_dead_immediately_with_the_reason(
    imports: Imports, payload: Any, problem: str
) -> None:
    imports.put(b"n\n1\n")
    imports.submit(payload=payload)
    imports.attempt()
    assert (imports.job().status, problem in str(imports.job().error)) == (Status.DEAD, True)


def test_tenant_can_import_only_its_own_objects(imports: Imports) -> None:
    imports.put(b"n\n1\n", "other/x.csv")
    imports.submit(payload={"key": "../other/x.csv"})
    imports.attempt()
    assert "must not have '.' or '..'" in str(imports.job().error)
    imports.submit(id="j2", payload={"key": "other/x.csv"})
    imports.run(Wake("acme", "j2"))
    assert "acme/other/x.csv: there is no such object" in str(imports.job("j2").error)


def test_key_is_text() -> None:
    assert read_key({"key": "a b/ü.csv"}) == "a b/ü.csv"


# ---------------------------------------------------------------- uploads


def notice(
    key: str = "acme/a+b%2Bc.csv",
    *,
    bucket: str = "imports",
    event: str = "ObjectCreated:Put",
    sequencer: str = "1",
) -> str:
    record = {
        "eventName": event,
        "s3": {
            "bucket": {"name": bucket},
            "object": {"key": key, "eTag": "e", "sequencer": sequencer},
        },
    }
    return json.dumps({"Records": [record]})


def test_notice_names_tenant_and_key() -> None:
    (upload,) = read_uploads(notice(), "imports")
    assert isinstance(upload, Upload)
    assert (upload.tenant, upload.key) == ("acme", "a b+c.csv")
    assert read_uploads(notice(), "imports") == [upload]
    (again,) = read_uploads(notice(sequencer="2"), "imports")
    assert again is not None
    assert again.mark != upload.mark


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        ("acme/a+b%2Bc.csv", "a b+c.csv"),
        ("acme/caf%C3%A9+%281%29.csv", "caf\u00e9 (1).csv"),
        ("acme/dt%3D2026-01-01/x.csv", "dt=2026-01-01/x.csv"),
        ("acme/10%3A47.csv", "10:47.csv"),
        ("acme/50%25.csv", "50%.csv"),
    ],
)
def test_key_of_a_notice_is_decoded_as_a_form(sent: str, key: str) -> None:
    (upload,) = read_uploads(notice(sent), "imports")
    assert upload is not None
    assert upload.key == key


def test_notices_of_other_events_request_no_job() -> None:
    assert read_uploads('{"Service": "Amazon S3", "Event": "s3:TestEvent"}', "imports") == []
    assert read_uploads(notice(event="ObjectRemoved:Delete"), "imports") == []
    assert read_uploads(notice(bucket="other"), "imports") == []
    for key in ("file.csv", "/file.csv", "a%20b/file.csv", "acme/", "acme/folder/"):
        assert read_uploads(notice(key), "imports") == [None]


@pytest.mark.parametrize(
    "body",
    [
        "",
        "x",
        "[]",
        "{}",
        '{"Records": 1}',
        '{"Records": [1]}',
        '{"Records": [{}]}',
        '{"Records": [{"eventName": 1}]}',
    ],
)
def test_malformed_notice_is_rejected(body: str) -> None:
    with pytest.raises(InvalidRequest):
        read_uploads(body, "imports")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (
            {"Type": "Notification", "TopicArn": "t", "Message": notice()},
            "this is a notification of SNS: turn on raw message delivery",
        ),
        (
            {
                "detail-type": "Object Created",
                "source": "aws.s3",
                "detail": {"bucket": {"name": "b"}, "object": {"key": "acme/x.csv", "etag": "e"}},
            },
            "this is an event of EventBridge: let the bucket notify the uploads queue itself",
        ),
    ],
    ids=["by sns", "by eventbridge"],
)
def test_notice_that_comes_by_another_service_is_named(body: Any, problem: str) -> None:
    with pytest.raises(InvalidRequest, match=f"is not a notice of S3; {problem}"):
        read_uploads(json.dumps(body), "imports")


def test_upload_starts_one_job_however_often_it_is_announced(dynamodb: Any) -> None:
    stage = Stage(dynamodb)
    tasks = {"csv.import": Declaration("csv.import", max_attempts=20)}
    handler = build_start(
        ImportsDeps(
            stage.operations,
            tasks,
            "imports",
            "arn:dead",
            observer("start_imports"),
            stage.clock,
        )
    )
    assert handler(sqs(notice(), notice()), Context()) == {"batchItemFailures": []}
    assert handler(sqs(notice(), notice("elsewhere.csv")), Context()) == {"batchItemFailures": []}
    (item,) = dynamodb.scan(TableName="JobsTable")["Items"]
    assert (item["tenant"], item["task"], item["payload"]) == (
        {"S": "acme"},
        {"S": "csv.import"},
        {"S": '{"key":"a b+c.csv"}'},
    )


def test_notice_that_cannot_be_read_is_stored_and_its_neighbours_are_handled(dynamodb: Any) -> None:
    stage = Stage(dynamodb)
    tasks = {"csv.import": Declaration("csv.import", max_attempts=20)}
    deps = ImportsDeps(
        stage.operations, tasks, "imports", "arn:dead", observer("start_imports"), stage.clock
    )
    assert build_start(deps)(sqs("x", notice()), Context()) == {"batchItemFailures": []}
    (kept,) = stage.operations.unreadable(now_ms=stage.clock())
    assert (kept.message_id, kept.body) == ("m0", "x")
    assert "not valid JSON" in kept.problem
    items = dynamodb.scan(TableName="JobsTable")["Items"]
    assert [item["task"] for item in items if "task" in item] == [{"S": "csv.import"}]
