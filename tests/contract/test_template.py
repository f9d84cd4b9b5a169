"""template.yaml, compared with the code and with its own rules."""

import dataclasses
import re
from importlib import import_module
from pathlib import Path
from typing import Any

import mayfly
import pytest
from mayfly.jobs.rules import MAX_MAX_ATTEMPTS
from mayfly.web.resolver import PUBLIC, route_shape

from functions.hello.app import _all_routes
from mayfly_cli.bundling.target import target_of
from mayfly_local.application.template import load
from tools.openapi.build import from_handlers

ROOT = Path(__file__).parent.parent.parent
TEMPLATE = load(ROOT / "template.yaml", cache=ROOT / ".mayfly" / "cache")
FUNCTIONS = TEMPLATE.of_type("AWS::Lambda::Function")
TABLES = {
    name: each
    for name, each in TEMPLATE.resources.items()
    if each["Type"] == "AWS::DynamoDB::Table"
}
QUEUES = TEMPLATE.of_type("AWS::SQS::Queue")
MAPPINGS = TEMPLATE.of_type("AWS::Lambda::EventSourceMapping")


def statements() -> list[tuple[str, dict[str, Any]]]:
    return [
        (name, statement)
        for name, role in TEMPLATE.of_type("AWS::IAM::Role").items()
        for policy in role.get("Policies", [])
        for statement in policy["PolicyDocument"]["Statement"]
    ]


def test_every_function_is_built_with_the_library_for_the_runtime_of_all() -> None:
    methods = {TEMPLATE.resources[name]["Metadata"]["BuildMethod"] for name in FUNCTIONS}
    folders = {function["Code"]["S3Key"] for function in FUNCTIONS.values()}
    assert (methods, folders) == ({"makefile"}, {"functions"})
    assert TEMPLATE.libraries == (ROOT / "layers" / "mayfly",)
    target = target_of(ROOT / "template.yaml")
    for function in FUNCTIONS.values():
        assert (function["Runtime"], function["Architectures"]) == (
            f"python{target.version}",
            ["arm64"],
        )
    assert target.platform == "manylinux2014_aarch64"


def test_no_policy_holds_a_star() -> None:
    assert len(statements()) >= 10
    for role, statement in statements():
        actions = (
            statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        )
        assert not any("*" in action for action in actions), role
        # Objects and parameters under a prefix of ours; never all of a kind.
        assert not re.search(r"\*(?!')", str(statement["Resource"])), role
        assert not re.search(
            r"(?<!/webhooks/)(?<!ImportsBucket\.Arn}/)(?<!RelayReports\.Arn}/aws/lambda/)\*",
            str(statement["Resource"]),
        ), role


def test_every_function_has_its_own_role_and_log() -> None:
    roles = [function["Role"]["Fn::GetAtt"][0] for function in FUNCTIONS.values()]
    logs = [function["LoggingConfig"]["LogGroup"]["Ref"] for function in FUNCTIONS.values()]
    assert len(set(roles)) == len(set(logs)) == len(FUNCTIONS)
    assert not any(
        "ManagedPolicyArns" in role for role in TEMPLATE.of_type("AWS::IAM::Role").values()
    )


@pytest.mark.parametrize("name", TABLES)
def test_every_table_is_kept_encrypted_and_recoverable(name: str) -> None:
    table, properties = TABLES[name], TABLES[name]["Properties"]
    assert (table["DeletionPolicy"], table["UpdateReplacePolicy"]) == ("Retain", "Retain")
    assert properties["TimeToLiveSpecification"] == {"AttributeName": "expires_at", "Enabled": True}
    assert properties["PointInTimeRecoverySpecification"] == {"PointInTimeRecoveryEnabled": True}
    assert properties["SSESpecification"] == {"SSEEnabled": True}
    assert properties["BillingMode"] == "PAY_PER_REQUEST"
    assert properties["DeletionProtectionEnabled"] == {"Ref": "DeletionProtection"}


def test_queues_are_encrypted_and_dead_letter_queues_keep_longer_than_their_source() -> None:
    assert all(queue["SqsManagedSseEnabled"] for queue in QUEUES.values())
    sources = {name: each for name, each in QUEUES.items() if "RedrivePolicy" in each}
    assert sources
    for queue in sources.values():
        dead = QUEUES[queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]]
        assert dead["MessageRetentionPeriod"] > queue["MessageRetentionPeriod"]


def test_visibility_of_a_queue_is_its_functions_timeout_and_longer_than_the_lease() -> None:
    pairs = [
        (mapping["EventSourceArn"]["Fn::GetAtt"][0], mapping["FunctionName"]["Ref"])
        for mapping in MAPPINGS.values()
    ]
    checked = [(QUEUES[queue], FUNCTIONS[function]) for queue, function in pairs if queue in QUEUES]
    assert checked
    for queue, function in checked:
        assert queue["VisibilityTimeout"] == function["Timeout"]
        assert queue["VisibilityTimeout"] > int(str(TEMPLATE.parameters["LeaseSeconds"]))


