"""A template as people write them, on a running stack: what runs, and what other calls say."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mayfly_testing.stack import MAYFLY, ROOT, Stack, running, unused_port, wait_until

SHAPES = ROOT / "tests" / "apps" / "shapes"
TEMPLATE = ROOT / "tests" / "apps" / "as_written" / "template.yaml"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(
        tmp_path_factory.mktemp("as-written"),
        "--parameter", "resolve:ssm:/as-written/stage=blue",
        template=TEMPLATE,
    ) as found:  # fmt: skip
        yield found


def called(stack: Stack, call: str, function: str = "Reader") -> Any:
    """Returns what a function answers to an event that names a call."""
    reply = stack.client("lambda").invoke(FunctionName=function, Payload=json.dumps({"call": call}))
    return json.loads(reply["Payload"].read())


def test_start_shows_every_part_with_its_class(stack: Stack) -> None:
    lines = stack.output.splitlines()
    first = next(at for at, line in enumerate(lines) if line.startswith("  runs "))
    assert lines[first : first + 6] == [
        "  runs      Lambda::Function, SQS::Queue, SSM::Parameter, SecretsManager::Secret 3",
        "  accepted  ApiGatewayV2::Route, CloudWatch::Alarm, IAM::Role 3 (without effect here)",
        "  absent    Socket: ApiGatewayV2::Api (WebSocket)",
        "            Reader.FileSystemConfigs (Lambda::Function)",
        "            Flow: StepFunctions::StateMachine",
        "            Script: a function of the runtime nodejs22.x",
    ], stack.output


def test_function_reads_a_secret_and_a_parameter_under_its_role(stack: Stack) -> None:
    assert len(called(stack, "secret")) == 24
    assert called(stack, "parameter") == "blue"
    refused = called(stack, "other secret")
    assert refused["code"] == "AccessDeniedException"
    assert "secretsmanager:GetSecretValue" in refused["message"]


def test_references_have_values_of_the_right_form(stack: Stack) -> None:
    variables = called(stack, "variables")
    assert variables["SECRET"].startswith("arn:aws:secretsmanager:us-east-1:000000000000:secret:")
    assert variables["FLOW"].startswith("arn:aws:states:us-east-1:000000000000:stateMachine:")
    assert (variables["USER"], variables["STAGE"], variables["PART"]) == (
        "ada", "blue", "part-test",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("flow", "the service 'states' is absent on this machine, and so is Flow "
         "(StepFunctions::StateMachine) of the template"),
        ("socket", "the service 'execute-api' is absent on this machine, and so is Socket "
         "(ApiGatewayV2::Api (WebSocket)) of the template"),
        ("bedrock", "this stack has no service 'bedrock'"),
        ("instances", "this stack has no service 'ec2'"),
    ],
)  # fmt: skip
def test_call_of_an_absent_service_is_an_error_that_names_it(
    stack: Stack, call: str, message: str
) -> None:
    refused = called(stack, call)
    assert refused["code"] == "AbsentService"
    assert message in refused["message"]


def invoked(stack: Stack, function: str) -> subprocess.CompletedProcess[str]:
    event = stack.work / "event.json"
    event.write_text('{"call": "unknown"}')
    command = [str(MAYFLY), "invoke", function, "--event", str(event), "--work", str(stack.work)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_failure_of_a_function_with_absent_parts_names_them(stack: Stack) -> None:
    part = "Reader.FileSystemConfigs (Lambda::Function) is absent on this machine"
    assert called(stack, "unknown")["errorType"] == "KeyError"
    assert part in stack.output
    by_hand = invoked(stack, "Reader")
    assert (by_hand.returncode, by_hand.stderr.splitlines()[-1]) == (1, f"note: {part}")


def test_invoke_of_an_absent_function_says_why_it_is_absent(stack: Stack) -> None:
    refused = invoked(stack, "Script")
    assert refused.returncode == 1
    assert refused.stderr == (
        "mayfly: absent on this machine: Script: a function of the runtime nodejs22.x\n"
    )


def test_start_says_that_a_template_has_no_api(stack: Stack) -> None:
    assert f"  API       none ({stack.url} knows no route)\n" in stack.output
    assert stack.get("/").status_code == 404


def test_strict_refuses_the_template_by_its_absent_parts(tmp_path: Path) -> None:
    command = [
        str(MAYFLY), "up", "--strict", "--template", str(TEMPLATE),
        "--port", str(unused_port()), "--work", str(tmp_path),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "Flow: StepFunctions::StateMachine is absent on this machine" in done.stderr
    assert "Traceback" not in done.stderr


def test_keys_are_kept(tmp_path: Path) -> None:
    state, sealed, opened = str(tmp_path / "state"), b"", b""
    for start in range(2):
        work = tmp_path / str(start)
        with running(work, "--state", state, template=SHAPES / "key.yaml") as stack:
            kms = stack.client("kms")
            if not sealed:
                sealed = kms.encrypt(KeyId="alias/orders", Plaintext=b"secret")["CiphertextBlob"]
            else:
                opened = kms.decrypt(CiphertextBlob=sealed)["Plaintext"]
    assert opened == b"secret"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    work = tmp_path_factory.mktemp("keys")
    with running(work, "--strict", template=SHAPES / "key.yaml") as found:
        yield found


def test_roles_show_which_permissions_on_a_key_were_used(keys: Stack) -> None:
    assert called(keys, "", "Seal")["opened"] == "secret"
    done = subprocess.run(
        [str(MAYFLY), "roles", "--work", str(keys.work)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    lines = [line.split() for line in done.stdout.splitlines() if "kms:" in line]
    assert lines == [
        ["Seal", "kms:Decrypt", "2", "kms:key/Key"],
        ["Seal", "kms:Encrypt", "1", "kms:key/Key"],
    ], done.stdout


def test_policy_of_a_key_allows_nothing(keys: Stack) -> None:
    assert called(keys, "", "Knock") == {"code": "AccessDeniedException"}


def test_key_of_another_origin_has_material_and_one_region(keys: Stack) -> None:
    kms = keys.client("kms")
    made = [kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"] for key in kms.list_keys()["Keys"]]
    assert {(key["Origin"], key["MultiRegion"], key["KeyState"]) for key in made} == {
        ("AWS_KMS", False, "Enabled")
    }
    for key in made:
        assert kms.encrypt(KeyId=key["KeyId"], Plaintext=b"secret")["CiphertextBlob"]


def test_queue_with_a_key_is_used_without_a_permission_on_the_key(keys: Stack) -> None:
    assert len(called(keys, "", "Send")) == 36
    assert "KmsMasterKeyId" in keys.output


def test_secrets_and_parameters_are_kept(tmp_path: Path) -> None:
    state, secrets = str(tmp_path / "state"), []
    for start in range(2):
        with running(tmp_path / str(start), "--state", state, template=TEMPLATE) as stack:
            secrets.append((called(stack, "secret"), called(stack, "parameter")))
    assert secrets[0] == secrets[1]


SOURCES = """\
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {Runtime: python3.13, Handler: index.handler, Timeout: 5}}
Parameters:
  Outside: {Type: String, Default: "arn:aws:kinesis:us-east-1:000000000000:stream/outside"}
