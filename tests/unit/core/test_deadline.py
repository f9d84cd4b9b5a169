"""The deadline of a request, by a time that is passed in."""

from math import inf

import pytest
from mayfly.core.deadline import ANSWER_SECONDS, limited, optional, seconds_left


def test_without_a_deadline_nothing_is_limited() -> None:
    with optional():
        assert seconds_left() == inf


def test_request_has_the_time_of_its_invocation_less_that_of_its_answer() -> None:
    now = 100.0
    with limited(10_000, monotonic=lambda: now):
        assert seconds_left() == pytest.approx(10 - ANSWER_SECONDS)
        now += 9
        assert seconds_left() == pytest.approx(1 - ANSWER_SECONDS)
    assert seconds_left() == inf


def test_answer_has_more_than_a_second() -> None:
    """A request is answered a second before its function's timeout, and not just then."""
    assert ANSWER_SECONDS >= 1.5


@pytest.mark.parametrize("fails", [False, True])
def test_optional_calls_have_a_third_of_the_time_and_leave_the_rest(fails: bool) -> None:
    now = 0.0
    with limited(round(1000 * (9 + ANSWER_SECONDS)), monotonic=lambda: now):
        now += 3
        try:
            with optional():
                assert seconds_left() == pytest.approx(2)
                now += 2
                assert seconds_left() == pytest.approx(0)
                if fails:
                    raise TimeoutError
        except TimeoutError:
            assert fails
        assert seconds_left() == pytest.approx(4)


def test_optional_calls_of_a_request_without_time_have_none() -> None:
    with limited(0, monotonic=lambda: 0.0), optional():
        assert seconds_left() < 0
