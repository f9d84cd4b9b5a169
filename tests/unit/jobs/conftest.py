"""Fixtures that several files of this folder share."""

from typing import Any

import pytest

from tests.support.stranded import Bury


@pytest.fixture
def bury(dynamodb: Any) -> Bury:
    """Returns the function that reads reports of lost announcements."""
    return Bury(dynamodb)
