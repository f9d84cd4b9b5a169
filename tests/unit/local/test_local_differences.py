"""Limits and rules in which the local runtime differs from AWS, as docs/local.md lists them."""

import asyncio
import io
import os
import sys
from pathlib import Path
from textwrap import dedent, indent
from typing import Any, cast

import pytest

from mayfly_cli.up import up
from mayfly_local.application.build import build
from mayfly_local.application.classes import table
from mayfly_local.application.model import Application, QueueSource
from mayfly_local.application.template import load
from mayfly_local.compute.invocation import Invocation, Reply
from mayfly_local.compute.launches import python_version_note
from mayfly_local.compute.pool import environment_limit
from mayfly_local.compute.reload import Reload
from mayfly_local.emulator.clients import Clients
from mayfly_local.logs import Logs
from mayfly_local.sources.authorizations import Caller
from mayfly_local.sources.feeds import feed_of
from mayfly_local.sources.queues import QueuePoller

CLIENTS = Clients("http://127.0.0.1:1")


def application(folder: Path, resources: str) -> Application:
    (folder / "code").mkdir(exist_ok=True)
    path = folder / "template.yaml"
    text = "Transform: AWS::Serverless-2016-10-31\nResources:\n"
    path.write_text(text + indent(dedent(resources), "  "))
    return build(load(path, cache=folder / "cache"), {}, api_url="http://127.0.0.1:3000")


def function(more: str = "", runtime: str = "python3.99") -> str:
    return (
        f"F: {{Type: AWS::Serverless::Function, Properties: {{Runtime: {runtime}, "
        f"Handler: a.b, CodeUri: code, {more}}}}}\n"
    )


def test_function_of_another_python_runs_with_a_note(tmp_path: Path) -> None:
    here = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    other = application(tmp_path, function())
    assert python_version_note(other) == f"functions ask for python3.99 and run on {here} here"
    assert python_version_note(application(tmp_path, function(runtime=here))) is None


@pytest.mark.parametrize(("reserved", "limit"), [(None, 10), (3, 3), (0, 0), (10, 10), (100, 10)])
def test_function_has_ten_environments_or_its_reserved_concurrency(
    reserved: int | None, limit: int
) -> None:
    assert environment_limit(reserved) == limit


class Endless:
    """A queue that always has another message."""

    def __init__(self) -> None:
        self.count = 0

    def of(self, function: str) -> "Endless":
        return self

    async def call(self, service: str, operation: str, **asked: Any) -> dict[str, Any]:
        await asyncio.sleep(0)
        if operation != "receive_message":
            return {"QueueUrl": "q"}
        self.count += 1
        return {"Messages": [{"MessageId": f"{self.count}", "ReceiptHandle": "r", "Body": "{}"}]}


MOST_BATCHES = min(5, 2 * (os.cpu_count() or 1))


@pytest.mark.parametrize(
    ("maximum", "batches"), [(None, MOST_BATCHES), (2, 2), (5, MOST_BATCHES), (9, MOST_BATCHES)]
)
def test_mapping_of_a_queue_runs_two_batches_for_each_core_and_five_at_most(
    tmp_path: Path, maximum: int | None, batches: int
) -> None:
    source = QueueSource(
        function="F", queue_arn="arn:aws:sqs:us-east-1:000000000000:q", batch_size=1,
        window_seconds=0, reports_failures=True, concurrency=maximum, patterns=(),
    )  # fmt: skip
    logs = Logs(tmp_path, form="json", out=io.StringIO())
    running = []

    async def invoke(name: str, invocation: Invocation) -> Reply:
        running.append(name)
        await asyncio.Event().wait()
        raise AssertionError

    async def poll() -> None:
        queue = cast(Clients, Endless())
        poller = QueuePoller(source, queue, invoke, logs.of("mayfly"), poll_seconds=0)
        task = asyncio.ensure_future(poller.run())
        for _ in range(500):  # Each turn would take a message if there were a free place.
            await asyncio.sleep(0)
        task.cancel()

    asyncio.run(poll())
    logs.close()
    assert len(running) == batches


def test_callers_with_the_same_context_share_and_others_do_not() -> None:
    first = Caller(context={"tenant": "a", "scopes": "read"})
    assert first.share == Caller(context={"scopes": "read", "tenant": "a"}).share
    others = [
        Caller(context={"tenant": "a", "scopes": "write"}),
        Caller(context={"tenant": "b", "scopes": "read"}),
        Caller("me", {"tenant": "a", "scopes": "read"}),
        Caller(key_id="k"),
        Caller(claims={"sub": "a"}),
    ]
    assert len({caller.share for caller in [first, *others]}) == 6