def test_every_queue_has_a_function_that_cannot_use_up_the_accounts_concurrency() -> None:
    """A new account may have a concurrency of 10 for all its functions."""
    of_queues = {
        mapping["EventSourceArn"]["Fn::GetAtt"][0]: mapping
        for mapping in MAPPINGS.values()
        if "StartingPosition" not in mapping
    }
    assert set(of_queues) == set(QUEUES)
    assert all(each["ScalingConfig"]["MaximumConcurrency"] for each in of_queues.values())


def test_no_message_can_use_up_its_receives_before_its_job_uses_up_its_attempts() -> None:
    assert QUEUES["JobsQueue"]["RedrivePolicy"]["maxReceiveCount"] >= 2 * MAX_MAX_ATTEMPTS


def test_every_mapping_reports_single_failures_and_no_stream_can_get_stuck() -> None:
    for mapping in MAPPINGS.values():
        assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
        if "StartingPosition" in mapping:
            assert mapping["BisectBatchOnFunctionError"]
            # By age alone: retries are used up within minutes of an outage. The report must come
            # before the stream drops the record.
            assert mapping["MaximumRetryAttempts"] == -1
            assert 23 * 3600 <= mapping["MaximumRecordAgeInSeconds"] < 24 * 3600
            # Not a queue: SQS may be what is down.
            destination = mapping["DestinationConfig"]["OnFailure"]["Destination"]
            name = destination["Fn::GetAtt"][0]
            assert TEMPLATE.resources[name]["Type"] == "AWS::S3::Bucket"


def test_405_table_has_exactly_the_routes_of_the_template() -> None:
    routes: dict[str, set[str]] = {}
    for key in served():
        method, _, path = key.partition(" ")
        if path:
            routes.setdefault(path, set()).add(method)
    assert {path: set(methods) for path, methods in _all_routes().items()} == routes


def served() -> dict[str, str]:
    """Returns the functions that serve routes of the template, by route key."""
    functions = {}
    (api,) = TEMPLATE.of_type("AWS::ApiGatewayV2::Api").values()
    for path, operations in api["Body"]["paths"].items():
        for method, operation in operations.items():
            uri = str(operation["x-amazon-apigateway-integration"]["uri"])
            function = re.search(r"\$\{(\w+)\.Arn\}", uri)
            assert function
            key = path if path == "$default" else f"{method.upper()} {path}"
            functions[key] = function[1]
            is_public = not operation.get("security")
            assert is_public == (function[1] == "Hello"), key
    return functions


def test_every_route_of_the_template_has_a_handler_in_its_function() -> None:
    events = {
        (folder_of(function), route_shape(key))
        for key, function in served().items()
        if key != "$default"
    }
    handlers = {(found.function, shape) for shape, found in from_handlers().items()}
    assert events == handlers


def test_authorizer_that_refuses_nobody_serves_exactly_the_routes_that_check_a_scope() -> None:
    """A function without the check would be open to anyone. Other routes name `Keys`."""
    checked = {shape for shape, found in from_handlers().items() if found.route.scope != PUBLIC}
    assert {route_shape(key) for key, name in authorizers().items() if name == "Callers"} == checked


def authorizers() -> dict[str, str]:
    """Returns the authorizers of routes of the template, by route key."""
    (api,) = TEMPLATE.of_type("AWS::ApiGatewayV2::Api").values()
    return {
        f"{method.upper()} {path}": name
        for path, operations in api["Body"]["paths"].items()
        for method, operation in operations.items()
        for security in operation.get("security", ())
        for name in security
    }


def test_template_names_the_release_of_the_library() -> None:
    named = {FUNCTIONS[name]["Environment"]["Variables"]["MAYFLY_RELEASE"] for name in FUNCTIONS}
    assert named == {mayfly.__version__}


def folder_of(function: str) -> str:
    """Returns the folder of a function by its logical id."""
    return re.sub(r"(?<!^)([A-Z])", r"_\1", function).lower()


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_gets_exactly_the_variables_that_its_settings_read(name: str) -> None:
    settings = import_module(f"functions.{folder_of(name)}.deps").Settings
    of_all = {"MAYFLY_RELEASE", "MAYFLY_STACK", "POWERTOOLS_LOG_LEVEL"}
    variables = set(FUNCTIONS[name]["Environment"]["Variables"]) - of_all
    #: The local runtime sets the first one. The default of the second one is right for this stack.
    not_of_the_template = {"AWS_SAM_LOCAL", "MAYFLY_TASKS"}
    assert (
        variables
        == {field.name.upper() for field in dataclasses.fields(settings)} - not_of_the_template
    )


@pytest.mark.parametrize(
    "folder",
    sorted(path.name for path in (ROOT / "functions").iterdir() if (path / "main.py").exists()),
)
def test_folder_is_a_function_of_its_name(folder: str) -> None:
    logical = "".join(word.capitalize() for word in folder.split("_"))
    assert logical in FUNCTIONS
    assert FUNCTIONS[logical]["Handler"] == f"{folder}.main.handler"
    assert (ROOT / "events" / f"{folder}.json").exists()
