"""Work in turns: its order, its threads, and its end."""

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mayfly.core.turns import in_turns, work_off


def owner(thing: str) -> str:
    return thing[0]


def test_owners_take_turns_in_the_order_of_their_first_things() -> None:
    things = ["a1", "a2", "a3", "b1", "a4", "b2", "c1"]
    assert in_turns(things, owner) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


@given(st.lists(st.sampled_from("abc")))
def test_nothing_waits_for_more_things_of_another_owner_than_of_its_own(owners: list[str]) -> None:
    things = [f"{name}{number}" for number, name in enumerate(owners)]
    ordered = in_turns(things, owner)
    assert sorted(ordered) == sorted(things)
    for index, thing in enumerate(ordered):
        before = [other[0] for other in ordered[:index]]
        own = before.count(thing[0])
        assert all(before.count(name) <= own + 1 for name in "abc")
    for name in "abc":
        assert [thing for thing in ordered if thing[0] == name] == [
            thing for thing in things if thing[0] == name
        ]


@pytest.mark.parametrize("threads", [1, 4])
def test_all_work_is_done_once_and_its_results_are_added_up(threads: int) -> None:
    done: list[int] = []
    total = work_off(
        lambda thing: done.append(thing) or thing,  # type: ignore[func-returns-value]
        range(100), threads=threads, is_over=lambda: False,
    )  # fmt: skip
    assert (sorted(done), total) == (list(range(100)), sum(range(100)))


def test_things_are_worked_on_at_the_same_time() -> None:
    meeting = threading.Barrier(4, timeout=30)
    assert work_off(lambda _: meeting.wait() >= 0, range(4), threads=4, is_over=lambda: False) == 4


@pytest.mark.parametrize("threads", [1, 4])
def test_no_work_begins_after_the_deadline(threads: int) -> None:
    begun: list[int] = []

    def work(thing: int) -> int:
        begun.append(thing)
        return 1

    done = work_off(work, range(100), threads=threads, is_over=lambda: len(begun) >= 10)
    assert 10 <= done == len(begun) < 10 + threads


@pytest.mark.parametrize("threads", [1, 4])
def test_first_error_ends_the_work(threads: int) -> None:
    begun: list[int] = []

    def work(thing: int) -> int:
        begun.append(thing)
        if thing == 10:
            raise LookupError("bad")
        return 1

    with pytest.raises(LookupError, match="bad"):
        work_off(work, range(10**6), threads=threads, is_over=lambda: False)
    assert len(begun) < 10**6


def test_no_work_is_done_at_once() -> None:
    assert work_off(lambda _: 1, [], threads=4, is_over=lambda: False) == 0