def test_caller_of_a_route_without_an_authorizer_has_no_share() -> None:
    assert Caller().share is None


def test_api_key_is_made_if_the_template_has_none(tmp_path: Path) -> None:
    route = "Events: {E: {Type: Api, Properties: {Path: /a, Method: GET, %s}}}"
    (api,) = application(tmp_path, function(route % "Auth: {ApiKeyRequired: true}")).apis
    (key,) = api.api_keys["Prod"]
    assert key.startswith("local-")
    (same,) = application(tmp_path, function(route % "Auth: {ApiKeyRequired: true}")).apis
    assert same.api_keys == api.api_keys
    (open_,) = application(tmp_path, function(route % "Auth: {}")).apis
    assert open_.api_keys == {}


def test_rotation_of_a_secret_is_absent_and_its_replicas_are_accepted(tmp_path: Path) -> None:
    made = application(
        tmp_path,
        """
        S: {Type: AWS::SecretsManager::Secret, Properties: {ReplicaRegions: [{Region: eu-west-1}]}}
        R: {Type: AWS::SecretsManager::RotationSchedule, Properties: {SecretId: !Ref S}}
        """,
    )
    lines = table(made.parts)
    assert "absent    R: SecretsManager::RotationSchedule" in lines
    assert any("S.ReplicaRegions" in line and line.startswith("accepted") for line in lines)


ROLE = """
R:
  Type: AWS::IAM::Role
  Properties:
    AssumeRolePolicyDocument: {}
    %s
"""


@pytest.mark.parametrize(
    ("role", "more", "reason"),
    [
        pytest.param(
            "!GetAtt R.Arn",
            "PermissionsBoundary: arn:aws:iam::aws:policy/ReadOnlyAccess",
            "R: PermissionsBoundary: its calls are not checked",
            id="boundary",
        ),
        pytest.param(
            "!GetAtt R.Arn",
            "Policies: [{PolicyName: p, PolicyDocument: {Statement: "
            "{Effect: Allow, Action: '*', NotResource: 'arn:aws:sqs:*:*:q'}}}]",
            "R: NotResource in a policy: its calls are not checked",
            id="NotResource",
        ),
        pytest.param("arn:aws:iam::000000000000:role/elsewhere", "", None, id="outside"),
    ],
)
def test_role_that_cannot_be_known_is_not_checked(
    tmp_path: Path, role: str, more: str, reason: str | None
) -> None:
    made = application(tmp_path, function(f"Role: {role}") + ROLE % more)
    assert made.functions["F"].role is None
    if reason is not None:
        assert any(reason in line for line in table(made.parts))


def test_calls_to_an_endpoint_of_ones_own_have_no_role() -> None:
    assert not CLIENTS.is_guarded
    assert CLIENTS.of("F") is CLIENTS


def test_mapping_of_a_kinesis_stream_keeps_no_position() -> None:
    arn = "arn:aws:{}:us-east-1:000000000000:{}"
    streams = {"kinesis": "stream/s", "dynamodb": "table/t/stream/1"}
    kept = {
        service: feed_of(arn.format(service, name), CLIENTS, role="R").has_positions
        for service, name in streams.items()
    }
    assert kept == {"kinesis": False, "dynamodb": True}


def test_ttl_deletes_items_a_minute_late_by_default() -> None:
    assert {option.name: option.default for option in up.params}["ttl_lag"] == 60.0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell of changes later")
@pytest.mark.parametrize(
    "name", ["template.yaml", "code/requirements.txt", "code/pyproject.toml", "layer.zip"]
)
def test_change_that_needs_a_restart_is_named(tmp_path: Path, name: str) -> None:
    made = application(tmp_path, function())
    for file in ("layer.zip", "code/requirements.txt", "code/pyproject.toml"):
        (tmp_path / file).touch()
    said: list[str] = []

    class Pool:
        async def outdate(self) -> None:
            """Ends nothing."""

    async def change() -> None:
        pools: Any = {"F": Pool()}
        fixed = [tmp_path / "template.yaml", tmp_path / "layer.zip"]
        reload = Reload(made, fixed, pools, said.append, tmp_path / "bytecode")
        watching = asyncio.ensure_future(reload.run())
        await asyncio.sleep(0)
        (tmp_path / name).write_text("changed")
        reload.check()
        watching.cancel()

    asyncio.run(change())
    # On a busy machine, a line on the reload of the folder follows.
    assert said[0] == f"{Path(name).name} has changed: stop and start again to apply it"
