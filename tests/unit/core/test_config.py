"""Settings from the environment."""

from dataclasses import dataclass

import pytest
from mayfly.core.errors import ConfigError
from mayfly.core.settings import read_settings


@dataclass(frozen=True)
class Settings:
    jobs_table: str
    limit: int
    is_local: bool = False


def test_settings_are_read_with_their_types() -> None:
    assert read_settings(
        Settings, {"JOBS_TABLE": "t", "LIMIT": "3", "IS_LOCAL": "true"}
    ) == Settings("t", 3, is_local=True)


def test_every_problem_is_in_one_error() -> None:
    with pytest.raises(ConfigError) as caught:
        read_settings(Settings, {"LIMIT": "many", "IS_LOCAL": "yes"})
    assert caught.value.problems == [
        "JOBS_TABLE is missing",
        "LIMIT='many' is not a whole number",
        "IS_LOCAL='yes' is not true or false",
    ]


def test_empty_variable_is_not_a_table_name() -> None:
    with pytest.raises(ConfigError, match="JOBS_TABLE='' is not a text"):
        read_settings(Settings, {"JOBS_TABLE": "", "LIMIT": "1"})
