"""Fixtures that several files of this folder share."""

from typing import Any

import pytest
from mayfly.aws.dynamodb import DynamoDB
from mayfly.jobs.model import Job
from mayfly.jobs.store import JobStore

from tests.support.jobs import a_job
from tests.support.stranded import Bury


@pytest.fixture
def bury(dynamodb: Any) -> Bury:
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
