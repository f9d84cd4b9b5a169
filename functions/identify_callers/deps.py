"""Dependencies of `identify_callers`, and the settings that they are made from."""

from collections.abc import Mapping
from dataclasses import dataclass

from mayfly import resources
from mayfly.core.observability import Observer, observer
from mayfly.core.settings import read_settings
from mayfly.tenants import TenantStore

__all__ = ["Deps", "Settings", "from_environ"]


@dataclass(frozen=True)
class Deps:
    """The store of API keys."""

    tenants: TenantStore
    observe: Observer


@dataclass(frozen=True)
class Settings:
    """Variables of the function. One error names all that are missing."""

    tenants_table: str


def from_environ(env: Mapping[str, str]) -> Deps:
    """Makes the dependencies. Raises ConfigError."""
    settings = read_settings(Settings, env)
    return Deps(
        tenants=TenantStore(resources.dynamodb(), settings.tenants_table),
        observe=observer("identify_callers", env),
    )
