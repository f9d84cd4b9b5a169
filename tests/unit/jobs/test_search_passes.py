"""Passes of the search for stranded jobs: several reports, and receives that hold the search."""

from typing import Any

import pytest
from mayfly.jobs.routing.search import HELD_MS

from tests.support.faults import Faults, Killed
from tests.support.stranded import DAY, FROM, LATE, TO, Bury, report

pytestmark = pytest.mark.usefixtures("streamed")


def test_receive_that_finds_the_search_held_reads_nothing_and_is_retried(
    bury: Bury, dynamodb: Any
) -> None:
    bury.submit(*"abc")
    other = Bury(dynamodb, receives="other")
    faults = Faults(dynamodb)
    asked: list[bool] = []

    def meanwhile(**_: Any) -> None:
        dynamodb.meta.events.unregister("before-call.dynamodb.Scan", meanwhile)
        before = faults.requests.count("Scan")
        asked.extend([other.receive(), faults.requests.count("Scan") > before])

    dynamodb.meta.events.register("before-call.dynamodb.Scan", meanwhile)
    assert bury.receive()
    assert (asked, bury.resent()) == ([False, False], ["a", "b", "c"])


def test_receive_that_was_paused_too_long_is_replaced_and_moves_no_cursor(
    bury: Bury, dynamodb: Any
) -> None:
    bury.submit(*"abcdefg")
    other = Bury(dynamodb, receives="other")
    settled: list[bool] = []

    def take_over() -> None:  # between the resends of the first page and its cursor
        bury.during_pause = lambda: None
        other.clock.now_ms = bury.clock() + HELD_MS
        settled.append(other.receive(pages=2))

    bury.during_pause = take_over
    assert not bury.receive()
    assert (settled, other.search_state()["cursor"]["pk"]["S"]) == ([False], "acme/d")
    assert other.receive()
    assert other.resent() == list("abcdefg")


