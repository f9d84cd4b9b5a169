"""The comparison of what was acknowledged with what is there."""

from collections import Counter
from typing import Any

import pytest

from mayfly_lab.chaos.api import Answer
from mayfly_lab.chaos.differences import differences
from mayfly_lab.chaos.ledger import CHAINED, EFFECTS, KEYED, PLAIN, Ledger, Session
from mayfly_lab.chaos.present import Present, StoredJob
from mayfly_lab.chaos.quiet import Latency, breaches, percentile


def stored(job_id: str, status: str = "COMPLETED", task: str = "t", **payload: Any) -> StoredJob:
    return StoredJob(job_id, task, status, payload or {"name": EFFECTS, "by": 2})


def alive(number: int) -> Answer:
    return Answer(200, {"data": {"n": number}})


def exact() -> tuple[Ledger, Present]:
    """Returns a ledger and stores that agree, with something of every kind."""
    ledger = Ledger(
        "acme",
        jobs={"a", "b", "p", "w"},
        messages={"key"},
        keyed=9,
        plain=4,
        plain_unknown=2,
        sessions=[Session("s", acknowledged=2, sent=3), Session("e", is_ended=True)],
        admitted=5,
        takes_unknown=1,
    )
    ledger.sessions[1].may_have_ended = True
    jobs = [
        stored("w", task="http.deliver", url="u"),
        stored("a", task="chaos.chain"),
        stored("b", "CANCELLED"),
        stored("m"),
        stored("p", name=PLAIN, by=10),
        stored("c", name=CHAINED, by=1),
    ]
    present = Present(
        jobs={job.id: job for job in jobs},
        counters=Counter({EFFECTS: 4, CHAINED: 1, KEYED: 9, PLAIN: 15}),
        sessions=[alive(2), Answer(404)],
        taken=6,
        arrived={"w", "of another tenant"},
    )
    return ledger, present


def test_exact_counts_have_no_difference() -> None:
    assert differences(*exact()) == []


@pytest.mark.parametrize("value", [14, 16])
def test_increment_of_unknown_outcome_may_count_or_not(value: int) -> None:
    ledger, present = exact()
    present.counters[PLAIN] = value
    assert differences(ledger, present) == []


@pytest.mark.parametrize(
    ("counter", "by", "said"),
    [
        (EFFECTS, 2, "counter chaos-effects is 6, and succeeded jobs add up to 4: 2 too many"),
        (EFFECTS, -2, "counter chaos-effects is 2, and succeeded jobs add up to 4: 2 missing"),
        (CHAINED, 1, "counter chaos-chained is 2, and succeeded jobs add up to 1: 1 too many"),
        (KEYED, 1, "counter chaos-keyed is 10, and acknowledged increments are 9: 1 too many"),
        (KEYED, -1, "counter chaos-keyed is 8, and acknowledged increments are 9: 1 missing"),
        (
            PLAIN,
            2,
            "counter chaos-plain is 17; succeeded jobs add up to 10, 4 increments were "
            "acknowledged, and 2 more may have counted: 1 too many",
        ),
        (
            PLAIN,
            -2,
            "counter chaos-plain is 13; succeeded jobs add up to 10, 4 increments were "
            "acknowledged, and 2 more may have counted: 1 missing",
        ),
    ],
)
def test_counter_that_is_not_exact_is_named_with_tenant_and_count(
    counter: str, by: int, said: str
) -> None:
    ledger, present = exact()
    present.counters[counter] += by
    assert differences(ledger, present) == [f"acme: {said}"]


def test_lost_job_is_named() -> None:
    ledger, present = exact()
    del present.jobs["b"]
    assert differences(ledger, present) == ["acme: 4 jobs accepted, 1 of them lost: b"]


def test_job_that_has_not_ended_is_named() -> None:
    ledger, present = exact()
    present.jobs["b"] = stored("b", "QUEUED")
    assert differences(ledger, present) == ["acme: 1 of 6 jobs have not ended: b"]


@pytest.mark.parametrize(
    ("error", "said"), [("RuntimeError: no", "RuntimeError: no"), ("", "without an error")]
)
def test_dead_job_is_named_with_its_error(error: str, said: str) -> None:
    ledger, present = exact()
    present.jobs["b"] = StoredJob("b", "t", "DEAD", {"name": EFFECTS, "by": 2}, error)
    assert differences(ledger, present) == [f"acme: job b (t) is dead: {said}"]


def test_webhook_that_never_arrived_is_named() -> None:
    ledger, present = exact()
    present.arrived = {"of another tenant"}
    assert differences(ledger, present) == ["acme: 1 webhooks succeeded, 1 never arrived: w"]


def test_message_with_two_jobs_is_named() -> None:
    ledger, present = exact()
    present.jobs["n"] = stored("n", "CANCELLED")
    assert differences(ledger, present) == [
        "acme: 1 messages with a key were sent, and 2 jobs were made of them"
    ]


def test_follow_up_that_was_submitted_twice_is_named() -> None:
    ledger, present = exact()
    present.jobs["d"] = stored("d", "CANCELLED", name=CHAINED, by=1)
    assert differences(ledger, present) == [
        "acme: 1 jobs submitted another one, and 2 such jobs are there"
    ]


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ([Answer(404), Answer(404)], "2 sessions acknowledged, 1 of them lost"),
        ([alive(2), alive(0)], "1 sessions are alive after an acknowledged logout"),
        ([alive(1), Answer(404)], "1 sessions are without an acknowledged change"),
        ([Answer(500), Answer(404)], "1 sessions could not be read: [500]"),
    ],
)
def test_session_that_is_not_as_acknowledged_is_named(answers: list[Answer], said: str) -> None:
    ledger, present = exact()
    present.sessions = answers
    assert differences(ledger, present) == [f"acme: {said}"]


@pytest.mark.parametrize(
    ("facts", "taken", "said"),
    [
        ({"admitted": 301}, 301, "the limit of 300 has admitted 301 takes"),
        ({"admitted": 5}, 4, "the limit has admitted 5 takes, and counts 4"),
        ({"refused": 1}, 6, "the limit of 300 has refused a take after 6 at most"),
    ],
)
def test_limit_that_does_not_hold_is_named(facts: dict[str, int], taken: int, said: str) -> None:
    ledger, present = exact()
    vars(ledger).update(facts)
    present.taken = taken
    assert differences(ledger, present) == [f"acme: {said}"]


def test_answer_that_no_fault_explains_is_named() -> None:
    ledger, present = exact()
    ledger.note_wrong("POST /jobs was answered 500 internal-error: None")
    assert differences(ledger, present) == [
        "acme: POST /jobs was answered 500 internal-error: None (1 times)"
    ]


def test_request_that_was_never_answered_is_named() -> None:
    ledger, present = exact()
    ledger.open_request("key", "/jobs", {})
    assert differences(ledger, present) == ["acme: 1 requests with a key were never answered"]


def test_percentile_is_the_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 99), percentile([3.0], 99)) == (50, 99, 3)


@pytest.mark.parametrize(
    ("alone", "flooded", "is_breach"),
    [(10.0, 30.0, False), (10.0, 31.0, True), (400.0, 500.0, False), (400.0, 501.0, True)],
)
def test_latency_next_to_a_flood_is_held_to_both_bounds(
    alone: float, flooded: float, is_breach: bool
) -> None:
    assert bool(breaches({"requests": Latency([alone], [flooded])})) is is_breach
