"""Finds tasks by name, in two ways.

The worker imports the modules of a package of tasks. The API only reads their declarations, so it
can accept a job without importing the code that runs it. Both find the same tasks: those of the
package itself, of its modules and of its packages, at any depth.
"""

import ast
import importlib
import pkgutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from mayfly.core.errors import ConfigError
from mayfly.jobs.authoring.task import Declaration, Task
from mayfly.jobs.errors import BadTask

__all__ = ["declared", "imported", "places"]


def places(function: str, named: str, path: Sequence[str] | None = None) -> Mapping[str, Path]:
    """Returns the packages of tasks of a function, each with its folder or its file.

    These are `tasks` next to the function's own package, and the one that `named` names: the
    dotted name of any package or module. `function` is the name of a module of the function.
    Nothing is imported: a folder or a file is looked up on `path`, which is `sys.path` by default.
    Raises ConfigError if `named` is not found, or if nothing is named and nothing is next to it.
    """
    folders = [Path(entry) for entry in (sys.path if path is None else path)]
    own = ".".join([*function.split(".")[:-2], "tasks"])
    found = {name: place for name in (own, named) if (place := _place(name, folders))}
    if named and named not in found:
        raise ConfigError(
            [
                f"MAYFLY_TASKS={named!r} is neither a package nor a module that can be imported; "
                "name the one that holds your tasks, such as shop.tasks"
            ]
        )
    if not found:
        raise ConfigError(
            [f"MAYFLY_TASKS is missing, and there is no package {own} next to the function"]
        )
    return found


def _place(name: str, folders: Sequence[Path]) -> Path | None:
    parts = name.split(".")
    if not all(part.isidentifier() for part in parts):
        return None
    for folder in folders:
        place = folder.joinpath(*parts)
        if place.is_dir():
            return place
        if (module := place.with_suffix(".py")).is_file():
            return module
    return None


def imported(package: ModuleType, *, local: bool) -> Mapping[str, Task]:
    """Returns the tasks of a package or a module by name; imports each module of a package.

    Raises BadTask if two share a name.
    """
    tasks: dict[str, Task] = {}
    for module in _modules(package):
        for value in vars(module).values():
            is_task = isinstance(value, Task) and (local or not value.declaration.local)
            if is_task and tasks.setdefault(value.declaration.name, value) is not value:
                raise BadTask([f"two tasks are called {value.declaration.name!r}"])
    return tasks


def _modules(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for found in pkgutil.iter_modules(getattr(package, "__path__", ())):
        yield from _modules(importlib.import_module(f"{package.__name__}.{found.name}"))


def declared(place: Path, *, local: bool) -> Mapping[str, Declaration]:
    """Returns the declarations in a folder or a file by name; reads each file without an import.

    Raises BadTask with file and line.
    """
    declarations: dict[str, Declaration] = {}
    for path in _files(place):
        try:
            tree = ast.parse(path.read_text(), path)
        except SyntaxError as problem:
            raise BadTask([f"{path}:{problem.lineno}: {problem.msg}"]) from None
        for function in ast.walk(tree):
            for call in getattr(function, "decorator_list", ()):
                if isinstance(call, ast.Call) and _is_task(call.func):
                    declaration = _declaration(call, path)
                    if declaration.name in declarations:
                        raise BadTask(
                            [f"{path}:{call.lineno}: two tasks are called {declaration.name!r}"]
                        )
                    declarations[declaration.name] = declaration
    return {
        name: declaration
        for name, declaration in declarations.items()
        if local or not declaration.local
    }


def _files(place: Path) -> Iterator[Path]:
    """Yields the files that `_modules` imports."""
    if place.is_file():
        yield place
        return
    yield from sorted(place.glob("*.py"))
    for folder in sorted(place.iterdir()):
        if (folder / "__init__.py").is_file():
            yield from _files(folder)


def _is_task(decorator: ast.expr) -> bool:
    """Returns True if a decorator is `task` or `jobs.task`."""
    name = (
        decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", None)
    )
    return name == "task"


def _declaration(call: ast.Call, path: Path) -> Declaration:
    try:
        arguments = [ast.literal_eval(value) for value in call.args]
        options = {option.arg or "": ast.literal_eval(option.value) for option in call.keywords}
        return Declaration(*arguments, **options)
    except (ValueError, TypeError):
        raise BadTask(
            [f"{path}:{call.lineno}: the arguments of @task must be literals of the right types"]
        ) from None
    except BadTask as problem:
        raise BadTask([f"{path}:{call.lineno}: {text}" for text in problem.problems]) from None
