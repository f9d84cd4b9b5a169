"""The search for stranded jobs, page by page: its cursor, its rate, its deadline."""

from typing import Any

import pytest
from mayfly.jobs.routing.outbox import announcement
from mayfly.jobs.routing.stranded import PAGE_ITEMS

from tests.support.faults import Faults, Killed
from tests.support.stranded import EVERYTHING, NOW, PAGE_SECONDS, TO, Bury, held, report

pytestmark = pytest.mark.usefixtures("streamed")

# ---------------------------------------------------------------- several receives for one report


def test_receive_works_until_its_deadline_and_the_next_one_continues(bury: Bury) -> None:
    bury.submit(*"abcdefg")
    assert [bury.receive(pages=1), bury.resent()] == [False, ["a", "b"]]
    assert [bury.receive(pages=2), bury.resent()] == [False, ["a", "b", "c", "d", "e", "f"]]
    assert [bury.receive(pages=2), bury.resent()] == [True, list("abcdefg")]


def test_search_that_continues_is_not_logged_as_a_failure(
    bury: Bury, caplog: pytest.LogCaptureFixture
) -> None:
    bury.submit(*"abc")
    assert not bury.receive(pages=1)
    assert [line.message for line in caplog.records if line.levelname == "ERROR"] == []
    (waiting,) = [line for line in caplog.records if "continues with its message" in line.message]
    # Fields of the log line.
    assert (waiting.read, waiting.resent) == (2, 2)  # type: ignore[attr-defined]


def test_report_reads_the_stream_and_counts_its_records_on_its_first_receive_only(
    bury: Bury,
) -> None:
    bury.submit(*"abcdefg")
    assert bury.receive_until_settled() == 4
    assert (bury.read_again, bury.counted.count("StreamRecordsLost")) == (1, 3)


def test_page_cut_short_by_the_deadline_is_finished_by_the_next_receive(bury: Bury) -> None:
    bury.submit(*"abcd")

    def take_time(**_: Any) -> None:
        bury.clock.advance(PAGE_SECONDS)

    bury.client.meta.events.register("before-call.dynamodb.UpdateItem", take_time)
    assert [bury.receive(pages=1), bury.resent()] == [False, ["a"]]
    assert [bury.receive(pages=1), bury.resent()] == [False, ["a", "b"]]
    assert [bury.receive(pages=1), bury.resent()] == [False, ["a", "b", "c"]]
    assert bury.search_state()["cursor"]["pk"] == {"S": "acme/b"}
    assert [bury.receive(pages=100), bury.resent()] == [True, ["a", "b", "c", "d"]]


def test_job_that_must_wait_gets_no_message_from_a_page_that_was_cut_short(bury: Bury) -> None:
    held(bury)
    assert (bury.receive(EVERYTHING, pages=0), bury.sent) == (False, [])
    assert (bury.receive(EVERYTHING), bury.sent) == (True, [("j1", 15.0)])


def test_cursor_whose_item_is_deleted_leaves_no_job_out(bury: Bury) -> None:
    bury.submit(*"abcd")
    assert not bury.receive(pages=1)
    bury.client.delete_item(TableName="JobsTable", Key=bury.search_state()["cursor"])
    assert bury.receive()
    assert bury.resent() == ["a", "b", "c", "d"]


def test_item_of_the_search_expires_and_passes_no_stream_filter(
    bury: Bury,
) -> None:
    bury.submit(*"abc")
    bury.receive(pages=1)
    item = bury.search_item()
    assert (item["sk"] == {"S": "job"}, announcement(item, bury.clock())) == (False, None)
    assert int(item["expires_at"]["N"]) - bury.clock() // 1000 == pytest.approx(
        14 * 24 * 3600, abs=60
    )


@pytest.mark.parametrize("number", range(1, 15))
@pytest.mark.parametrize("kind", ["kill", "kill after"])
def test_no_job_is_left_out_whatever_the_store_call_at_which_a_receive_is_killed(
    dynamodb: Any, kind: str, number: int
) -> None:
    bury = Bury(dynamodb)
    bury.submit(*"abcde")
    faults = Faults(dynamodb)
    faults.plan = lambda operation, now: kind if now == number else None
    with pytest.raises(Killed):
        bury.receive(pages=2)
        bury.receive(pages=2)
    faults.plan = lambda operation, now: None
    bury.clock.advance(60)
    bury.receive_until_settled(pages=2)
    assert set(bury.resent()) == set("abcde")


