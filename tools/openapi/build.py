"""`make openapi`: makes functions/hello/openapi.json and docs/api/index.html.

Routes, scopes and request bodies come from the handlers, errors from the library. operations.yaml
adds what code does not say: the summary of each operation, its parameters and its answers.
pydantic, which Powertools needs for it, is not part of the layer.
"""

import inspect
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module, resources
from pathlib import Path
from typing import Any, Final

import yaml
from mayfly.core.errors import MayflyError
from mayfly.web.access import PUBLIC
from mayfly.web.resolver import Route, api_of, route_shape

from tools.openapi.bodies import body_schema, merged
from tools.openapi.errors import all_errors

__all__ = ["DOCUMENT", "FUNCTIONS", "PAGE", "ROOT", "build", "main", "page"]

ROOT: Final = Path(__file__).parent.parent.parent
DOCUMENT: Final = ROOT / "functions" / "hello" / "openapi.json"
PAGE: Final = ROOT / "docs" / "api" / "index.html"
#: The functions that serve HTTP.
FUNCTIONS: Final = ("hello", "sessions", "counters", "jobs", "await_job", "schedules")
#: Errors of every operation that needs a key, and errors of every operation.
_OF_KEYS: Final = ("unauthenticated", "forbidden", "quota-exceeded")
_OF_ALL: Final = ("invalid-request", "store-unavailable", "internal-error")
#: Errors that API Gateway returns itself (docs/http.md).
_OF_GATEWAY: Final = {
    401: "Unauthorized", 413: "Request Entity Too Large", 429: "Too Many Requests",
    500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip
#: Headers of errors, by status.
_HEADERS_OF: Final = {
    401: ["WWW-Authenticate"],
    429: ["RateLimit", "RateLimit-Policy", "Retry-After"],
    503: ["Retry-After"],
}


class _Nothing:
    """A placeholder for the dependencies of a handler that is described but never called."""

    page_limit = 0
    quota = None

    def __getattr__(self, name: str) -> Any:
        return _Nothing()

    def __call__(self, *_: Any, **__: Any) -> Any:
        return _Nothing()


@dataclass(frozen=True)
class Described:
    """A route as its handler describes it."""

    function: str
    route: Route
    operation_id: str


def build() -> dict[str, Any]:
    """Returns the document. Raises ValueError if the handlers and operations.yaml differ."""
    written = yaml.safe_load(
        (Path(__file__).parent / "operations.yaml").read_text(encoding="utf-8")
    )
    described = from_handlers()
    shapes = {route_shape(key): key for key in written["operations"]}
    if missing := set(described) - set(shapes):
        raise ValueError(
            f"tools/openapi/operations.yaml has no entry for {', '.join(sorted(missing))}"
        )
    if unknown := set(shapes) - set(described):
        raise ValueError(
            f"no handler serves {', '.join(shapes[shape] for shape in sorted(unknown))}, which "
            "tools/openapi/operations.yaml describes"
        )
    paths: dict[str, Any] = {}
    shared: dict[str, Any] = {}
    schemas = dict(written["schemas"])
    for key, added in written["operations"].items():
        method, path = key.split(" ")
        handler = described[route_shape(key)]
        body = added.get("body", {})
        if (handler.route.body is None) != (not body or body.get("free", False)):
            raise ValueError(f"{key}: handler and operations.yaml differ in whether it has a body")
        if handler.route.body is not None:
            name = body["schema"]
            schemas[name] = merged(
                body_schema(handler.route.body), written["schemas"].get(name, {})
            )
        paths.setdefault(path, {})[method.lower()] = _operation(
            key, handler, added, written, shared
        )
    return {
        "openapi": "3.1.0",
        "info": {
            **written["info"],
            "version": _version(),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": written["tags"],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": dict(sorted(shared.items())),
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key, `mf_...`, with the scope of the operation.",
                }
            },
        },
    }


def from_handlers() -> dict[str, Described]:
    """Returns every route by its shape (`GET /jobs/{}`), as its handler describes it."""
    routes: dict[str, Described] = {}
    for function in FUNCTIONS:
        app = import_module(f"functions.{function}.app")
        api = api_of(app.build(_Nothing()))
        described = api.resolver.get_openapi_schema().model_dump(
            by_alias=True, exclude_none=True, mode="json"
        )
        for path, operations in described["paths"].items():
            for method, operation in operations.items():
                shape = route_shape(f"{method.upper()} {path}")
                routes[shape] = Described(function, api.routes[shape], operation["operationId"])
    return routes


