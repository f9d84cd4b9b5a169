"""A stack whose time a test moves: schedules, delays, leases, expiry, and workers that die."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest

from mayfly_testing.stack import POINTS, Stack, running

HOUR = 3600.0
DAY = 24 * HOUR
#: More than the lease and the visibility timeout of a job whose worker was killed.
AFTER_THE_LEASE = 300.0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("advance")
    with running(folder, "--movable-clock", "--no-reload", "--ttl-lag", "60") as found:
        yield found


def define(stack: Stack, name: str) -> None:
    """Makes a schedule that ticks each hour, half an hour from now for the first time."""
    minute = (stack.now + timedelta(minutes=30)).minute
    body = {"cron": f"{minute} * * * *", "task": "counter.add", "payload": {"name": name}}
    assert stack.http("PUT", f"/schedules/{name}", json=body).status_code == 201


def jobs_of(stack: Stack, schedule: str) -> list[dict[str, Any]]:
    """Returns the jobs of a schedule by their ticks, as they are stored."""
    items = [item for item in stack.items("JobsTable") if item["sk"]["S"] == "job"]
    ids = [item["pk"]["S"].partition("/")[2] for item in items]
    jobs = [stack.job(job_id) for job_id in ids]
    mine = [job for job in jobs if (job.get("schedule") or {}).get("name") == schedule]
    return sorted(mine, key=lambda job: str(job["schedule"]["tick"]))


@pytest.mark.timeout(600)  # a day takes 15 s on two free cores, and many times that on busy ones
@pytest.mark.parametrize("hours", [2, pytest.param(24, marks=pytest.mark.soak)])
def test_hourly_schedule_has_one_job_for_each_hour(stack: Stack, hours: int) -> None:
    before = stack.counter("hourly")
    define(stack, "hourly")
    stack.advance(hours * 3600)
    jobs = jobs_of(stack, "hourly")[-hours:]
    assert [job["status"] for job in jobs] == ["succeeded"] * hours
    assert [job["schedule"]["missed"] for job in jobs] == [0] * hours
    assert stack.counter("hourly") == before + hours
    for job in jobs:
        late = moment(job["attempts"][0]["started_at"]) - moment(job["schedule"]["tick"])
        # SQS delays messages by whole seconds.
        assert timedelta(0) <= late < timedelta(seconds=5)
    assert stack.http("DELETE", "/schedules/hourly").status_code == 204


def test_outage_of_a_day_leaves_one_job_that_says_how_many_were_missed(stack: Stack) -> None:
    define(stack, "outage")
    stack.advance(DAY, at_once=True)
    (job,) = jobs_of(stack, "outage")
    assert (job["status"], job["schedule"]["missed"]) == ("succeeded", 23)
    assert stack.counter("outage") == 1
    assert stack.http("DELETE", "/schedules/outage").status_code == 204


@pytest.mark.parametrize("at", POINTS)
def test_job_whose_worker_is_struck_has_its_effects_once(stack: Stack, at: str) -> None:
    stack.kill_worker(at)
    job = stack.submit("counter.add", {"name": f"struck-{at}"})
    stack.advance(AFTER_THE_LEASE)
    assert stack.missed_strikes() == 0
    assert stack.job(job["id"])["status"] == "succeeded"
    assert stack.counter(f"struck-{at}") == 1


def test_killed_worker_is_a_process_that_ended(stack: Stack) -> None:
    stack.advance(0)
    before = stack.environments(stack.worker)
    assert before
    stack.kill_worker("commit")
    stack.submit("counter.add", {"name": "killed"})
    stack.advance(AFTER_THE_LEASE)
    assert before - stack.environments(stack.worker)


def test_strike_that_meets_no_job_is_counted(stack: Stack) -> None:
    stack.kill_worker("effect-staged")
    stack.advance(AFTER_THE_LEASE)
    assert stack.missed_strikes() == 1
    assert stack.missed_strikes() == 0


def test_unknown_point_is_refused_by_name(stack: Stack) -> None:
    with pytest.raises(ValueError, match="'later' is not one of before-claim, effect-staged"):
        stack.kill_worker("later")


def test_unknown_function_is_refused_by_name(stack: Stack) -> None:
    with pytest.raises(ValueError, match=r"'RunJob' is not a function: .*RunJobs"):
        stack.kill_worker("commit", function="RunJob")


@pytest.mark.parametrize("seconds", [30, 1800], ids=["by-the-queue", "by-the-sweep"])
def test_job_for_later_runs_at_its_time(stack: Stack, seconds: int) -> None:
    job = stack.submit("counter.add", {"name": f"later-{seconds}"}, delay_seconds=seconds)
    stack.advance(seconds - 5)
    assert stack.job(job["id"])["status"] == "scheduled"
    stack.advance(10)
    assert stack.job(job["id"])["status"] == "succeeded"


def test_retries_run_after_their_pauses(stack: Stack) -> None:
    job = stack.submit("fail", {"times": 2}, max_attempts=3)
    stack.advance(HOUR / 2)
    done = stack.job(job["id"])
    assert [attempt["outcome"] for attempt in done["attempts"]] == ["failed", "failed", "succeeded"]
    first, second, third = (moment(attempt["started_at"]) for attempt in done["attempts"])
    assert second - first >= timedelta(seconds=1)
    assert third - second >= timedelta(seconds=1)


def test_message_comes_back_after_its_visibility_timeout(stack: Stack) -> None:
    sqs = stack.client("sqs")
    url = sqs.create_queue(QueueName="own")["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="once")
    assert len(sqs.receive_message(QueueUrl=url, VisibilityTimeout=600)["Messages"]) == 1
    stack.advance(540)
    assert "Messages" not in sqs.receive_message(QueueUrl=url)
    stack.advance(120)
    assert len(sqs.receive_message(QueueUrl=url)["Messages"]) == 1


def test_session_ends_after_its_idle_time_and_its_item_is_deleted(stack: Stack) -> None:
    reply = stack.http("POST", "/sessions", json={"subject": "ada", "idle_seconds": 600})
    headers = {**stack.headers, "Session-Token": reply.json()["token"]}
    stack.advance(500)
    assert stack.http("GET", "/sessions/current", headers=headers).status_code == 200
    stack.advance(700)
    assert stack.http("GET", "/sessions/current", headers=headers).status_code == 404
    stack.advance(40 * DAY, at_once=True)
    assert "ada" not in str(stack.items("SessionsTable"))


def test_limit_admits_again_after_its_period(stack: Stack) -> None:
    body = {"key": "k", "algorithm": "fixed", "limit": 1, "period_seconds": 600}
    replies = [stack.http("POST", "/limits/some/take", json=body).status_code for _ in range(2)]
    assert replies == [200, 429]
    stack.advance(600)
    assert stack.http("POST", "/limits/some/take", json=body).status_code == 200


def test_time_of_the_stack_moves_by_what_was_asked_for(stack: Stack) -> None:
    before = stack.now
    stack.advance(600)
    assert timedelta(minutes=10) <= stack.now - before < timedelta(minutes=11)


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_time_moves_by_a_number_of_seconds_only(stack: Stack, seconds: float) -> None:
    with pytest.raises(ValueError, match="seconds is a number from 0 on"):
        stack.advance(seconds)


def test_stack_of_a_user_has_a_clock_that_cannot_be_moved(tmp_path_factory: Any) -> None:
    with (
        running(tmp_path_factory.mktemp("own"), "--no-reload") as own,
        pytest.raises(AssertionError, match="cannot be moved; start it with --movable-clock"),
    ):
        own.advance(60)


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
