"""The route of an API that takes a request, and the stage that the request is for."""

from collections.abc import Sequence
from urllib.parse import unquote

from mayfly_local.application.apis import Api, ApiKind, Route, Stage

__all__ = ["find_stage", "match"]


def find_stage(api: Api, path: str) -> tuple[Stage, str]:
    """Returns the stage of a request, and its path without the stage.

    A request that names no stage is for the first one, as under `sam local`. On AWS, only an HTTP
    API answers such a request, by its stage `$default`.
    """
    first, _, rest = path.removeprefix("/").partition("/")
    for stage in api.stages:
        if stage.name == first:
            return stage, f"/{rest}"
    default = next((stage for stage in api.stages if stage.name == "$default"), api.stages[0])
    return default, path


def match(
    routes: Sequence[Route], method: str, path: str, *, kind: ApiKind = ApiKind.HTTP
) -> tuple[Route, dict[str, str]] | None:
    """Returns the route for a request and its path parameters.

    The most specific path wins, then the method before ANY.
    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-routes.html
    A REST API ignores a slash at the end, and finds the resource before the method: a method that
    the most specific resource lacks is not looked for in others. Its path parameters stay
    percent-encoded; those of an HTTP API are decoded.
    """
    if kind is ApiKind.REST and len(path) > 1:
        path = path.removesuffix("/")
    candidates = []
    for route in routes:
        parameters = _path_parameters(route.path, path, is_decoded=kind is not ApiKind.REST)
        if parameters is not None and (kind is ApiKind.REST or route.method in (method, "ANY")):
            candidates.append((_specificity(route, kind), route, parameters))
    if not candidates:
        return None
    best = max(specificity[:-1] for specificity, _, _ in candidates)
    usable = [
        candidate
        for candidate in candidates
        if candidate[1].method in (method, "ANY")
        and (kind is not ApiKind.REST or candidate[0][:-1] == best)
    ]
    if not usable:
        return None
    _, route, parameters = max(usable, key=lambda candidate: candidate[0])
    return route, parameters


def _specificity(route: Route, kind: ApiKind) -> tuple[int, tuple[int, ...], int]:
    """Returns a value that is larger for a more specific route.

    A literal part of the path comes before a parameter, from left to right, and a parameter before
    a greedy one. In an HTTP API, every path without a greedy parameter comes before all others.
    """
    if route.path == "$default":
        return (0, (), int(route.method != "ANY"))
    parts = tuple(
        2 if not part.startswith("{") else 0 if part.endswith("+}") else 1
        for part in route.path.split("/")
    )
    is_whole = int(kind is not ApiKind.REST and "+}" not in route.path)
    return (1 + is_whole, parts, int(route.method != "ANY"))


def _path_parameters(template: str, path: str, *, is_decoded: bool) -> dict[str, str] | None:
    if template == "$default":
        return {}
    read = unquote if is_decoded else str
    wanted, actual = template.split("/"), path.split("/")
    parameters: dict[str, str] = {}
    for index, part in enumerate(wanted):
        if part.startswith("{") and part.endswith("+}"):
            rest = "/".join(actual[index:])
            return {**parameters, part[1:-2]: read(rest)} if rest else None
        if index >= len(actual):
            return None
        if part.startswith("{"):
            if not actual[index]:
                return None
            parameters[part[1:-1]] = read(actual[index])
        elif part != unquote(actual[index]):
            return None
    return parameters if len(wanted) == len(actual) else None