def _operation(
    key: str,
    described: Described,
    added: Mapping[str, Any],
    written: Mapping[str, Any],
    shared: dict[str, Any],
) -> dict[str, Any]:
    scope = described.route.scope
    is_public = scope == PUBLIC
    operation: dict[str, Any] = {
        "tags": [added["tag"]],
        "summary": added["summary"],
        "operationId": described.operation_id,
    }
    if "description" in added:
        operation["description"] = added["description"]
    if not is_public:
        operation |= {"security": [{"key": []}], "x-scope": scope}
    parameters = [
        written["parameters"][parameter] if isinstance(parameter, str) else parameter
        for parameter in added.get("parameters", ())
    ]
    if sum(parameter["in"] == "path" for parameter in parameters) != len(re.findall(r"\{", key)):
        raise ValueError(
            f"{key}: operations.yaml describes other path parameters than its path has"
        )
    if parameters:
        operation["parameters"] = parameters
    if "body" in added:
        operation["requestBody"] = _body(added["body"])
    answers = {str(status): _answer(spec, written) for status, spec in added["answers"].items()}
    codes = [*added.get("errors", ()), *_OF_ALL, *(() if is_public else _OF_KEYS)]
    if "body" in added and "payload-too-large" not in codes:
        raise ValueError(f"{key}: a body may be too large, so its errors need payload-too-large")
    operation["responses"] = _with_errors(
        answers, codes, shared, written["headers"], is_public=is_public
    )
    return operation


def _body(spec: Mapping[str, Any]) -> dict[str, Any]:
    content = {
        "schema": {"$ref": f"#/components/schemas/{spec['schema']}"},
        "example": spec["example"],
    }
    return {
        "required": spec["required"],
        "content": dict.fromkeys(spec.get("types", ["application/json"]), content),
    }


def _answer(spec: Mapping[str, Any], written: Mapping[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": spec["description"]}
    if "headers" in spec:
        answer["headers"] = {name: written["headers"][name] for name in spec["headers"]}
    if "links" in spec:
        answer["links"] = spec["links"]
    if "content" in spec:
        answer["content"] = spec["content"]
    elif "schema" in spec:
        example = {"example": spec["example"]} if "example" in spec else {}
        answer["content"] = {
            "application/json": {
                "schema": {"$ref": f"#/components/schemas/{spec['schema']}"},
                **example,
            }
        }
    return answer


def _with_errors(
    answers: dict[str, Any],
    codes: list[str],
    shared: dict[str, Any],
    headers: Mapping[str, Any],
    *,
    is_public: bool,
) -> dict[str, Any]:
    """Returns all responses of an operation.

    Responses that are only errors are written once, among the components.
    """
    known = all_errors()
    by_status: dict[int, list[type[MayflyError]]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(known[code].status, []).append(known[code])
    for status, classes in sorted(by_status.items()):
        is_its_own = str(status) in answers
        answer = answers.setdefault(str(status), {"description": ""})
        said = "; ".join(f"`{error.code}`: {_first_sentence(error)}" for error in classes)
        answer["description"] = f"{answer['description']} {said}".strip()
        for header in _HEADERS_OF.get(status, ()):
            answer.setdefault("headers", {})[header] = headers[header]
        answer.setdefault("content", {})["application/problem+json"] = {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "examples": {error.code: {"value": _example(error)} for error in classes},
        }
        if status in _OF_GATEWAY and not (status == 401 and is_public):
            example = {"message": _OF_GATEWAY[status]}
            own = answer["content"].get("application/json")
            schema = {"$ref": "#/components/schemas/GatewayError"}
            answer["content"]["application/json"] = {
                "schema": schema if own is None else {"anyOf": [own["schema"], schema]},
                "example": example,
            }
        if not is_its_own:
            name = ".".join(error.code for error in classes)
            shared[name] = answer
            answers[str(status)] = {"$ref": f"#/components/responses/{name}"}
    return dict(sorted(answers.items()))


def _first_sentence(error: type[MayflyError]) -> str:
    if error is MayflyError:
        return "An unexpected error occurred."
    return re.split(r"(?<=\.)\s", inspect.getdoc(error) or "", maxsplit=1)[0].replace("\n", " ")


def _example(error: type[MayflyError]) -> dict[str, Any]:
    example = {
        "type": error.type_uri or f"urn:mayfly:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": _first_sentence(error),
        "code": error.code,
        "request_id": "b5f0c8e2-0000-4000-8000-000000000000",
    }
    return {**example, "field": "task"} if error.code == "invalid-request" else example


def _version() -> str:
    match = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert match
    return match[1]


def page(document: dict[str, Any]) -> str:
    """Returns a page that works from any folder.

    The page contains the document. The viewer is next to it.
    """
    inline = json.dumps(document).replace("</", "<\\/")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Mayfly: '
        "HTTP API</title>\n"
        '<link rel="stylesheet" href="swagger-ui.min.css">\n</head>\n<body>\n<div id="api"></div>\n'
        '<script src="swagger-ui-bundle.min.js"></script>\n'
        f'<script>SwaggerUIBundle({{spec: {inline}, dom_id: "#api", deepLinking: true, '
        f"supportedSubmitMethods: []}})</script>\n"
        "</body>\n</html>\n"
    )


def main() -> int:
    """Writes both files, and copies the viewer from Powertools."""
    document = build()
    DOCUMENT.write_text(
        json.dumps(document, separators=(",", ":"), ensure_ascii=False) + "\n", encoding="utf-8"
    )
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(document), encoding="utf-8")
    viewer = resources.files("aws_lambda_powertools.event_handler.openapi.swagger_ui")
    for name in ("swagger-ui-bundle.min.js", "swagger-ui.min.css"):
        (PAGE.parent / name).write_bytes((viewer / name).read_bytes())
    return 0


if __name__ == "__main__":
    sys.exit(main())
