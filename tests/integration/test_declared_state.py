"""Topics and secrets of a template have what it declares, on a running stack."""

import json
import re
import string
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from mayfly_testing.stack import MAYFLY, Stack, running, unused_port, wait_until

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Resources:
  Ordered:
    Type: AWS::SNS::Topic
    Properties: {TopicName: t.fifo, FifoTopic: true, ContentBasedDeduplication: true}
  Strict: {Type: AWS::SNS::Topic, Properties: {FifoTopic: "true"}}
  Queue: {Type: AWS::SQS::Queue, Properties: {FifoQueue: true}}
  ToQueue:
    Type: AWS::SNS::Subscription
    Properties:
      {TopicArn: !Ref Ordered, Protocol: sqs, Endpoint: !GetAtt Queue.Arn, RawMessageDelivery: true}
"""


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("declared")
    with running(folder, template=written(folder, TEMPLATE + SECRETS)) as found:
        yield found


def written(folder: Path, text: str) -> Path:
    path = folder / "template.yaml"
    path.write_text(text)
    return path


def resource(stack: Stack, name: str) -> str:
    return str(stack.facts["resources"][name])


# ---------------------------------------------------------------- topics


def test_fifo_topic_delivers_in_order_and_drops_repetitions(stack: Stack) -> None:
    for text in ("1", "2", "2", "3", "1"):
        stack.client("sns").publish(
            TopicArn=resource(stack, "Ordered"), Message=text, MessageGroupId="g"
        )
    messages: list[dict[str, Any]] = []

    def received() -> bool:
        reply = stack.client("sqs").receive_message(
            QueueUrl=resource(stack, "Queue"), MaxNumberOfMessages=10,
            MessageSystemAttributeNames=["All"],
        )  # fmt: skip
        messages.extend(reply.get("Messages", []))
        return len(messages) >= 3

    wait_until(received, 20, what="three messages")
    assert [message["Body"] for message in messages] == ["1", "2", "3"]
    assert {message["Attributes"]["MessageGroupId"] for message in messages} == {"g"}


def test_fifo_topic_without_a_name_gets_one_that_ends_in_fifo(stack: Stack) -> None:
    arn = resource(stack, "Strict")
    assert re.fullmatch(r"arn:aws:sns:us-east-1:000000000000:\S+-Strict-\S+\.fifo", arn)
    attributes = stack.client("sns").get_topic_attributes(TopicArn=arn)["Attributes"]
    assert (attributes["FifoTopic"], attributes["ContentBasedDeduplication"]) == ("true", "false")


def test_fifo_topic_without_deduplication_by_content_needs_an_id(stack: Stack) -> None:
    with pytest.raises(ClientError, match="MessageDeduplicationId parameter is required"):
        stack.client("sns").publish(
            TopicArn=resource(stack, "Strict"), Message="m", MessageGroupId="g"
        )


def test_changed_deduplication_of_a_kept_topic_is_updated(tmp_path: Path) -> None:
    found = []
    for value in ("true", "false"):
        template = written(
            tmp_path, TEMPLATE.replace("Deduplication: true", f"Deduplication: {value}")
        )
        with running(tmp_path, "--state", str(tmp_path / "state"), template=template) as stack:
            reply = stack.client("sns").get_topic_attributes(TopicArn=resource(stack, "Ordered"))
            found.append(reply["Attributes"]["ContentBasedDeduplication"])
            stack.stop()
    assert found == ["true", "false"]


# ---------------------------------------------------------------- secrets

_LETTERS = set(string.ascii_letters)
#: Properties of GenerateSecretString, and what the characters of the value must satisfy.
_GENERATED: dict[str, tuple[dict[str, Any], Callable[[set[str]], bool]]] = {
    "NoPunctuation": (
        {"ExcludePunctuation": True}, lambda found: found <= _LETTERS | set(string.digits)
    ),
    "NoUppercase": (
        {"ExcludeUppercase": True}, lambda found: not found & set(string.ascii_uppercase)
    ),
    "NoLowercase": (
        {"ExcludeLowercase": True}, lambda found: not found & set(string.ascii_lowercase)
    ),
    "NoNumbers": ({"ExcludeNumbers": True}, lambda found: not found & set(string.digits)),
    "TextSwitch": (
        {"ExcludePunctuation": "true", "ExcludeNumbers": "false"},
        lambda found: found <= _LETTERS | set(string.digits),
    ),
    "WithSpace": (
        {"IncludeSpace": True, "ExcludePunctuation": True}, lambda found: " " in found
    ),
    "EachType": (
        {"PasswordLength": "4", "RequireEachIncludedType": True},
        lambda found: all(
            found & set(of)
            for of in (
                string.ascii_lowercase, string.ascii_uppercase, string.digits, string.punctuation
            )
        ),
    ),
    "OneType": (
        {
            "PasswordLength": 1, "RequireEachIncludedType": False, "ExcludePunctuation": True,
            "ExcludeCharacters": "abc",
        },
        lambda found: len(found) == 1 and found <= _LETTERS | set(string.digits) - set("abc"),
    ),
}  # fmt: skip
SECRETS = """
  Empty: {Type: AWS::SecretsManager::Secret}
  User:
    Type: AWS::SecretsManager::Secret
    Properties:
      GenerateSecretString:
        {SecretStringTemplate: '{"user": "ada"}', GenerateStringKey: pass, ExcludePunctuation: true}
