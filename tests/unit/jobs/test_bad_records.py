"""A record that does not have the form of a job takes down no list, no batch and no search."""

from typing import Any

import pytest
from mayfly.jobs.errors import BadRecord
from mayfly.jobs.items import read_listed
from mayfly.jobs.model import Status, Wake
from mayfly.jobs.wire import public

from tests.support.stage import Stage

DEEP = "[" * 20_000 + "]" * 20_000
#: Changes of an item, with the beginning of what is said about it.
BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "no task": ("REMOVE task", {}, "KeyError: 'task'"),
    "task that is a number": ("SET task = :v", {"N": "1"}, "KeyError: 'S'"),
    "unknown status": ("SET #status = :v", {"S": "PARKED"}, "ValueError: 'PARKED' is not"),
    "history that is not JSON": ("SET history = :v", {"L": [{"S": "{"}]}, "JSONDecodeError: "),
    "unknown outcome": (
        "SET history = :v",
        {"L": [{"S": '{"started":1,"ended":2,"outcome":"parked","error":null}'}]},
        "ValueError: 'parked' is not a valid Outcome",
    ),
    "history without outcomes": ("SET history = :v", {"L": [{"S": "{}"}]}, "KeyError: 'outcome'"),
    "number that is a text": ("SET attempt = :v", {"S": "x"}, "KeyError: 'N'"),
    "progress nested too deeply": ("SET progress = :v", {"S": DEEP}, "RecursionError: "),
    "result of 5000 digits": ("SET #result = :v", {"S": "1" * 5000}, "ValueError: Exceeds the"),
    "counts of unknown outcomes": ("SET omitted = :v", {"S": '{"parked":1}'}, "ValueError: "),
    "place with a fraction": (
        "SET attention_at = :v REMOVE tenant",
        {"N": "1800000060000.5"},
        "KeyError: 'tenant'",
    ),
    "tick without a time": ("SET tick = :v", {"S": "{}"}, "KeyError: 'schedule'"),
}


def spoil(stage: Stage, job_id: str, change: str, value: dict[str, Any]) -> None:
    """Changes a job's item as no release does."""
    names = {name: name[1:] for name in ("#status", "#result") if name in change}
    stage.client.update_item(
        TableName=stage.tables["JobsTable"],
        Key={"pk": {"S": f"acme/{job_id}"}, "sk": {"S": "job"}},
        UpdateExpression=change,
        **({"ExpressionAttributeNames": names} if names else {}),
        **({"ExpressionAttributeValues": {":v": value}} if value else {}),
    )


@pytest.mark.parametrize(("change", "value", "said"), BAD.values(), ids=BAD)
def test_list_shows_a_bad_record_as_one_and_the_others_as_they_are(
    stage: Stage, change: str, value: dict[str, Any], said: str
) -> None:
    for name in ("j1", "j2", "j3"):
        stage.submit(
            id=name, status=Status.SCHEDULED, not_before_ms=stage.clock() + 60_000, task="t"
        )
    spoil(stage, "j2", change, value)
    page = stage.operations.list(
        "acme", Status.SCHEDULED, limit=9, after=None, now_ms=stage.clock()
    )
    shown = {job.id: public(job, stage.clock()) for job in page.jobs}
    assert shown.keys() == {"j1", "j2", "j3"}
    assert shown["j2"]["error"].startswith(f"the record of this job cannot be read: {said}")
    assert shown["j2"]["status"] == "scheduled"
    assert (shown["j1"]["error"], shown["j3"]["error"]) == (None, None)


@pytest.mark.parametrize(("change", "value", "said"), BAD.values(), ids=BAD)
def test_bad_record_itself_is_an_error_that_names_it(
    stage: Stage, change: str, value: dict[str, Any], said: str
) -> None:
    stage.submit()
    spoil(stage, "j1", change, value)
    with pytest.raises(BadRecord) as bad:
        stage.job()
    assert str(bad.value).startswith(f"the record of job 'j1' cannot be read: {said}")


@pytest.mark.parametrize(("change", "value", "said"), BAD.values(), ids=BAD)
def test_neighbours_of_a_bad_record_in_a_batch_run(
    dynamodb: Any, change: str, value: dict[str, Any], said: str
) -> None:
    stage = Stage(dynamodb)
    for name in ("j0", "j1", "j2"):
        stage.submit(id=name)
    spoil(stage, "j1", change, value)
    report = stage.handle(*(Wake("acme", f"j{number}") for number in range(3)))
    assert report["batchItemFailures"] == [{"itemIdentifier": "m1"}]
    assert [stage.job(name).status for name in ("j0", "j2")] == [Status.COMPLETED] * 2
    assert stage.count() == 2


def test_bad_record_does_not_end_the_command_that_resends_stranded_jobs(stage: Stage) -> None:
    for name in ("j1", "j2", "j3"):
        stage.submit(id=name)
    spoil(stage, "j2", "REMOVE task", {})
    found = stage.operations.stranded(before_ms=stage.clock() + 1)
    assert sorted(job.id for job in found if job is not None) == ["j1", "j3"]


def test_good_record_is_listed_as_it_is(stage: Stage) -> None:
    stage.submit(status=Status.SCHEDULED, not_before_ms=stage.clock() + 60_000)
    key = {"pk": {"S": "acme/j1"}, "sk": {"S": "job"}}
    item = stage.client.get_item(TableName=stage.tables["JobsTable"], Key=key)["Item"]
    assert read_listed(item, "acme", Status.SCHEDULED) == stage.job()
