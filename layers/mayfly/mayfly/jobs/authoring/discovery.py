"""Finds tasks by name, in two ways.

The worker imports the files under functions/tasks/. The API only reads their declarations, so it
can accept a job without importing the code that runs it.
"""

import ast
import importlib
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from mayfly.jobs.authoring.task import Declaration, Task
from mayfly.jobs.errors import BadTask

__all__ = ["declared", "imported"]


def imported(package: ModuleType, *, local: bool) -> Mapping[str, Task]:
    """Returns the tasks of a package by name; imports each of its modules.

    Raises BadTask if two share a name.
    """
    tasks: dict[str, Task] = {}
    for module in pkgutil.iter_modules(package.__path__):
        for value in vars(importlib.import_module(f"{package.__name__}.{module.name}")).values():
            is_task = isinstance(value, Task) and (local or not value.declaration.local)
            if is_task and tasks.setdefault(value.declaration.name, value) is not value:
                raise BadTask([f"two tasks are called {value.declaration.name!r}"])
    return tasks


def declared(folder: Path, *, local: bool) -> Mapping[str, Declaration]:
    """Returns the declarations in a folder of tasks by name; reads each file without an import.

    Raises BadTask with file and line.
    """
    declarations: dict[str, Declaration] = {}
    for path in sorted(folder.glob("*.py")):
        try:
            tree = ast.parse(path.read_text(), path)
        except SyntaxError as problem:
            raise BadTask([f"{path}:{problem.lineno}: {problem.msg}"]) from None
        for function in ast.walk(tree):
            for call in getattr(function, "decorator_list", ()):
                if isinstance(call, ast.Call) and _is_task(call.func):
                    declaration = _declaration(call, function, path, tree)
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


def _is_task(decorator: ast.expr) -> bool:
    """Returns True if a decorator is `task` or `jobs.task`."""
    name = (
        decorator.attr if isinstance(decorator, ast.Attribute) else getattr(decorator, "id", None)
    )
    return name == "task"


def _declaration(call: ast.Call, function: ast.AST, path: Path, tree: ast.Module) -> Declaration:
    payload = _payload(function, path, tree)
    try:
        arguments = [ast.literal_eval(value) for value in call.args]
        options = {option.arg or "": ast.literal_eval(option.value) for option in call.keywords}
        declaration = Declaration(*arguments, **options, payload=payload)
        declaration.check_function(is_async=isinstance(function, ast.AsyncFunctionDef))
        return declaration
    except (ValueError, TypeError):
        raise BadTask(
            [f"{path}:{call.lineno}: the arguments of @task must be literals of the right types"]
        ) from None
    except BadTask as problem:
        raise BadTask([f"{path}:{call.lineno}: {text}" for text in problem.problems]) from None


def _payload(function: ast.AST, path: Path, tree: ast.Module) -> Mapping[str, Any] | None:
    """Returns the schema of the payload that a task declares, None if its parameter is the job."""
    arguments = getattr(function, "args", None)
    if not isinstance(arguments, ast.arguments):
        return None
    first = next(iter([*arguments.posonlyargs, *arguments.args]), None)
    kind = first.annotation if first is not None else None
    if kind is None or (isinstance(kind, ast.Name) and kind.id == "Job"):
        return None  # nearly every task; the module for the others is imported for them only
    source = importlib.import_module("mayfly.jobs.authoring.payload_source")
    schema: Mapping[str, Any] | None = source.payload_schema(source.Module(path, tree), function)
    return schema
