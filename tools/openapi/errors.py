"""All errors of the library, by their codes."""

import importlib
import pkgutil
from collections.abc import Iterator

import mayfly
from mayfly.core.errors import MayflyError

__all__ = ["all_errors"]


def all_errors() -> dict[str, type[MayflyError]]:
    """Returns the classes of every `errors` module of the library, by code."""
    for room in pkgutil.iter_modules(mayfly.__path__, "mayfly."):
        if room.ispkg:
            for module in pkgutil.iter_modules(
                importlib.import_module(room.name).__path__, f"{room.name}."
            ):
                if module.name.endswith(".errors"):
                    importlib.import_module(module.name)
    errors: list[type[MayflyError]] = [MayflyError, *_below(MayflyError)]
    return {error.code: error for error in errors}


def _below(error: type[MayflyError]) -> Iterator[type[MayflyError]]:
    for child in error.__subclasses__():
        if child.__module__.endswith(".errors"):
            yield child
            yield from _below(child)
