"""Effects of every kind, on moto: applied together with the end of their job, or not at all."""

from typing import Any

import pytest
from mayfly.core.errors import StoreUnavailable
from mayfly.jobs.model import Job, Status
from mayfly.jobs.worker.failures import JobFailed

from tests.support.faults import Faults
from tests.support.stage import Stage


def mine(dynamodb: Any, key: str) -> Any:
    return dynamodb.get_item(TableName="Mine", Key={"id": {"S": key}}).get("Item")


@pytest.fixture
def table(dynamodb: Any) -> str:
    """Makes a table of an application."""
    keys = [{"AttributeName": "id", "KeyType": "HASH"}]
    dynamodb.create_table(
        TableName="Mine",
        KeySchema=keys,
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for name in ("old", "gone"):
        dynamodb.put_item(TableName="Mine", Item={"id": {"S": name}, "n": {"N": "1"}})
    return "Mine"


def every_effect(job: Job, effects: Any) -> None:
    effects.increment("n", by=2)
    effects.increment("n", by=3)
    effects.put("Mine", {"id": "new", "list": [1, "x", None]}, condition="attribute_not_exists(id)")
    effects.update("Mine", {"id": "old"}, "ADD #n :by", names={"#n": "n"}, values={":by": 4})
    effects.delete("Mine", {"id": "gone"})
    effects.submit("t", {"from": job.id})


def test_effects_of_every_kind_are_applied_together(
    stage: Stage, dynamodb: Any, table: str
) -> None:
    stage.body = every_effect
    stage.submit()
    stage.run()
    assert (stage.job().status, stage.count()) == (Status.COMPLETED, 5)
    assert mine(dynamodb, "new")["list"] == {"L": [{"N": "1"}, {"S": "x"}, {"NULL": True}]}
    assert (mine(dynamodb, "old")["n"], mine(dynamodb, "gone")) == ({"N": "5"}, None)
    follow_ups = [
        item for item in dynamodb.scan(TableName="JobsTable")["Items"] if item["id"]["S"] != "j1"
    ]
    assert [
        (item["status"]["S"], item["payload"]["S"], item["max_attempts"]["N"])
        for item in follow_ups
    ] == [("QUEUED", '{"from":"j1"}', "3")]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (1.5, "TypeError: Float types are not supported"),
        ({"inner": [1.5]}, "TypeError: Float types are not supported"),
        (object(), "TypeError: Unsupported type"),
    ],
    ids=["float", "inner float", "object"],
)
def test_value_that_an_item_cannot_hold_is_a_failed_attempt(
    stage: Stage, dynamodb: Any, table: str, value: Any, reason: str
) -> None:
    """boto3 has Decimal for fractions."""

    def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        effects.put("Mine", {"id": "new", "price": value})

    stage.body = body
    stage.submit(max_attempts=1)
    stage.run()
    assert (stage.job().status, stage.count(), mine(dynamodb, "new")) == (Status.DEAD, 0, None)
    assert str(stage.job().error).startswith(reason)


def test_job_that_is_cancelled_while_it_runs_applies_nothing(stage: Stage, dynamodb: Any) -> None:
    def body(job: Job, effects: Any) -> None:
        effects.increment("n")
        effects.submit("t", {"follow": 1})
        stage.operations.cancel("acme", "j1", now_ms=stage.clock())

    stage.body = body
    stage.submit()
    stage.run()
    assert (stage.job().status, stage.count()) == (Status.CANCELLED, 0)
    assert [item["id"]["S"] for item in dynamodb.scan(TableName="JobsTable")["Items"]] == ["j1"]


@pytest.mark.parametrize("attempts", [0, -1, 21, True, "3", 2.5])
def test_follow_up_with_attempts_that_cannot_be_is_refused(
    stage: Stage, dynamodb: Any, attempts: Any
) -> None:
    stage.body = lambda job, effects: effects.submit("t", max_attempts=attempts)
    stage.submit()
    stage.run()
    assert stage.job().status is Status.DEAD
    assert str(stage.job().error).startswith("InvalidRequest: max_attempts: must be ")
    assert [item["id"]["S"] for item in dynamodb.scan(TableName="JobsTable")["Items"]] == ["j1"]


@pytest.mark.parametrize(("attempts", "stored"), [(None, "3"), (1, "1"), (20, "20")])
def test_follow_up_has_the_attempts_of_its_task_or_its_own(
    stage: Stage, dynamodb: Any, attempts: int | None, stored: str
) -> None:
    stage.body = lambda job, effects: effects.submit("t", max_attempts=attempts)
    stage.submit()
    stage.run()
    (follow_up,) = [
        item for item in dynamodb.scan(TableName="JobsTable")["Items"] if item["id"]["S"] != "j1"
    ]
    assert follow_up["max_attempts"]["N"] == stored