""" + "".join(
    f"  {name}:\n"
    "    Type: AWS::SecretsManager::Secret\n"
    "    Properties: "
    f"{{GenerateSecretString: {json.dumps({'PasswordLength': 400, **properties})}}}\n"
    for name, (properties, _) in _GENERATED.items()
)


def value_of(stack: Stack, secret: str) -> str:
    reply = stack.client("secretsmanager").get_secret_value(SecretId=resource(stack, secret))
    return str(reply["SecretString"])


@pytest.mark.parametrize("name", _GENERATED)
def test_generated_value_has_the_characters_that_the_template_asks_for(
    stack: Stack, name: str
) -> None:
    properties, holds = _GENERATED[name]
    value = value_of(stack, name)
    assert len(value) == int(properties.get("PasswordLength", 400))
    assert holds(set(value)), value


def test_generated_value_stands_in_its_template(stack: Stack) -> None:
    value = json.loads(value_of(stack, "User"))
    assert value["user"] == "ada"
    assert re.fullmatch("[A-Za-z0-9]{32}", value["pass"])


def test_secret_without_a_value_has_none_until_it_is_put(stack: Stack) -> None:
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        value_of(stack, "Empty")
    stack.client("secretsmanager").put_secret_value(
        SecretId=resource(stack, "Empty"), SecretString="later"
    )
    assert value_of(stack, "Empty") == "later"


def test_created_secret_without_a_value_has_none(stack: Stack) -> None:
    client = stack.client("secretsmanager")
    assert "VersionId" not in client.create_secret(Name="bare")
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        client.get_secret_value(SecretId="bare")


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("resource", "problem"),
    [
        pytest.param(
            "{Type: AWS::SNS::Topic, Properties: {TopicName: t, FifoTopic: true}}",
            "the TopicName t of a FIFO topic must end with .fifo",
            id="FIFO topic without the end of its name",
        ),
        pytest.param(
            "{Type: AWS::SNS::Topic, Properties: {TopicName: t.fifo}}",
            "the TopicName t.fifo needs FifoTopic: true",
            id="standard topic with the name of a FIFO topic",
        ),
        pytest.param(
            "{Type: AWS::SecretsManager::Secret, Properties: {GenerateSecretString: "
            "{PasswordLength: 2}}}",
            "GenerateSecretString: PasswordLength too short to include required character types",
            id="password that is too short",
        ),
        pytest.param(
            "{Type: AWS::SecretsManager::Secret, Properties: {GenerateSecretString: "
            "{PasswordLength: long}}}",
            "GenerateSecretString: PasswordLength is 'long', which is not a number",
            id="password of a length that is not a number",
        ),
        pytest.param(
            "{Type: AWS::SecretsManager::Secret, Properties: {GenerateSecretString: "
            "{GenerateStringKey: pass}}}",
            "GenerateSecretString: SecretStringTemplate and GenerateStringKey need each other",
            id="key without a template",
        ),
        pytest.param(
            "{Type: AWS::SecretsManager::Secret, Properties: {GenerateSecretString: "
            "{GenerateStringKey: pass, SecretStringTemplate: '[]'}}}",
            "GenerateSecretString: SecretStringTemplate is not a JSON object",
            id="template that is not an object",
        ),
    ],
)
def test_resource_that_aws_refuses_ends_the_start(
    tmp_path: Path, resource: str, problem: str
) -> None:
    template = written(tmp_path, f"Resources:\n  Wrong: {resource}\n")
    done = subprocess.run(
        [MAYFLY, "up", "--template", template, "--port", str(unused_port()), "--work",
         tmp_path / "w"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == 1
    assert f"resource Wrong: {problem}" in done.stderr
    assert "Traceback" not in done.stderr
