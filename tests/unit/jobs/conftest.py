"""Fixtures that several files of this folder share."""

from typing import Any

import pytest
from mayfly.aws.dynamodb import DynamoDB
from mayfly.jobs.model import Job
from mayfly.jobs.store import JobStore

from tests.support.jobs import a_job
from tests.support.stage import Stage
from tests.support.stranded import Bury


@pytest.fixture
def bury(dynamodb: Any, streamed: None) -> Bury:
    """Returns the function that reads reports of lost announcements."""
    return Bury(dynamodb)


@pytest.fixture
def pauses() -> list[int]:
    """Returns the attempts before which `store` has paused."""
    return []


@pytest.fixture
def store(dynamodb: Any, pauses: list[int]) -> JobStore:
    """Returns a store on moto."""
    return JobStore(DynamoDB(dynamodb, pauses.append), "JobsTable")


@pytest.fixture
def job(store: JobStore) -> Job:
    """Creates a job in `store`."""
    store.create(a_job())
    return a_job()


@pytest.fixture(params=["optimistic", "exclusive"])
def stage(request: pytest.FixtureRequest, dynamodb: Any) -> Stage:
    """Returns a worker whose task runs unclaimed, or one whose task is claimed.

    Most tests run with both.
    """
    return Stage(dynamodb, exclusive=request.param == "exclusive")


@pytest.fixture
def claiming(dynamodb: Any) -> Stage:
    """Returns a worker that claims each job before it runs."""
    return Stage(dynamodb, exclusive=True)