def test_kill_between_resend_and_cursor_repeats_the_page_and_resends_no_job_twice(
    bury: Bury,
) -> None:
    bury.submit(*"abcd")
    faults = Faults(bury.client)
    # The first put takes the search, the second one stores the cursor.
    faults.on("PutItem", "kill", skip=1)
    with pytest.raises(Killed):
        bury.receive(EVERYTHING)
    faults.plan = lambda operation, number: None
    assert (bury.search_state()["cursor"], bury.resent()) == (None, ["a", "b"])
    bury.clock.advance(60)
    assert bury.receive(EVERYTHING)
    assert (faults.requests.count("Scan"), bury.resent()) == (4, ["a", "b", "c", "d"])


def test_job_that_was_resent_before_the_search_began_is_resent_again(bury: Bury) -> None:
    """The announcement of that resend may be the one that was lost."""
    bury.submit()
    bury.operations.resend("acme", "j1", now_ms=TO)
    assert bury.receive()
    assert bury.resent() == ["j1", "j1"]


@pytest.mark.parametrize("number", [0, 1, 2])
def test_write_of_the_search_whose_answer_is_lost_is_made_once(
    bury: Bury, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    bury.submit(*"abc")
    Faults(bury.client).on("PutItem", "after", skip=number)
    assert bury.receive()
    (done,) = [line for line in caplog.records if "complete" in line.message]
    # A field of the log line.
    assert (bury.resent(), done.read) == (["a", "b", "c"], 4)  # type: ignore[attr-defined]


@pytest.mark.parametrize("operation", ["GetItem", "Scan", "PutItem", "UpdateItem"])
def test_report_returns_if_the_store_does_not_answer(bury: Bury, operation: str) -> None:
    bury.submit(*"abc")
    faults = Faults(bury.client)
    faults.plan = lambda name, number: "error" if name == operation else None
    assert not bury.receive()
    faults.plan = lambda name, number: None
    bury.clock.advance(60)
    assert bury.receive()
    assert bury.resent() == ["a", "b", "c"]


def test_page_is_searched_again_if_the_queue_does_not_accept_a_message(bury: Bury) -> None:
    held(bury)
    bury.queue_is_down = True
    assert not bury.receive(EVERYTHING)
    assert bury.search_state()["cursor"] is None
    bury.queue_is_down = False
    bury.clock.advance(60)
    assert bury.receive(EVERYTHING)
    assert [job_id for job_id, _ in bury.sent] == []  # its lease has expired by now
    assert bury.resent() == ["j1"]


# ---------------------------------------------------------------- the rate


def test_each_page_waits_for_its_share_of_a_second_including_the_last(bury: Bury) -> None:
    bury.submit(*"abc")
    assert bury.receive()
    assert bury.pauses == [PAGE_SECONDS] * 2


def test_time_that_a_page_took_is_not_waited_for_again(bury: Bury) -> None:
    bury.submit(*"abcde")
    took = iter([PAGE_SECONDS * 0.75, PAGE_SECONDS * 2, -3600])
    bury.client.meta.events.register(
        "before-call.dynamodb.Scan", lambda **_: bury.clock.advance(next(took, 0))
    )
    assert bury.receive()
    assert bury.pauses == [PAGE_SECONDS * 0.25, PAGE_SECONDS]


def scans(client: Any) -> list[dict[str, Any]]:
    """Returns a list that collects the parameters of the following scans."""
    requests: list[dict[str, Any]] = []
    client.meta.events.register(
        "provide-client-params.dynamodb.Scan", lambda params, **_: requests.append(dict(params))
    )
    return requests


def test_page_has_a_bounded_number_of_items(dynamodb: Any) -> None:
    requests = scans(dynamodb)
    assert Bury(dynamodb, page_items=PAGE_ITEMS).receive()
    assert [scan["Limit"] for scan in requests] == [PAGE_ITEMS]


@pytest.mark.parametrize(("ended_ago_ms", "is_consistent"), [(59_000, True), (61_000, False)])
def test_pages_are_read_consistently_only_if_the_loss_has_just_ended(
    dynamodb: Any, ended_ago_ms: int, is_consistent: bool
) -> None:
    requests = scans(dynamodb)
    assert Bury(dynamodb).receive(report(batchSize=0, reported_ms=NOW - ended_ago_ms))
    assert {scan.get("ConsistentRead", False) for scan in requests} == {is_consistent}