def test_receive_that_was_replaced_on_the_last_page_does_not_end_the_search(
    bury: Bury, dynamodb: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bury.submit("a")
    other = Bury(dynamodb, receives="other")

    def take_over() -> None:
        other.clock.now_ms = bury.clock() + HELD_MS
        assert other.receive()

    bury.during_pause = take_over
    assert not bury.receive()
    assert len([line for line in caplog.records if "complete" in line.message]) == 1
    assert bury.receive()


def test_receive_that_was_paused_too_long_does_not_take_the_search_back(
    bury: Bury, dynamodb: Any
) -> None:
    bury.submit(*"abc")
    other = Bury(dynamodb, receives="other")
    other.clock.now_ms = bury.clock() + HELD_MS
    faults = Faults(dynamodb)

    def take_over() -> None:  # and fail, while it holds the search
        faults.on("Scan", "error", times=9)
        assert not other.receive()

    bury.during_pause = take_over
    assert not bury.receive(pages=1)
    assert bury.search_state()["owner"] == "other1"


def test_search_held_by_a_crashed_receive_can_be_taken_after_its_lease(
    bury: Bury,
) -> None:
    bury.submit(*"abc")
    faults = Faults(bury.client)
    faults.on("Scan", "kill")
    with pytest.raises(Killed):
        bury.receive()
    bury.clock.advance(HELD_MS / 1000 - 0.001)
    assert not bury.receive()
    bury.clock.advance(0.001)
    assert bury.receive()


def test_reports_that_arrive_during_a_pass_share_the_next_pass(bury: Bury, dynamodb: Any) -> None:
    bury.submit("a")
    days = [FROM - day * DAY for day in range(1, 6)]
    bury.submit(*(f"b{number}" for number in range(5)), created_at_ms=days[2])
    faults, others = (
        Faults(dynamodb),
        [Bury(dynamodb, receives=f"other{number}-") for number in range(5)],
    )
    reports = [report(day, day + 1000) for day in days]

    def meanwhile() -> None:
        bury.during_pause = lambda: None
        assert [other.receive(body) for other, body in zip(others, reports, strict=True)] == [
            False
        ] * 5

    bury.during_pause = meanwhile
    assert bury.receive(pages=4)
    assert bury.search_state()["window"] == [days[-1], days[0] + 1999]
    bury.clock.advance(60)
    assert bury.receive(reports[0])
    scans = faults.requests.count("Scan")
    assert all(other.receive(body) for other, body in zip(others, reports, strict=True))
    assert (faults.requests.count("Scan"), bury.resent()) == (
        scans,
        ["a", "b0", "b1", "b2", "b3", "b4"],
    )


def test_report_covered_by_the_current_or_next_pass_changes_nothing(
    bury: Bury, dynamodb: Any
) -> None:
    bury.submit(*"abc")
    other = Bury(dynamodb, receives="other")
    writes: list[int] = []
    faults = Faults(dynamodb)

    def meanwhile() -> None:
        bury.during_pause = lambda: None
        for body in (
            report(),
            report(FROM + 1000, TO - 1000),
            report(1_000, 2_000),
            report(1_000, 2_000),
        ):
            before = faults.requests.count("PutItem")
            other.receive(body)
            writes.append(faults.requests.count("PutItem") - before)

    bury.during_pause = meanwhile
    assert bury.receive()
    assert writes == [0, 0, 1, 0]


def test_report_that_waits_for_the_next_pass_does_not_read_the_stream_again(
    bury: Bury, dynamodb: Any
) -> None:
    bury.submit(*"abc")
    other = Bury(dynamodb, receives="other")

    def meanwhile() -> None:
        bury.during_pause = lambda: None
        assert [other.receive(report(1_000, 2_000)), other.receive(report(1_000, 2_000))] == [
            False,
            False,
        ]

    bury.during_pause = meanwhile
    assert bury.receive()
    assert (other.read_again, other.counted) == (1, ["StreamRecordsLost"] * 3)


def test_next_pass_resends_jobs_that_were_resent_before_it_began(bury: Bury, dynamodb: Any) -> None:
    """The announcement of that resend may be the one that was lost."""
    bury.submit(*"abc")
    other = Bury(dynamodb, receives="other")

    def meanwhile() -> None:
        bury.during_pause = lambda: None
        bury.operations.resend("acme", "c", now_ms=bury.clock() + 1)
        assert not other.receive(report(bury.clock(), bury.clock()))

    bury.during_pause = meanwhile
    assert bury.receive()
    assert bury.resent().count("c") == 2


def test_lost_answer_and_a_report_in_between_do_not_skip_the_next_pass(
    dynamodb: Any,
) -> None:
    bury = Bury(dynamodb, page_items=10)
    bury.submit("a")
    bury.submit("b", created_at_ms=1_500)
    other, steps = Bury(dynamodb, receives="other"), list[str]()

    def meanwhile() -> None:
        bury.during_pause = lambda: None
        assert not other.receive(report(1_000, 2_000))
        steps.extend(
            [
                "a conflict with what was noted",
                "the end of pass 1, its answer lost",
                "the SDK's repeat of it",
            ]
        )

    def plan(operation: str, number: int) -> str | None:
        if operation != "PutItem" or not steps:
            return None
        step = steps.pop(0)
        if step.endswith("repeat of it"):
            assert not other.receive(report(5_000, 6_000))
        return "after" if step.endswith("answer lost") else None

    Faults(dynamodb).plan = plan
    bury.during_pause = meanwhile
    assert not bury.receive()
    bury.clock.advance(60)
    assert bury.receive(report(1_000, 2_000))
    assert sorted(bury.resent()) == ["a", "b"]


def test_receive_holds_the_search_through_the_next_pass(bury: Bury, dynamodb: Any) -> None:
    bury.submit("a")
    other = Bury(dynamodb, receives="other")
    expected: list[tuple[str, list[Any]]] = []

    def meanwhile() -> None:
        settled = other.receive(report(1_000, 2_000))
        state = other.search_state()
        expected.append((state["owner"], [settled, state["window"]]))

    bury.during_pause = meanwhile
    assert bury.receive()
    assert expected == [
        ("receive1", [False, [FROM, TO + 999]]),
        ("receive1", [False, [1_000, 2_999]]),
    ]


def test_receive_holds_the_search_for_as_long_as_it_finishes_pages(
    bury: Bury, dynamodb: Any
) -> None:
    bury.submit(*"abcdefg")
    other, settled = Bury(dynamodb, receives="other"), []

    def take_time() -> None:
        bury.clock.advance(HELD_MS / 1000 - 1)
        other.clock.now_ms = bury.clock()
        settled.append(other.receive())

    bury.during_pause = take_time
    assert bury.receive()
    assert settled == [False] * 4


def test_search_of_one_page_writes_its_own_item_twice(bury: Bury) -> None:
    bury.submit()
    faults = Faults(bury.client)
    assert bury.receive()
    assert faults.requests == ["GetItem", "PutItem", "Scan", "UpdateItem", "PutItem"]


def test_report_whose_window_has_been_searched_is_settled_by_one_read(bury: Bury) -> None:
    bury.submit()
    assert bury.receive()
    faults = Faults(bury.client)
    assert [bury.receive(), bury.receive(report(FROM + 1000, TO - 1000))] == [True, True]
    assert faults.requests == ["GetItem"] * 2
    assert bury.resent() == ["j1"]


def test_report_of_a_partly_searched_window_has_a_pass_of_its_own(bury: Bury) -> None:
    bury.submit("a")
    assert bury.receive()
    bury.submit("b", created_at_ms=LATE + 2_000)
    assert bury.receive(report(FROM, TO + 2_000))
    assert "b" in bury.resent()


def test_searched_windows_are_merged_and_the_last_ones_are_kept(
    bury: Bury,
) -> None:
    for minute in range(25):
        assert bury.receive(report(FROM + minute * 60_000, FROM + minute * 60_000))
    assert [len(bury.search_state()["done"]), bury.search_state()["done"][0][0]] == [
        20,
        FROM + 24 * 60_000,
    ]
    assert bury.receive(report(FROM, TO * 2, reported_ms=bury.clock()))
    assert len(bury.search_state()["done"]) == 1


def test_pass_that_lost_its_messages_is_finished_by_another_report(bury: Bury) -> None:
    bury.submit(*"abcd")
    assert not bury.receive(pages=1)
    assert bury.receive_until_settled(report(1_000, 2_000)) == 5
    assert bury.resent() == ["a", "b", "c", "d"]
