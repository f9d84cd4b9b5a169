"""Whatever a task raises is one failed attempt with a readable reason.

Its neighbours in the batch do not notice.
"""

import asyncio
import io
import itertools
import json
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from logging import StreamHandler
from typing import Any

import pytest
from aws_lambda_powertools import Logger
from mayfly.core.clock import rfc3339
from mayfly.core.errors import MayflyError
from mayfly.core.observability import traceback_of
from mayfly.jobs.authoring.outcomes import Permanent, Retry
from mayfly.jobs.model import Job, Status, Wake
from mayfly.jobs.rules import describe
from mayfly.jobs.wire import public

from tests.conftest import WORKERS, make_tables
from tests.support.stage import Stage

YEAR = 365 * 86_400
_prefixes = (f"raise{number}-" for number in itertools.count())
#: The place of a syntax error in a template, as template engines make it.
BYTES: Any = ("t.html", 3, 1, b"{{ x")
FILE = "bad file caf\udce9.csv"


class Nasty(Exception):
    """An exception without a text."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


class Exits(Exception):
    """An exception whose text ends the process."""

    def __str__(self) -> str:
        raise SystemExit(3)


class NoText(Exception):
    """An exception whose text is not a text."""

    def __str__(self) -> str:
        return 7  # type: ignore[return-value]  # noqa: PLE0307  # the mistake


class Odd(Exception):
    """An exception whose constructor has arguments of its own (Celery #6990)."""

    def __init__(self, code: int, *, detail: str) -> None:
        super().__init__(f"{code}: {detail}")


class Lax(Retry):
    """A kind of Retry whose constructor does not call that of Retry."""

    def __init__(self) -> None:
        Exception.__init__(self, "lax")


class Timeout(BaseException):
    """As gevent and eventlet have it."""


def _ignored(error: object, value: object) -> None:
    """Sets nothing."""


class Undecided(MayflyError):
    """An error of a task's own whose `retryable` cannot be read."""

    @property
    def retryable(self) -> bool:  # type: ignore[override]
        raise RuntimeError("no idea")


class Leaving(MayflyError):
    """An error of a task's own whose `retryable` ends the process."""

    @property
    def retryable(self) -> bool:  # type: ignore[override]
        raise SystemExit(4)


class NeverAgain(Retry):
    """A kind of Retry whose pause is not a number, and is not checked."""

    after_seconds = property(lambda self: float("nan"), _ignored)


class Divided(Retry):
    """A kind of Retry whose pause cannot be read."""

    after_seconds = property(lambda self: 1 / 0, _ignored)


class Distant(Retry):
    """A kind of Retry whose pause is beyond the calendar."""

    after_seconds = property(lambda self: 1e18, _ignored)


class Quitting(Retry):
    """A kind of Retry whose pause ends the process."""

    @property
    def after_seconds(self) -> float | None:
        """Raises SystemExit."""
        raise SystemExit(5)

    @after_seconds.setter
    def after_seconds(self, value: float | None) -> None:
        pass


class Nameless(type):
    """A type without a name."""

    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise SystemExit(4)


class NoName(Exception, metaclass=Nameless):
    """An exception whose type has no name."""


class Closed(BaseExceptionGroup[BaseException]):
    """A group whose members cannot be read."""

    @property
    def exceptions(self) -> Any:
        """Raises SystemExit."""
        raise SystemExit(6)


def with_text(text: Any) -> SyntaxError:
    """Returns a syntax error whose line is not a text."""
    error = SyntaxError("bad")
    error.text = text
    return error


@pytest.fixture(params=["optimistic", "exclusive"])
def on_emulator(request: pytest.FixtureRequest, embedded: Any) -> Stage:
    """Returns a worker on the emulator: moto cannot execute statements in batches."""
    return Stage(
        embedded,
        make_tables(embedded, next(_prefixes), only=WORKERS),
        exclusive=request.param == "exclusive",
    )


def raising(make: Callable[[], BaseException]) -> Callable[[Job, Any], Any]:
    """Returns a task that raises."""

    def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        raise make()

    return body


def caused(error: BaseException, cause: BaseException) -> BaseException:
    """Returns an error with its cause, as `raise ... from` makes it."""
    error.__cause__ = cause
    return error


def drive(stage: Stage, body: Callable[[Job, Any], Any], *, deliveries: int = 8) -> list[str]:
    """Submits a job, and delivers its message until it is deleted.

    Returns the errors that brought the message back.
    """
    stage.body = body
    stage.submit()
    errors: list[str] = []
    for receives in range(1, deliveries + 1):
        try:
            stage.run(receives=receives)
        except MayflyError as failure:
            errors.append(type(failure).__name__)
            stage.clock.advance(min(getattr(failure, "seconds", 15), 86_400))
        else:
            break
    return errors


def shown(stage: Stage) -> dict[str, Any]:
    """Returns the job as the API shows it, alone and in every list, as JSON could carry it."""
    for status in (Status.SCHEDULED, Status.DEAD):
        page = stage.operations.list("acme", status, limit=9, after=None, now_ms=stage.clock())
        for job in page.jobs:
            json.dumps(public(job, stage.clock()), ensure_ascii=False).encode()
    shown = public(stage.job(), stage.clock())
    json.dumps(shown, ensure_ascii=False).encode()
    return shown


# ---------------------------------------------------------------- Retry(after_seconds=...)

BAD_PAUSES = {
    "a time in ms": (1_800_000_000_000, "ValueError: after_seconds must be at most 31536000"),
    "ten years": (10 * YEAR, "ValueError: after_seconds must be at most 31536000 (a year), not 3"),
    "a year and a second": (YEAR + 1, "ValueError: after_seconds must be at most 31536000"),
    "400 digits": (10**400, "ValueError: after_seconds must be at most 31536000 (a year), not inf"),
    "infinite": (float("inf"), "ValueError: after_seconds must be at most 31536000 (a year)"),
    "not a number": (float("nan"), "ValueError: after_seconds must be at most 31536000 (a year)"),
    "decimal nan": (Decimal("nan"), "ValueError: after_seconds must be at most 31536000 (a year)"),
    "text": ("30", "TypeError: after_seconds must be a number of seconds, not str"),
    "timedelta": (
        timedelta(minutes=5),
        "TypeError: after_seconds must be a number of seconds, not timedelta",
    ),
    "true": (True, "TypeError: after_seconds must be a number of seconds, not bool"),
    "list": ([5], "TypeError: after_seconds must be a number of seconds, not list"),
}


@pytest.mark.parametrize(("pause", "error"), BAD_PAUSES.values(), ids=BAD_PAUSES)
def test_pause_that_cannot_be_is_a_failed_attempt_that_says_so(
    stage: Stage, pause: Any, error: str
) -> None:
    def body(job: Job, effects: Any) -> None:
        raise Retry("later", after_seconds=pause)

    assert drive(stage, body) == ["JobFailed", "JobFailed"]
    job = shown(stage)
    assert (job["status"], len(stage.ran)) == ("dead", 3)
    assert job["error"].startswith(error)
    assert [attempt["outcome"] for attempt in job["attempts"]] == ["failed"] * 3


@pytest.mark.parametrize(
    ("pause", "seconds"),
    [(0, 0), (-5, 0), (float("-inf"), 0), (1.5, 1.5), (Decimal(30), 30), (900, 900)],
    ids=["zero", "negative", "minus infinite", "fraction", "decimal", "15 minutes"],
)
def test_pause_is_kept_and_one_in_the_past_is_none(
    stage: Stage, pause: Any, seconds: float
) -> None:
    def body(job: Job, effects: Any) -> None:
        raise Retry("later", after_seconds=pause)

    assert drive(stage, body, deliveries=1) == ["JobFailed"]
    job = stage.job()
    assert job.status is Status.RETRY
    assert job.not_before_ms == job.created_at_ms + seconds * 1000


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (NeverAgain, "NeverAgain: x; its pause is unusable: ValueError: after_seconds must be at"),
        (Divided, "Divided: x; its pause is unusable: ZeroDivisionError: division by zero"),
        (Distant, "Distant: x; its pause is unusable: ValueError: after_seconds must be at most"),
        (Quitting, "Quitting: x; its pause is unusable: SystemExit: 5"),
    ],
    ids=["not a number", "raises", "beyond the calendar", "exits"],
)
def test_kind_of_retry_whose_pause_cannot_be_read_has_the_usual_backoff(
    on_emulator: Stage, make: Callable[[str], BaseException], error: str
) -> None:
    stage = on_emulator

    def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        if job.id == "j1":
            raise make("x")

    stage.body = body
    for name in ("j0", "j1", "j2"):
        stage.submit(id=name)
    report = stage.handle(*(Wake("acme", f"j{number}") for number in range(3)))
    assert report["batchItemFailures"] == [{"itemIdentifier": "m1"}]
    job = stage.job("j1")
    assert (job.status, stage.count()) == (Status.RETRY, 2)
    assert (job.history[0].error or "").startswith(error)
    assert job.not_before_ms is not None
    assert job.not_before_ms <= stage.clock() + 1000


