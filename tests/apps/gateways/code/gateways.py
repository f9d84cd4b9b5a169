"""Handlers that show their event, and an authorizer that does what its caller's name says."""

import base64
import os
import time

REPLIES = {
    "plain": {"statusCode": 200, "body": "hello"},
    "null-header": {
        "statusCode": 200,
        "headers": {"X-Trace": None, "Content-Type": "text/plain"},
        "body": "x",
    },
    "list-header": {"statusCode": 200, "headers": {"Set-Cookie": ["a=1", "b=2"]}, "body": "x"},
    "text-cookies": {"statusCode": 200, "cookies": "a=1", "body": "x"},
    "status-100": {"statusCode": 100, "body": "x"},
    "own-cors": {"statusCode": 200, "headers": {"Access-Control-Allow-Origin": "*"}, "body": "x"},
    "no-status": {"body": "x"},
    "extra-key": {"statusCode": 200, "body": "x", "extra": 1},
    "cookies": {
        "statusCode": 200,
        "headers": {"X-One": "1"},
        "multiValueHeaders": {"Set-Cookie": ["a=1", "b=2"]},
        "body": "x",
    },
    "image": {
        "statusCode": 200,
        "headers": {"Content-Type": "image/png"},
        "body": base64.b64encode(b"\x89PNG").decode(),
        "isBase64Encoded": True,
    },
}


def handler(event, context):
    what = (event.get("pathParameters") or {}).get("what", "")
    if what == "raise":
        raise ValueError("on purpose")
    if what == "own-url":
        return {"statusCode": 200, "body": os.environ["OWN_URL"]}
    if what == "context":
        names = [context.invoked_function_arn, context.function_version]
        return {"statusCode": 200, "body": " ".join(names)}
    if what in REPLIES:
        return REPLIES[what]
    import json

    return {
        "statusCode": 200,
        "headers": {"Content-Type": "application/json"},
        "body": json.dumps(event),
    }


CALLS = []


def authorize(event, context):
    CALLS.append(time.time())
    who = event.get("authorizationToken") or event["headers"].get("x-who")
    who = who or event["headers"].get("X-Who")
    arn = event.get("methodArn") or event["routeArn"]
    api = arn.split("/")[0]
    statements = {
        "me": [_statement("Allow", arn)],
        "all": [_statement("Allow", "*")],
        "elsewhere": [_statement("Allow", f"{api}/*/GET/somewhere-else")],
        "only-a": [_statement("Allow", f"{api}/*/GET/*/a")],
        "all-but-b": [_statement("Allow", "*"), _statement("Deny", f"{api}/*/GET/*/b")],
        "one": _statement("Allow", "*"),
        "text": "x",
    }
    if who == "unauthorized":
        raise Exception("Unauthorized")  # noqa: TRY002 - as AWS documents it
    if who == "broken":
        raise ValueError("broken")
    policy = {"Version": "2012-10-17", "Statement": statements.get(who, [])}
    return {
        "principalId": who,
        "policyDocument": "x" if who == "document" else policy,
        "context": ["x"] if who == "context" else {"calls": len(CALLS), "is_new": True},
    }


def _statement(effect, resource):
    return {"Action": "execute-api:Invoke", "Effect": effect, "Resource": resource}
