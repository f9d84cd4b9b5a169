"""The stack that several files of tests share."""

from collections.abc import Iterator

import pytest

from mayfly_testing.stack import Stack, running

#: Lag of TTL on the shared stack, in seconds. AWS may take days.
TWO_DAYS = 2 * 24 * 3600


@pytest.fixture(scope="session")
def shared_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Starts one stack for all files in `tests.conftest.SHARED`, whose tests run in one process."""
    folder = tmp_path_factory.mktemp("shared")
    with running(folder, "--ttl-lag", str(TWO_DAYS), work=folder / ".mayfly") as stack:
        assert stack.get("/").status_code == 200
        yield stack
