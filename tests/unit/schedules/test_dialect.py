"""Cron expressions that are refused, and what their errors tell to write instead."""

import pytest
from mayfly.core.errors import InvalidRequest
from mayfly.schedules.dialect import check_cron


@pytest.mark.parametrize(
    ("expression", "advice"),
    [
        pytest.param(
            "*/90 * * * *", '90 minutes give "every_seconds": 5400', id="step-above-range"
        ),
        pytest.param("*/61 * * * *", '"every_seconds": 3660', id="step-of-61-minutes"),
        pytest.param("5/90 * * * *", '"every_seconds": 5400', id="step-from-a-minute"),
        pytest.param(
            "0 */36 * * *", '36 hours give "every_seconds": 129600', id="step-above-range-hours"
        ),
        pytest.param("0 0 */45 * *", '"every_seconds": 3888000', id="step-above-range-days"),
        pytest.param("0 0 */400 * *", "above the number of its values, 31", id="step-above-a-year"),
        pytest.param("0 0 1 */18 *", "above the number of its values, 12", id="step-of-18-months"),
        pytest.param("0 0 * * */8", "above the number of its values, 7", id="step-of-8-weekdays"),
        pytest.param("1-5/10 * * * *", "above the number of its values, 5", id="step-in-a-range"),
        pytest.param("*/0 * * * *", "must be 1 or more", id="step-0"),
        pytest.param("0 9 * * FRI-MON", "write FRI,SAT,SUN,MON", id="weekday-range-over-sunday"),
        pytest.param("0 9 * * fri-mon", "write FRI,SAT,SUN,MON", id="lower-case-range"),
        pytest.param("0 9 * * SAT-SUN", "write SAT,SUN", id="weekend"),
        pytest.param("0 9 * * 5-1", "write 5,6,0,1", id="weekday-numbers"),
        pytest.param("0 9 * * 7-1", "write 0,1", id="sunday-is-7"),
        pytest.param("0 22-2 * * *", "write 22,23,0,1,2", id="night"),
        pytest.param("0 22-6/2 * * *", "write 22,0,2,4,6", id="night-with-a-step"),
        pytest.param("40-10 * * * *", "write 40-59,0-10", id="many-minutes"),
        pytest.param("0 0 1 NOV-FEB *", "write NOV,DEC,JAN,FEB", id="winter"),
        pytest.param("0 0 28-3 * *", "write 28,29,30,31,1,2,3", id="end-of-month"),
        pytest.param("@daily", "write '0 0 * * *'", id="shorthand-daily"),
        pytest.param("@Hourly", "write '0 * * * *'", id="shorthand-hourly"),
        pytest.param("@every 5m", '"every_seconds"', id="shorthand-every"),
        pytest.param("@reboot", "five fields", id="shorthand-reboot"),
        pytest.param("0 9 ? * MON", "? is not supported; write '0 9 * * MON'", id="question-mark"),
        pytest.param(
            "cron(0 9 * * ? *)", "write its first five fields: '0 9 * * *'", id="eventbridge-call"
        ),
        pytest.param("cron(0 9 ? * MON-FRI *)", "'0 9 * * MON-FRI'", id="eventbridge-names"),
        pytest.param("cron(0 9 ? * 2-6 *)", "days of the week by name", id="eventbridge-numbers"),
        pytest.param("cron(0 9 * *", "write its first five fields", id="eventbridge-cut"),
        pytest.param("rate(5 minutes)", '"every_seconds"', id="eventbridge-rate"),
        pytest.param("at(2026-01-01T00:00:00)", '"run_at"', id="eventbridge-at"),
        pytest.param("0 0 9 * * *", "five fields, not 6", id="six-fields"),
        pytest.param("* * * *", "five fields, not 4", id="four-fields"),
        pytest.param("", "five fields, not 0", id="empty"),
        pytest.param("0 25 * * *", "'25' in the hour is not 0 to 23", id="value-out-of-range"),
        pytest.param("60 * * * *", "'60' in the minute is not 0 to 59", id="minute-60"),
        pytest.param("0 0 0 * *", "'0' in the day of month is not 1 to 31", id="day-0"),
        pytest.param("0 0 * * 8", "'8' in the day of week is not 0 to 7, SUN to SAT", id="day-8"),
        pytest.param("0 0 * * MONDAY", "'MONDAY' in the day of week is not", id="long-name"),
        pytest.param("0 0 15W * *", "LW (the last weekday)", id="nearest-weekday"),
        pytest.param("0 0 L-3 * *", "L (the last day) or LW", id="before-the-last-day"),
        pytest.param("0 0 * * 1#6", "1#2 (the second Monday)", id="sixth-monday"),
        pytest.param("1,,2 * * * *", "'' in the minute is not a value", id="empty-term"),
        pytest.param("*-5 * * * *", "'*-5' in the minute is not a value", id="range-from-star"),
        pytest.param("+1 * * * *", "must not have '+'", id="plus"),
        pytest.param("\u0661 * * * *", "must not have '\u0661'", id="other-digits"),
        pytest.param("0 0 30 2 *", "day-of-month", id="30-february"),
        pytest.param("0 0 */31 * 1#2", "never matches a time", id="first-and-second-monday"),
        pytest.param("* " * 61, "up to 120 characters", id="long"),
    ],
)  # fmt: skip
def test_refusal_tells_what_to_write_instead(expression: str, advice: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        check_cron(expression)
    assert refused.value.field == "cron"
    assert advice in str(refused.value)


@pytest.mark.parametrize(
    "expression",
    [
        "*/59 * * * *", "*/60 * * * *", "*/45 * * * *", "*/7 * * * *", "5/15 * * * *",
        "0-59/60 * * * *", "0 */24 * * *", "0 0 */31 * *", "0 0 1 */12 *", "0 0 * * */7",
        "0 0 * * 5-7", "0 0 * * 7", "0 0 * * SUN-SAT", "0 0 * jan-dec mon,WED", "0 0 L * *",
        "0 0 LW * *", "0 0 31,L * *", "0 0 * * 5L", "0 0 * * 1#2", "0 0 * * MON#1",
        "0 0 29 2 *", "0 0 */2 * 1", " 0  9 * * * ",
    ],
)  # fmt: skip
def test_expression_of_the_dialect_is_taken(expression: str) -> None:
    check_cron(expression)
