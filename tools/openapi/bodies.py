"""JSON Schemas of request bodies, from the readers that handlers name (`@api.post(..., body=...)`).

A reader takes its body apart with `mayfly.core.json_input.Fields`. Each call on it says one member:
`fields.integer("limit", 1, 100, default=None)`. The calls are read from the source of the reader
and of the functions to which it passes its fields; their arguments are evaluated in the reader's
module. `operations.yaml` adds what a reader cannot say, such as descriptions and examples.
"""

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from mayfly.core.json_input import NAME

__all__ = ["body_schema", "merged"]

_TYPES: Final = {"text": "string", "integer": "integer", "number": "number", "boolean": "boolean"}
_PARAMETERS: Final = {"integer": ("name", "low", "high"), "number": ("name", "low", "high")}


def body_schema(reader: Callable[..., Any]) -> dict[str, Any]:
    """Returns the schema of the bodies that `reader` takes.

    Raises ValueError if the reader names no member: its variable must be called `fields`.
    """
    properties: dict[str, Any] = {}
    required: list[str] = []
    for verb, arguments in _members(reader):
        name = arguments["name"]
        properties[name] = _property(verb, arguments)
        if "default" not in arguments:
            required.append(name)
    if not properties:
        raise ValueError(
            f"{reader.__name__} reads no member by a variable `fields = Fields(body)`, so its "
            "schema cannot be derived"
        )
    schema: dict[str, Any] = {"type": "object", "additionalProperties": False}
    if required:
        schema["required"] = required
    return {**schema, "properties": properties}


def merged(schema: Any, added: Any) -> Any:
    """Returns `schema` with the members of `added`, which replace those of the same name."""
    if not isinstance(schema, dict) or not isinstance(added, dict):
        return added
    return {
        **schema,
        **{
            name: merged(schema[name], value) if name in schema else value
            for name, value in added.items()
        },
    }


def _members(reader: Callable[..., Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields the calls on `fields`, in order: the verb and its arguments by name."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(reader)))
    scope: Mapping[str, Any] = vars(inspect.getmodule(reader))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        target = call.func
        if _is_fields(getattr(target, "value", None)) and isinstance(target, ast.Attribute):
            if target.attr != "finish":
                yield target.attr, _arguments(call, target.attr, scope)
        elif isinstance(target, ast.Name) and any(map(_is_fields, call.args)):
            yield from _members(scope[target.id])


def _is_fields(node: ast.AST | None) -> bool:
    return isinstance(node, ast.Name) and node.id == "fields"


def _arguments(call: ast.Call, verb: str, scope: Mapping[str, Any]) -> dict[str, Any]:
    def value(node: ast.expr) -> Any:
        code = compile(ast.Expression(node), "<reader>", "eval")
        return eval(code, dict(scope))  # noqa: S307 - an argument in our own source

    names = _PARAMETERS.get(verb, ("name",))
    arguments = {name: value(node) for name, node in zip(names, call.args, strict=True)}
    return arguments | {str(keyword.arg): value(keyword.value) for keyword in call.keywords}


def _property(verb: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the schema of one member. One whose default is None may be null as well."""
    if verb == "anything":
        schema: dict[str, Any] = {}
    elif arguments.get("pattern") is NAME:
        schema = {"$ref": "#/components/schemas/Name"}
    else:
        schema = {"type": _TYPES[verb]}
        if "low" in arguments:
            schema |= {"minimum": arguments["low"], "maximum": arguments["high"]}
        if isinstance(pattern := arguments.get("pattern"), re.Pattern):
            schema["pattern"] = f"^{pattern.pattern}$"
    default = arguments.get("default", ...)
    if default is None and schema:
        if "type" not in schema:
            return {"anyOf": [schema, {"type": "null"}]}
        return schema | {"type": [schema["type"], "null"]}
    return schema if default in (..., None) else schema | {"default": default}