Resources:
  S: {Type: AWS::Kinesis::Stream, Properties: {ShardCount: 1}}
  C:
    Type: AWS::Kinesis::StreamConsumer
    Properties: {ConsumerName: c, StreamARN: !GetAtt S.Arn}
  G:
    Type: AWS::DynamoDB::GlobalTable
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
      StreamSpecification: {StreamViewType: NEW_IMAGE}
      Replicas: [{Region: us-east-1}, {Region: eu-west-1}]
  Reader:
    Type: AWS::Serverless::Function
    Properties:
      InlineCode: |
        def handler(event, context):
            print("read from", event["Records"][0]["eventSource"])
      Events:
        K: {Type: Kinesis, Properties: {Stream: !GetAtt C.ConsumerARN,
            StartingPosition: TRIM_HORIZON}}
        D: {Type: DynamoDB, Properties: {Stream: !GetAtt G.StreamArn,
            StartingPosition: TRIM_HORIZON}}
        O: {Type: Kinesis, Properties: {Stream: !Ref Outside, StartingPosition: LATEST}}
"""


def test_stack_reads_consumers_and_global_tables_and_leaves_absent_streams(
    tmp_path: Path,
) -> None:
    template = tmp_path / "app" / "template.yaml"
    template.parent.mkdir()
    template.write_text(SOURCES)
    with running(tmp_path / "run", template=template) as stack:
        assert "ReaderO: the event source arn:aws:kinesis:" in stack.output
        kinesis, dynamodb = stack.client("kinesis"), stack.client("dynamodb")
        (stream,), (table,) = (
            kinesis.list_streams()["StreamNames"],
            dynamodb.list_tables()["TableNames"],
        )
        kinesis.put_record(StreamName=stream, Data=b"1", PartitionKey="p")
        dynamodb.put_item(TableName=table, Item={"id": {"S": "1"}})
        wait_until(lambda: "read from aws:kinesis" in stack.output, 30)
        wait_until(lambda: "read from aws:dynamodb" in stack.output, 30)


STORED = """\
Transform: AWS::Serverless-2016-10-31
Parameters: {Size: {Type: AWS::SSM::Parameter::Value<String>, Default: /x/size}}
Resources:
  B: {Type: AWS::S3::Bucket, Properties: {BucketName: !Sub "bucket-${Size}"}}
  Reader:
    Type: AWS::Serverless::Function
    Properties:
      {Runtime: python3.13, Handler: index.handler, MemorySize: MEMORY, InlineCode: pass}
"""


def test_parameter_of_systems_manager_is_read_from_the_saved_state(tmp_path: Path) -> None:
    template = tmp_path / "app" / "template.yaml"
    template.parent.mkdir()
    template.write_text(STORED.replace("MEMORY", "128"))
    state = ("--state", str(tmp_path / "state"))
    with running(tmp_path / "first", *state, template=template) as stack:
        hint = "it is size here (give it with --parameter resolve:ssm:/x/size=VALUE)"
        assert f"{{{{resolve:ssm:/x/size}}}}: {hint}" in stack.output
        stack.client("ssm").put_parameter(Name="/x/size", Value="256", Type="String")
    template.write_text(STORED.replace("MEMORY", "!Ref Size"))
    with running(tmp_path / "second", *state, template=template) as stack:
        assert "resolve:ssm" not in stack.output
        buckets = [bucket["Name"] for bucket in stack.client("s3").list_buckets()["Buckets"]]
        assert "bucket-256" in buckets


def test_error_names_a_parameter_without_a_value(tmp_path: Path) -> None:
    template = tmp_path / "app" / "template.yaml"
    template.parent.mkdir()
    template.write_text(STORED.replace("MEMORY", "!Ref Size"))
    with (
        pytest.raises(AssertionError, match="resolve:ssm:/x/size: it is size here"),
        running(tmp_path / "run", template=template),
    ):
        raise AssertionError(f"{MAYFLY} has started it")
