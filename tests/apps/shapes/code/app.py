"""Handlers of the shapes: each does one small thing that its caller can see."""

import json
import os
from typing import Any


def echo(event: Any, context: Any) -> dict[str, Any]:
    """Answers a request with its event."""
    return {
        "statusCode": 200,
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps(event),
    }


def send_back(event: Any, context: Any) -> dict[str, Any]:
    """Answers a request with its body, which is a file."""
    return {
        "statusCode": 200,
        "headers": {"Content-Type": event["headers"]["Content-Type"]},
        "body": event["body"],
        "isBase64Encoded": event["isBase64Encoded"],
    }


def note(event: Any, context: Any) -> None:
    """Prints its event, one JSON text in a line."""
    print(json.dumps(event))


def fail(event: Any, context: Any) -> None:
    """Fails, whatever it is called with."""
    raise RuntimeError("asked to fail")


def report_failures(event: Any, context: Any) -> dict[str, Any]:
    """Reports the messages that say bad, and prints the others."""
    bad = [record for record in event["Records"] if record["body"] == "bad"]
    for record in event["Records"]:
        if record not in bad:
            print(json.dumps({"done": record["body"]}))
    return {"batchItemFailures": [{"itemIdentifier": record["messageId"]} for record in bad]}


def double(event: Any, context: Any) -> dict[str, Any]:
    """Returns twice the number of its event."""
    return {"doubled": 2 * event["number"]}


def authorize(event: Any, context: Any) -> dict[str, Any]:
    """Allows the route to the token allow, and denies it to others."""
    token = event.get("authorizationToken") or event["headers"]["Authorization"]
    statement = {
        "Action": "execute-api:Invoke",
        "Effect": "Allow" if token == "allow" else "Deny",
        "Resource": event["methodArn"],
    }
    return {
        "principalId": "ada",
        "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
        "context": {"plan": "free", "seats": 3},
    }


def answer_simply(event: Any, context: Any) -> dict[str, Any]:
    """Answers yes to the token allow, and no to others."""
    is_allowed = event["headers"]["authorization"] == "allow"
    return {"isAuthorized": is_allowed, "context": {"plan": "free", "seats": 3}}


def tell_settings(event: Any, context: Any) -> dict[str, Any]:
    """Returns its variables and its size."""
    return {**os.environ, "memory": context.memory_limit_in_mb}


def call(event: Any, context: Any) -> Any:
    """Calls another function and returns what it answers."""
    reply = _client("lambda").invoke(FunctionName=os.environ["CALLED"], Payload=json.dumps(event))
    return {"answer": json.loads(reply["Payload"].read())}


def read_settings(event: Any, context: Any) -> dict[str, Any]:
    """Returns a parameter, and the value of another one that the deployment resolved."""
    read = _client("ssm").get_parameter(Name=os.environ["NAME"])
    return {"read": read["Parameter"]["Value"], "resolved": os.environ["RESOLVED"]}


def read_secret(event: Any, context: Any) -> dict[str, Any]:
    """Returns the fields of a secret, with the length of the password."""
    read = _client("secretsmanager").get_secret_value(SecretId=os.environ["SECRET"])
    secret = json.loads(read["SecretString"])
    return {
        "user": secret["user"],
        "password": len(secret["password"]),
        "resolved": os.environ["USER_NAME"],
    }


def seal(event: Any, context: Any) -> dict[str, Any]:
    """Encrypts by the alias of a key, and decrypts with the right context and without one."""
    kms, named = _client("kms"), {"EncryptionContext": {"tenant": "acme"}}
    sealed = kms.encrypt(KeyId=os.environ["ALIAS"], Plaintext=b"secret", **named)
    opened = kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"], KeyId=os.environ["KEY"], **named)
    try:
        other = str(kms.decrypt(CiphertextBlob=sealed["CiphertextBlob"]))
    except kms.exceptions.ClientError as refused:
        other = refused.response["Error"]["Code"]
    return {
        "key": sealed["KeyId"].rpartition("/")[2],
        "opened": opened["Plaintext"].decode(),
        "other": other,
    }


def peek(event: Any, context: Any) -> dict[str, Any]:
    """Encrypts with a key that its role does not allow."""
    kms = _client("kms")
    try:
        return dict(kms.encrypt(KeyId=os.environ["KEY"], Plaintext=b"secret"))
    except kms.exceptions.ClientError as refused:
        return {"code": refused.response["Error"]["Code"]}


def send(event: Any, context: Any) -> str:
    """Sends its event to a queue, and returns the id of the message."""
    reply = _client("sqs").send_message(QueueUrl=os.environ["QUEUE"], MessageBody=json.dumps(event))
    return str(reply["MessageId"])


def put(event: Any, context: Any) -> dict[str, Any]:
    """Writes an item and returns it as it is read again."""
    db, table = _client("dynamodb"), os.environ["TABLE"]
    db.put_item(TableName=table, Item={"id": {"S": event["id"]}, "n": {"N": "1"}})
    return dict(db.get_item(TableName=table, Key={"id": {"S": event["id"]}})["Item"])


def use_table(event: Any, context: Any) -> dict[str, Any]:
    """Reads from a table or writes to it, and returns the code of the answer."""
    from botocore.exceptions import ClientError

    db, table = _client("dynamodb"), os.environ["TABLE"]
    try:
        if event["do"] == "read":
            return {"count": db.scan(TableName=table)["Count"]}
        db.put_item(TableName=table, Item={"id": {"S": "1"}})
    except ClientError as refusal:
        return {"code": refusal.response["Error"]["Code"]}
    return {"code": ""}


def start_flow(event: Any, context: Any) -> dict[str, Any]:
    """Starts a state machine and returns the error."""
    from botocore.exceptions import ClientError

    arn = "arn:aws:states:us-east-1:000000000000:stateMachine:Flow"
    try:
        _client("stepfunctions").start_execution(stateMachineArn=arn)
    except ClientError as refusal:
        return dict(refusal.response["Error"])
    return {}


def _client(service: str) -> Any:
    import boto3  # Only handlers that call a service pay for it.

    return boto3.client(service)