def test_one_failed_condition_prevents_all_effects(stage: Stage, dynamodb: Any, table: str) -> None:
    def refused(job: Job, effects: Any) -> None:
        every_effect(job, effects)
        effects.check("Mine", {"id": "missing"}, "attribute_exists(id)")

    before = dynamodb.scan(TableName="Mine")["Items"]
    stage.body = refused
    stage.submit()
    stage.run()
    assert (stage.job().status, stage.count()) == (Status.DEAD, 0)
    assert "the effect check in 'Mine' was refused (ConditionalCheckFailed)" in str(
        stage.job().error
    )
    assert dynamodb.scan(TableName="Mine")["Items"] == before
    assert [item["id"]["S"] for item in dynamodb.scan(TableName="JobsTable")["Items"]] == ["j1"]


def test_task_may_request_a_retry_of_a_refused_effect(
    stage: Stage, dynamodb: Any, table: str
) -> None:
    def needs_the_door(job: Job, effects: Any) -> None:
        effects.increment("n")
        effects.check("Mine", {"id": "door"}, "attribute_exists(id)")

    stage.body = needs_the_door
    stage.declare(retry_refused=True, **stage.options)
    stage.submit()
    with pytest.raises(JobFailed):
        stage.run()
    assert (
        stage.job().status,
        "the effect check in 'Mine'" in str(stage.job().history[0].error),
    ) == (Status.RETRY, True)
    dynamodb.put_item(TableName="Mine", Item={"id": {"S": "door"}})
    stage.clock.advance(1)
    stage.run()
    assert (stage.job().status, stage.job().attempt, stage.count()) == (Status.COMPLETED, 2, 1)


def test_effect_that_can_never_be_applied_is_not_retried_whatever_the_task_requests(
    stage: Stage, table: str
) -> None:
    def twice(job: Job, effects: Any) -> None:
        effects.delete("Mine", {"id": "old"})
        effects.delete("Mine", {"id": "old"})

    stage.body = twice
    stage.declare(retry_refused=True, **stage.options)
    stage.submit()
    stage.run()
    assert (stage.job().status, stage.job().attempt) == (Status.DEAD, 1)


def test_follow_up_job_can_be_delayed(stage: Stage, dynamodb: Any) -> None:
    stage.body = lambda job, effects: effects.submit("t", delay_seconds=60)
    stage.submit()
    stage.run()
    (item,) = [
        item for item in dynamodb.scan(TableName="JobsTable")["Items"] if item["id"]["S"] != "j1"
    ]
    assert (item["status"]["S"], item["not_before"]["N"]) == (
        "SCHEDULED",
        str(stage.clock() + 60_000),
    )


def test_two_effects_on_one_item_end_the_job_with_the_error_of_dynamodb(
    stage: Stage, table: str
) -> None:
    def twice(job: Job, effects: Any) -> None:
        effects.delete("Mine", {"id": "old"})
        effects.delete("Mine", {"id": "old"})

    stage.body = twice
    stage.submit()
    stage.run()
    assert stage.job().status is Status.DEAD
    assert "multiple operations on one item" in str(stage.job().error)


def test_follow_up_job_is_created_once_however_often_its_parent_is_retried(
    stage: Stage, dynamodb: Any, faults: Faults
) -> None:
    def body(job: Job, effects: Any) -> None:
        if job.payload is None:
            effects.submit("t", "child")

    stage.body = body
    stage.submit()
    faults.plan = lambda operation, number: "after" if operation == "TransactWriteItems" else None
    with pytest.raises(StoreUnavailable):
        stage.run()
    faults.plan = lambda operation, number: None
    stage.clock.advance(16)
    stage.run()
    assert len(dynamodb.scan(TableName="JobsTable")["Items"]) == 2


@pytest.mark.parametrize(
    ("task", "payload", "reason"),
    [("nope", None, "UnknownTask"), ("t", "x" * 300_000, "PayloadTooLarge")],
)
def test_invalid_follow_up_job_fails_its_parent(
    stage: Stage, task: str, payload: Any, reason: str
) -> None:
    stage.body = lambda job, effects: effects.submit(task, payload)
    stage.submit(max_attempts=1)
    stage.run()
    assert (stage.job().status, reason in str(stage.job().error)) == (Status.DEAD, True)
