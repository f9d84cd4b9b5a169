"""An application whose roles allow too little, on the local runtime.

It fails here as it would on AWS, and the error names the reason.
"""

from pathlib import Path

import pytest

from mayfly_testing.stack import MAYFLY, Stack, running, wait_until

HEAD = """
Transform: AWS::Serverless-2016-10-31
Resources:
  T:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
  Q: {Type: AWS::SQS::Queue}
  F:
    Type: AWS::Serverless::Function
    Properties:
      Runtime: python3.13
      CodeUri: code
      Handler: app.handler
      Environment: {Variables: {TABLE: !Ref T}}
"""
CODE = """
import os
import boto3
from botocore.exceptions import ClientError
def handler(event, context):
    client = boto3.client("dynamodb")
    try:
        client.get_item(TableName=os.environ["TABLE"], Key={"id": {"S": "x"}})
        client.put_item(TableName=os.environ["TABLE"], Item={"id": {"S": "x"}})
    except ClientError as refusal:
        return {"statusCode": 200, "body": str(refusal)}
"""


def app(folder: Path, rest: str) -> Path:
    (folder / "code").mkdir(parents=True)
    (folder / "code" / "app.py").write_text(CODE)
    (folder / "code" / "requirements.txt").write_text(
        (Path(__file__).parent.parent.parent / "layers/mayfly/requirements.txt").read_text()
    )
    (folder / "template.yaml").write_text(HEAD + rest)
    return folder / "template.yaml"


def table(stack: Stack) -> str:
    return str(stack.facts["resources"]["T"])


def test_call_that_the_role_does_not_allow_is_named_in_answer_log_and_terminal(
    tmp_path: Path,
) -> None:
    template = app(
        tmp_path / "app",
        """\
      Policies:
        - Statement: [{Effect: Allow, Action: "dynamodb:GetItem", Resource: !GetAtt T.Arn}]
      Events:
        Page: {Type: HttpApi, Properties: {Path: /, Method: GET}}
""",
    )
    with running(tmp_path / "run", template=template) as stack:
        said = stack.get("/").text
        resource = f"arn:aws:dynamodb:us-east-1:000000000000:table/{table(stack)}"
        assert (
            f"is not authorized to perform: dynamodb:PutItem on resource: {resource} because no "
            "identity-based policy" in said
        )
        wait_until(
            lambda: (
                f"F may not dynamodb:PutItem on {resource}, here as on AWS: allow it in the "
                "policies of FRole" in stack.output
            ),
            10,
        )
        (entry,) = [each for each in stack.log("mayfly") if each["type"] == "refused"]
        assert entry["refused"]["role"] == "FRole"


def test_mapping_that_its_role_does_not_allow_is_refused_at_start(tmp_path: Path) -> None:
    template = app(
        tmp_path / "app",
        """\
      Role: !GetAtt Weak.Arn
      Events:
        Messages: {Type: SQS, Properties: {Queue: !GetAtt Q.Arn}}
  Weak:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument: {}
      Policies:
        - PolicyName: own
          PolicyDocument:
            Statement:
              - Effect: Allow
                Action: ["sqs:ReceiveMessage", "sqs:GetQueueAttributes"]
                Resource: !GetAtt Q.Arn
""",
    )
    with (
        pytest.raises(
            AssertionError, match="the role of F does not allow sqs:DeleteMessage on arn:aws:sqs"
        ),
        running(tmp_path / "run", template=template),
    ):
        raise AssertionError(f"{MAYFLY} has started it")
