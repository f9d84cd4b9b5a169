"""The pytest plugin of the distribution. It loads nothing until a test asks for its fixture."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mayfly_testing.stack import Stack

__all__ = ["mayfly_stack", "pytest_addoption"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Adds the setting that names the template."""
    parser.addini(
        "mayfly_template", "the SAM template of mayfly_stack, from the root folder of the tests",
        default="template.yaml",
    )  # fmt: skip


@pytest.fixture(scope="session")
def mayfly_stack(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator["Stack"]:
    """Starts the whole application as `mayfly up` does, once for all tests, on free ports."""
    from mayfly_testing.stack import running

    template = pytestconfig.rootpath / str(pytestconfig.getini("mayfly_template"))
    with running(tmp_path_factory.mktemp("mayfly"), template=template) as stack:
        yield stack