def test_exception_whose_type_has_no_name_is_shown() -> None:
    assert describe(NoName("x")) == "an exception without a name: x"
    assert traceback_of(NoName("x"))["exception_name"] == "an exception without a name"


def test_pause_of_a_year_waits_in_the_table(stage: Stage) -> None:
    def body(job: Job, effects: Any) -> None:
        raise Retry("later", after_seconds=YEAR)

    assert drive(stage, body) == []
    assert shown(stage)["status"] == "scheduled"
    assert stage.job().not_before_ms == stage.clock() + YEAR * 1000


def test_pause_is_checked_when_it_is_set_later_too() -> None:
    retry = Retry("later")
    with pytest.raises(ValueError, match="a year"):
        retry.after_seconds = 1_800_000_000_000
    assert retry.after_seconds is None


def test_kind_of_retry_without_a_pause_has_the_usual_backoff(stage: Stage) -> None:
    assert drive(stage, raising(Lax), deliveries=1) == ["JobFailed"]
    assert stage.job().not_before_ms == stage.job().created_at_ms + 1000


@pytest.mark.parametrize(
    ("at_ms", "text"),
    [
        (1_800_000_000_000 * 1000 + 1_800_000_000_000, "9999-12-31T23:59:59.999Z"),
        (10**2000, "9999-12-31T23:59:59.999Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (-(10**30), "0001-01-01T00:00:00.000Z"),
        (0, "1970-01-01T00:00:00.000Z"),
    ],
)
def test_time_beyond_the_calendar_is_shown_as_its_end(at_ms: int, text: str) -> None:
    assert rfc3339(at_ms) == text


def test_job_of_the_year_59066_takes_no_list_down_and_can_be_cancelled(stage: Stage) -> None:
    """An earlier release has written it."""
    stage.submit(status=Status.SCHEDULED, not_before_ms=1_801_800_000_000_000)
    stage.submit(
        id="j2", status=Status.SCHEDULED, not_before_ms=stage.clock() + 60_000, fingerprint="g"
    )
    assert shown(stage)["not_before"] == "9999-12-31T23:59:59.999Z"
    page = stage.operations.list(
        "acme", Status.SCHEDULED, limit=9, after=None, now_ms=stage.clock()
    )
    assert [public(job, stage.clock())["id"] for job in page.jobs] == ["j2", "j1"]
    assert stage.operations.cancel("acme", "j1", now_ms=stage.clock()).status is Status.CANCELLED


# ---------------------------------------------------------------- texts of errors

ERRORS: dict[str, tuple[Callable[[], BaseException], str]] = {
    "lone surrogate": (lambda: ValueError(FILE), "ValueError: bad file caf\\udce9.csv"),
    "text raises": (Nasty, "Nasty: <exception str() failed>"),
    "text exits": (Exits, "Exits: <exception str() failed>"),
    "text is a number": (NoText, "NoText: <exception str() failed>"),
    "no text": (ValueError, "ValueError"),
    "constructor of its own": (lambda: Odd(7, detail="x"), "Odd: 7: x"),
    "control characters": (lambda: ValueError("a\x00b\x1b[31m"), "ValueError: a\x00b\x1b[31m"),
    "group": (
        lambda: ExceptionGroup(
            "unhandled errors in a TaskGroup", [ValueError("row 7 is bad"), KeyError("x")]
        ),
        "ExceptionGroup: unhandled errors in a TaskGroup (2 sub-exceptions): "
        "ValueError: row 7 is bad; KeyError: 'x'",
    ),
    "group in a group": (
        lambda: ExceptionGroup("outer", [ExceptionGroup("inner", [ValueError("row 7")])]),
        "ExceptionGroup: outer (1 sub-exception): ExceptionGroup: inner (1 sub-exception): "
        "ValueError: row 7",
    ),
    "cause": (
        lambda: caused(RuntimeError("no card"), KeyError("card")),
        "RuntimeError: no card; caused by KeyError: 'card'",
    ),
    "cause of a cause": (
        lambda: caused(RuntimeError("a"), caused(RuntimeError("b"), RuntimeError("c"))),
        "RuntimeError: a; caused by RuntimeError: b; caused by RuntimeError: c",
    ),
    "cancelled": (asyncio.CancelledError, "CancelledError"),
    "cancelled with a reason": (lambda: asyncio.CancelledError("late"), "CancelledError: late"),
    "exit": (lambda: SystemExit(2), "SystemExit: 2"),
    "exit with a text": (lambda: SystemExit("usage: x"), "SystemExit: usage: x"),
    "exit of success": (SystemExit, "SystemExit"),
    "generator exit": (GeneratorExit, "GeneratorExit"),
    "interrupt": (KeyboardInterrupt, "KeyboardInterrupt"),
    "another base exception": (lambda: Timeout("30 s"), "Timeout: 30 s"),
    "base exception group": (
        lambda: BaseExceptionGroup("many", [SystemExit(2), ValueError("x")]),
        "BaseExceptionGroup: many (2 sub-exceptions): SystemExit: 2; ValueError: x",
    ),
    "stop iteration": (lambda: StopIteration(5), "StopIteration: 5"),
    "syntax error whose line is bytes": (
        lambda: SyntaxError("bad template", BYTES),
        "SyntaxError: bad template (t.html, line 3)",
    ),
    "syntax error whose line is a number": (lambda: with_text(5), "SyntaxError: bad"),
    "cause whose line is bytes": (
        lambda: caused(RuntimeError("page"), SyntaxError("bad template", BYTES)),
        "RuntimeError: page; caused by SyntaxError: bad template (t.html, line 3)",
    ),
    "group whose member's line is bytes": (
        lambda: ExceptionGroup("many", [SyntaxError("bad", BYTES)]),
        "ExceptionGroup: many (1 sub-exception): SyntaxError: bad (t.html, line 3)",
    ),
    "retryable raises": (lambda: Undecided("x"), "Undecided: x"),
    "retryable exits": (lambda: Leaving("x"), "Leaving: x"),
    "group without members": (
        lambda: Closed("many", [ValueError("x")]),
        "Closed: many (1 sub-exception)",
    ),
}


@pytest.mark.parametrize(("make", "error"), ERRORS.values(), ids=ERRORS)
def test_whatever_a_task_raises_is_one_failed_attempt_with_its_reason(
    stage: Stage, make: Callable[[], BaseException], error: str
) -> None:
    assert drive(stage, raising(make)) == ["JobFailed", "JobFailed"]
    job = shown(stage)
    assert (job["status"], job["error"], len(stage.ran), stage.count()) == ("dead", error, 3, 0)
    assert [(attempt["outcome"], attempt["error"]) for attempt in job["attempts"]] == [
        ("failed", error)
    ] * 3
    assert None not in [attempt["ended_at"] for attempt in job["attempts"]]


@pytest.mark.parametrize(("make", "error"), ERRORS.values(), ids=ERRORS)
def test_neighbours_of_a_task_that_raises_do_not_notice(
    on_emulator: Stage, make: Callable[[], BaseException], error: str
) -> None:
    stage = on_emulator

    def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        if job.id == "j1":
            raise make()

    stage.body = body
    for name in ("j0", "j1", "j2", "j3"):
        stage.submit(id=name)
    wakes = [Wake("acme", f"j{number}") for number in range(4)]
    report = stage.handle(*wakes)
    assert report["batchItemFailures"] == [{"itemIdentifier": "m1"}]
    statuses = [stage.job(f"j{number}").status for number in range(4)]
    assert statuses == [Status.COMPLETED, Status.RETRY, Status.COMPLETED, Status.COMPLETED]
    assert stage.job("j1").history[0].error == error
    assert (stage.count(), len(stage.ran)) == (3, 4)


@pytest.mark.parametrize(("make", "error"), ERRORS.values(), ids=ERRORS)
def test_log_has_the_traceback_of_whatever_a_task_raises(
    make: Callable[[], BaseException], error: str
) -> None:
    written = io.BytesIO()
    stream = io.TextIOWrapper(written, encoding="utf-8", write_through=True)
    log = Logger(service=f"log of {error}", logger_handler=StreamHandler(stream))
    log.error("failed", extra=traceback_of(make()))
    line = json.loads(written.getvalue())
    assert line["exception_name"] == error.partition(":")[0]
    assert line["exception_name"] in line["exception"]


def test_permanent_reason_that_utf_8_cannot_hold_is_final_all_the_same(stage: Stage) -> None:
    assert drive(stage, raising(lambda: Permanent(FILE))) == []
    job = shown(stage)
    assert (job["status"], job["error"], len(stage.ran)) == (
        "dead",
        "Permanent: bad file caf\\udce9.csv",
        1,
    )


def test_cancelled_main_of_asyncio_is_a_failed_attempt(stage: Stage) -> None:
    def body(job: Job, effects: Any) -> None:
        async def main() -> None:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)

        asyncio.run(main())

    assert drive(stage, body) == ["JobFailed", "JobFailed"]
    assert (stage.job().error, len(stage.ran)) == ("CancelledError", 3)


def test_group_whose_members_are_many_is_described_in_bounded_space() -> None:
    group: Exception = ValueError("leaf")
    for _ in range(5):
        group = ExceptionGroup("many", [group] * 6)
    assert len(describe(group)) == 500
    assert describe(group).startswith("ExceptionGroup: many (6 sub-exceptions): ExceptionGroup:")


def test_cause_that_is_its_own_cause_is_described_in_bounded_space() -> None:
    first, second = RuntimeError("a"), RuntimeError("b")
    first.__cause__, second.__cause__ = second, first
    assert describe(first).startswith("RuntimeError: a; caused by RuntimeError: b; caused by Run")
    assert len(describe(first)) <= 500


def test_long_message_leaves_room_for_its_cause() -> None:
    text = describe(caused(RuntimeError("x" * 900), KeyError("card")))
    assert text.endswith("x; caused by KeyError: 'card'")


def test_error_of_many_bytes_has_500_characters() -> None:
    assert describe(RuntimeError("\U0001f600" * 600)) == "RuntimeError: " + "\U0001f600" * 486
    assert len(describe(RuntimeError("\udce9" * 600))) == 500
