"""Tasks whose first parameter is a dataclass, read from their source without an import.

A class is found in the file of the task, or in the file of the application that it is imported
from. The schemas are those of `payload_types`; a test compares them.
"""

import ast
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any, Final

from mayfly.jobs.authoring import payloads
from mayfly.jobs.authoring.payloads import Schema
from mayfly.jobs.errors import BadTask

__all__ = ["Module", "payload_schema"]

#: Names that mean the job itself, or do not say what the first parameter is.
_OF_JOBS: Final = {"Job", "Any", "object"}
_OPTIONAL, _UNION, _LITERAL = "Optional", "Union", "Literal"
_LISTS, _DICTS = {"list", "List"}, {"dict", "Dict"}
_GENERIC: Final = {_OPTIONAL, _UNION, _LITERAL, *_LISTS, *_DICTS}
_ENUMS: Final = {"Enum", "StrEnum", "IntEnum"}
_PARAMETERS: Final = 3
#: The most modules from which a class is imported on; modules may import each other.
_HOPS: Final = 10


@dataclass(frozen=True)
class Module:
    """A file of source code."""

    path: Path
    tree: ast.Module

    def refusal(self, node: ast.AST, problem: str) -> BadTask:
        """Returns an error with file and line."""
        return BadTask([f"{self.path}:{getattr(node, 'lineno', 1)}: {problem}"])

    def find(
        self, name: str, *, hops: int = _HOPS
    ) -> "tuple[Module, ast.ClassDef] | ast.ImportFrom | None":
        """Returns the class of a name, with its module; follows imports over `hops` modules.

        Returns the import if its module is not a file of the application, and None if there is no
        such name.
        """
        for node in self.tree.body:
            if isinstance(node, ast.ClassDef) and node.name == name:
                return self, node
        imports = (each for each in ast.walk(self.tree) if isinstance(each, ast.ImportFrom))
        for imported in imports:
            for alias in imported.names:
                if (alias.asname or alias.name) == name:
                    other = self._imported(imported) if hops else None
                    if other is None:
                        return imported
                    return other.find(alias.name, hops=hops - 1) or imported
        return None

    def _imported(self, node: ast.ImportFrom) -> "Module | None":
        """Returns the module that a `from ... import` names, None if its source is not here."""
        if node.level:
            folder = self.path.parents[node.level - 1]
            file = folder.joinpath(*(node.module or "__init__").split("."))
            candidates = [file.with_suffix(".py"), file / "__init__.py"]
            origin = next((str(path) for path in candidates if path.is_file()), None)
        else:
            origin = self._origin(node.module or "")
        if origin is None or not origin.endswith(".py"):
            return None
        return Module(Path(origin), ast.parse(Path(origin).read_text(), origin))

    def _origin(self, module: str) -> str | None:
        """Returns the file of a module, by the path of Python; nothing is imported."""
        if module.partition(".")[0] in (*sys.stdlib_module_names, "mayfly"):
            return None
        # The folder that has the package is one of those above this file's own.
        places: Sequence[str] = [*map(str, self.path.resolve().parents[1:-1]), *sys.path]
        origin = None
        for name in module.split("."):
            spec = PathFinder.find_spec(name, places)
            if spec is None:
                return None
            origin, places = spec.origin, list(spec.submodule_search_locations or [])
        return origin


def payload_schema(
    module: Module, function: ast.FunctionDef | ast.AsyncFunctionDef
) -> Schema | None:
    """Returns the schema of the payload that a task declares, None if it takes the job.

    Raises BadTask, with file and line.
    """
    parameters = [*function.args.posonlyargs, *function.args.args]
    kind = _unquoted(module, parameters[0].annotation) if parameters else None
    if kind is None or _last_name(kind) in _OF_JOBS:
        return None
    found = module.find(kind.id) if isinstance(kind, ast.Name) else None
    if isinstance(found, ast.ImportFrom) and _is_job(found, kind):
        return None
    if not isinstance(found, tuple) or not _is_dataclass(found[1]):
        raise module.refusal(
            kind,
            f"{ast.unparse(kind)} is neither Job nor a dataclass whose source is in the "
            "application, so it cannot be the first parameter of a task",
        )
    if len(parameters) not in (2, _PARAMETERS):
        raise module.refusal(
            function, "a task with a payload takes (payload, effects) or (payload, effects, job)"
        )
    return _schema(module, kind, ())


def _is_job(node: ast.ImportFrom, kind: ast.expr) -> bool:
    """Returns True if a name is imported from the library as another name of Job."""
    is_library = node.level == 0 and (node.module or "").partition(".")[0] == "mayfly"
    return is_library and any(
        alias.name == "Job" and isinstance(kind, ast.Name) and alias.asname == kind.id
        for alias in node.names
    )


def _is_dataclass(node: ast.ClassDef) -> bool:
    decorators = (
        decorator.func if isinstance(decorator, ast.Call) else decorator
        for decorator in node.decorator_list
    )
    return any(_last_name(decorator) == "dataclass" for decorator in decorators)


