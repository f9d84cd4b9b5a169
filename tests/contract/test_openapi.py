"""The API's description, compared with the code, the template and its own rules."""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from mayfly.core.json_input import Fields
from mayfly.tenants import ALL_SCOPES
from mayfly.web.resolver import PUBLIC, route_shape

from mayfly_local.application.template import load
from tools.openapi.bodies import body_schema
from tools.openapi.build import DOCUMENT, ROOT, build, from_handlers, page
from tools.openapi.errors import all_errors

FOUND = json.loads(DOCUMENT.read_text())
OPERATIONS = {
    f"{method.upper()} {path}": each
    for path, methods in FOUND["paths"].items()
    for method, each in methods.items()
}


def test_document_is_up_to_date_with_the_code() -> None:
    assert build() == FOUND, "run: make openapi"


def test_page_shows_the_document_with_the_viewer_next_to_it() -> None:
    shown = page(FOUND)
    assert "swagger-ui-bundle.min.js" in shown
    assert json.dumps(FOUND["paths"]).replace("</", "<\\/") in shown


def test_document_has_exactly_the_routes_of_the_template_with_their_scopes() -> None:
    template = load(ROOT / "template.yaml", cache=ROOT / ".mayfly" / "cache")
    (api,) = template.of_type("AWS::ApiGatewayV2::Api").values()
    routes = {
        f"{method.upper()} {path}": each
        for path, methods in api["Body"]["paths"].items()
        for method, each in methods.items()
    }
    del routes["X-AMAZON-APIGATEWAY-ANY-METHOD $default"]
    assert set(OPERATIONS) == set(routes)
    assert {key for key, each in OPERATIONS.items() if "security" in each} == {
        key for key, each in routes.items() if each.get("security")
    }
    served = from_handlers()
    assert all(
        each.get("x-scope", "public") == served[route_shape(key)].route.scope
        for key, each in OPERATIONS.items()
    )


def test_every_scope_of_a_route_can_be_given_to_a_key() -> None:
    assert {found.route.scope for found in from_handlers().values()} <= {PUBLIC, *ALL_SCOPES}


def test_reader_without_members_has_no_schema() -> None:
    def read(body: object) -> None:
        members = Fields(body)
        members.finish()

    with pytest.raises(ValueError, match="read reads no member"):
        body_schema(read)


def test_every_error_that_the_api_answers_is_in_the_document() -> None:
    documented = set(re.findall(r'"code": "([a-z-]+)"', json.dumps(FOUND)))
    classes = all_errors().values()
    answered = {error.code for error in classes if error.status != 500} - {
        "key-not-found",
        "not-found",
        "method-not-allowed",
        "job-is-live",
    }
    assert answered <= documented
    assert documented <= {error.code for error in classes}


def test_every_operation_with_json_has_an_example_or_a_schema() -> None:
    for key, operation in OPERATIONS.items():
        for content in operation.get("requestBody", {}).get("content", {}).values():
            assert "example" in content, key
        for status, answer in operation["responses"].items():
            assert status == "204" or "$ref" in answer or answer["content"], (key, status)


def test_pydantic_is_not_in_the_layer() -> None:
    assert "pydantic" not in (ROOT / "layers" / "mayfly" / "requirements.txt").read_text()


TASK = """
from dataclasses import dataclass
from mayfly import Effects, task

@dataclass
class Order:
    number: str
    items: int = 1

@task("orders.tally@v2")
def tally(order: Order, effects: Effects): ...
"""


@pytest.mark.parametrize(
    ("schema", "more"),
    [("NewJob", {}), ("Definition", {"every_seconds": 60})],
    ids=["job", "schedule"],
)
@pytest.mark.parametrize(
    ("body", "is_valid"),
    [
        ({"task": "orders.tally@v2", "payload": {"number": "7"}}, True),
        ({"task": "orders.tally@v2", "payload": {"number": 7}}, False),
        ({"task": "orders.tally@v2"}, False),
        ({"task": "another", "payload": {"number": 7}}, True),
        ({"task": "another"}, True),
    ],
    ids=["fits", "does-not-fit", "has-none", "other-task", "other-task-without-any"],
)
def test_document_has_the_payloads_that_tasks_declare(
    tmp_path: Path, schema: str, more: dict[str, Any], body: dict[str, Any], is_valid: bool
) -> None:
    (tmp_path / "orders.py").write_text(TASK)
    document = build(tmp_path)
    assert set(document["components"]["schemas"]) - set(FOUND["components"]["schemas"]) == {
        "Payload.orders.tally_v2"
    }
    validator = jsonschema.Draft202012Validator(
        {"$ref": f"#/components/schemas/{schema}", "components": document["components"]}
    )
    assert validator.is_valid({**body, **more}) is is_valid