def _schema(module: Module, node: ast.expr, within: tuple[str, ...]) -> Schema:
    node = _unquoted(module, node) or node
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return payloads.one_of(_schema(module, side, within) for side in (node.left, node.right))
    if isinstance(node, ast.Constant) and node.value is None:
        return payloads.scalar("None") or {}
    if isinstance(node, ast.Subscript) and _last_name(node.value) in _GENERIC:
        return _generic(module, node, within)
    if isinstance(node, ast.Name):
        found = module.find(node.id)
        if isinstance(found, tuple):
            return _class(*found, within)
        if found is None and (schema := payloads.scalar(node.id)) is not None:
            return schema
    if _last_name(node) in _LISTS:
        return payloads.array(None)
    if _last_name(node) in _DICTS:
        return payloads.mapping(None)
    raise module.refusal(
        node,
        f"{ast.unparse(node)} cannot be a type of a payload; use str, int, float, bool, None, "
        "list, dict, Literal, or an Enum or a dataclass whose source is in the application",
    )


def _generic(module: Module, node: ast.Subscript, within: tuple[str, ...]) -> Schema:
    name = _last_name(node.value)
    arguments = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
    if name == _LITERAL:
        return payloads.choice(_literals(module, arguments))
    if name in _DICTS:
        if len(arguments) != 2 or _last_name(arguments[0]) != "str":
            raise module.refusal(node, f"the keys of {ast.unparse(node)} must be str")
        return payloads.mapping(_schema(module, arguments[1], within))
    schemas = [_schema(module, argument, within) for argument in arguments]
    if name in _LISTS:
        return payloads.array(schemas[0])
    none = [{"type": "null"}] if name == _OPTIONAL else []
    return payloads.one_of([*schemas, *none])


def _literals(module: Module, nodes: Sequence[ast.expr]) -> Iterator[Any]:
    for node in nodes:
        value = _literal(node)
        if type(value) not in (str, int, bool, type(None)):
            raise module.refusal(
                node, "the values of Literal must be texts, whole numbers, bool or None"
            )
        yield value


def _class(module: Module, node: ast.ClassDef, within: tuple[str, ...]) -> Schema:
    name = f"{module.path}:{node.name}"
    if name in within:
        raise module.refusal(node, f"{node.name} contains itself")
    bases = {_last_name(base) for base in node.bases}
    if bases & _ENUMS:
        return payloads.choice(_values(module, node))
    if not _is_dataclass(node):
        raise module.refusal(
            node, f"{node.name} must be a dataclass or an Enum, to be part of a payload"
        )
    if bases - {"object"}:
        raise module.refusal(
            node, f"{node.name} inherits from another class; write its fields into it"
        )
    members: dict[str, Schema] = {}
    required: list[str] = []
    for member in node.body:
        if not isinstance(member, ast.AnnAssign) or not isinstance(member.target, ast.Name):
            continue
        if _last_name(member.annotation) == "KW_ONLY":
            continue
        schema = _schema(module, member.annotation, (*within, name))
        has_default, default = _default(module, member)
        if type(default) in (str, int, float, bool, type(None)):
            schema = {**schema, "default": default}
        members[member.target.id] = schema
        if not has_default:
            required.append(member.target.id)
    return payloads.record(members, required)


def _values(module: Module, node: ast.ClassDef) -> Iterator[Any]:
    """Yields the values of an Enum."""
    for member in node.body:
        if isinstance(member, ast.Assign):
            value = _literal(member.value)
            if type(value) not in (str, int):
                raise module.refusal(
                    member, f"the values of {node.name} must be texts or whole numbers"
                )
            yield value


def _default(module: Module, member: ast.AnnAssign) -> tuple[bool, Any]:
    """Returns whether a field has a default, and the default if it is a literal."""
    value = member.value
    if value is None:
        return False, _NOT_LITERAL
    if isinstance(value, ast.Call) and _last_name(value.func) == "field":
        options = {option.arg: option.value for option in value.keywords}
        if (init := options.get("init")) is not None and _literal(init) is not True:
            raise module.refusal(
                member, f"{ast.unparse(member.target)} is not an argument of its class"
            )
        default = options.get("default")
        return (
            default is not None or "default_factory" in options,
            _NOT_LITERAL if default is None else _literal(default),
        )
    return True, _literal(value)


#: The value of an expression that is not a literal.
_NOT_LITERAL: Final = object()


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return _NOT_LITERAL


def _unquoted(module: Module, node: ast.expr | None) -> ast.expr | None:
    """Returns the type in a quoted annotation."""
    if not (isinstance(node, ast.Constant) and isinstance(node.value, str)):
        return node
    try:
        return ast.copy_location(ast.parse(node.value, mode="eval").body, node)
    except SyntaxError:
        raise module.refusal(node, f"{node.value!r} is not a type") from None


def _last_name(node: ast.expr) -> str | None:
    """Returns `x` of `x`, and of `module.x`."""
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", None)
