"""Permissions that a request needs, and answers that a role gives."""

import asyncio
import base64
import json
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
from botocore.compat import HTTPHeaders
from botocore.parsers import create_parser
from botocore.session import get_session

from mayfly_local.account import stack_id
from mayfly_local.iam.guard import Guard
from mayfly_local.iam.identities import Identities
from mayfly_local.iam.pages import Cors
from mayfly_local.iam.permissions import Grant, Permissions, Role
from mayfly_local.iam.requests import SERVICES, Permission, Request, signer
from mayfly_local.iam.responses import access_denied, requested_fault
from mayfly_local.ports.access import Access
from tests.support.clients import make_client

TABLE = "arn:aws:dynamodb:us-east-1:000000000000:table/T"
FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function"
EVENTS = "arn:aws:events:us-east-1:000000000000"
STREAM = f"{TABLE}/stream/2026"
KEY_ID = "1f0a6d4e-0000-4000-8000-000000000001"
KEY, OTHER_KEY, ALIAS = (
    f"arn:aws:kms:us-east-1:000000000000:{name}"
    for name in (f"key/{KEY_ID}", "key/other", "alias/orders")
)
#: A ciphertext of the emulator begins with the id of its key.
NO_CIPHERTEXT = base64.b64encode(b"plaintext-value").decode()
SEALED = base64.b64encode(KEY_ID.encode() + b"sealed").decode()


def dynamodb(operation: str, service: str = "DynamoDB_20120810", **arguments: Any) -> Request:
    headers = {"x-amz-target": f"{service}.{operation}"}
    return Request("dynamodb", "POST", "/", {}, headers, json.dumps(arguments).encode())


def kms(operation: str, **arguments: Any) -> Request:
    """Returns a request to KMS, with an alias and a key that the emulator knows."""
    headers, body = {"x-amz-target": f"TrentService.{operation}"}, json.dumps(arguments).encode()
    known = {KEY_ID: KEY, KEY: KEY, "alias/orders": KEY}
    return Request("kms", "POST", "/", {}, headers, body, key_arn=known.get)


def sqs(operation: str, **arguments: Any) -> Request:
    return Request(
        "sqs",
        "POST",
        "/",
        {},
        {"x-amz-target": f"AmazonSQS.{operation}"},
        json.dumps(arguments).encode(),
    )


def s3(method: str, path: str, headers: dict[str, str] | None = None, **query: str) -> Request:
    return Request("s3", method, path, query, headers or {}, b"")


@pytest.mark.parametrize(
    ("request_", "pairs"),
    [
        (dynamodb("GetItem", TableName="T"), {("dynamodb:GetItem", TABLE)}),
        (dynamodb("GetItem", TableName=TABLE), {("dynamodb:GetItem", TABLE)}),
        (dynamodb("Query", TableName="T", IndexName="i"), {("dynamodb:Query", f"{TABLE}/index/i")}),
        (dynamodb("BatchGetItem", RequestItems={"T": {}, "U": {}}),
        {("dynamodb:BatchGetItem", TABLE), ("dynamodb:BatchGetItem", TABLE[:-1] + "U")}),
        (
            dynamodb("TransactWriteItems", TransactItems=[{"Put": {"TableName": "T"}},
            {"ConditionCheck": {"TableName": "T"}}]),
            {("dynamodb:PutItem", TABLE), ("dynamodb:ConditionCheckItem", TABLE)},
        ),
        (dynamodb("TransactGetItems", TransactItems=[{"Get": {"TableName": "T"}}]),
        {("dynamodb:GetItem", TABLE)}),
        (dynamodb("ExecuteStatement", Statement='SELECT * FROM "T"."i" WHERE pk = ?'),
        {("dynamodb:PartiQLSelect", f"{TABLE}/index/i")}),
        (
            dynamodb("BatchExecuteStatement", Statements=[{"Statement": "UPDATE \"T\" SET a = 1"},
            {"Statement": "INSERT INTO \"T\" VALUE {}"}]),
            {("dynamodb:PartiQLUpdate", TABLE), ("dynamodb:PartiQLInsert", TABLE)},
        ),
        (dynamodb("ExecuteStatement", Statement="DELETE FROM T WHERE pk = 'x'"),
        {("dynamodb:PartiQLDelete", TABLE)}),
        (dynamodb("ExecuteStatement", Statement="UPDATE \"T\" SET x = 'from U', y = 'into V'"),
        {("dynamodb:PartiQLUpdate", TABLE)}),
        (dynamodb("ExecuteTransaction",
        TransactStatements=[{"Statement": "EXISTS(SELECT * FROM \"T\" WHERE pk = 'x')"}]),
        {("dynamodb:PartiQLSelect", TABLE)}),
        (dynamodb("ExecuteStatement", Statement="what is this"),
        {("dynamodb:PartiQLUnknown", "*")}),
        (dynamodb("ListTables"), {("dynamodb:ListTables", "*")}),
        (dynamodb("GetShardIterator", "DynamoDBStreams_20120810", StreamArn=STREAM),
        {("dynamodb:GetShardIterator", STREAM)}),
        (
            dynamodb("GetRecords", "DynamoDBStreams_20120810",
            ShardIterator=base64.urlsafe_b64encode(json.dumps({"arn": STREAM}).encode()).decode()),
            {("dynamodb:GetRecords", STREAM)},
        ),
        (dynamodb("ListStreams", "DynamoDBStreams_20120810", TableName="T"),
        {("dynamodb:ListStreams", f"{TABLE}/stream/*")}),
        (sqs("SendMessageBatch", QueueUrl="http://127.0.0.1:1/000000000000/q"),
        {("sqs:SendMessage", "arn:aws:sqs:us-east-1:000000000000:q")}),
        (sqs("GetQueueUrl", QueueName="q"),
        {("sqs:GetQueueUrl", "arn:aws:sqs:us-east-1:000000000000:q")}),
        (Request("sqs", "POST", "/", {}, {},
        b"Action=DeleteMessage&QueueUrl=http%3A%2F%2Fx%2F0%2Fq"),
        {("sqs:DeleteMessage", "arn:aws:sqs:us-east-1:000000000000:q")}),
        (s3("GET", "/b/a/k.csv"), {("s3:GetObject", "arn:aws:s3:::b/a/k.csv")}),
        (s3("HEAD", "/b/k"), {("s3:GetObject", "arn:aws:s3:::b/k")}),
        (s3("GET", "/b", prefix="x"), {("s3:ListBucket", "arn:aws:s3:::b")}),
        (s3("PUT", "/b/k", {"x-amz-copy-source": "/c/d"}), {("s3:PutObject", "arn:aws:s3:::b/k"),
        ("s3:GetObject", "arn:aws:s3:::c/d")}),
        (s3("GET", "/b/k", versionId="1"), {("s3:GetObjectVersion", "arn:aws:s3:::b/k")}),
        (Request("s3", "POST", "/b", {"delete": ""}, {},
        b"<Delete><Object><Key>a/&amp;b</Key></Object></Delete>"),
        {("s3:DeleteObject", "arn:aws:s3:::b/a/&b")}),
        (s3("DELETE", "/b/k", versionId="1"), {("s3:DeleteObjectVersion", "arn:aws:s3:::b/k")}),
        (s3("PUT", "/b/k", uploadId="u", partNumber="1"), {("s3:PutObject", "arn:aws:s3:::b/k")}),
        (s3("PUT", "/b/k", {"x-amz-acl": "public-read"}), {("s3:PutObject", "arn:aws:s3:::b/k"),
        ("s3:PutObjectAcl", "arn:aws:s3:::b/k")}),
        (s3("PUT", "/b/k", {"x-amz-copy-source": "/c/d%20e?versionId=1"}),
        {("s3:PutObject", "arn:aws:s3:::b/k"), ("s3:GetObjectVersion", "arn:aws:s3:::c/d e")}),
        (s3("GET", "/b", policy=""), {("s3:GetBucketPolicy", "arn:aws:s3:::b")}),
        (s3("PUT", "/b", lifecycle=""), {("s3:PutLifecycleConfiguration", "arn:aws:s3:::b")}),
        (s3("PUT", "/b", versions=""), {("s3:?", "arn:aws:s3:::b")}),
        (s3("HEAD", "/b/k", versionId="1"), {("s3:GetObjectVersion", "arn:aws:s3:::b/k")}),
        (s3("GET", "/b/k", versionId="1", tagging=""),
        {("s3:GetObjectVersionTagging", "arn:aws:s3:::b/k")}),
        (s3("POST", "/b/k", {"x-amz-tagging": "a=b"}, uploads=""),
        {("s3:PutObject", "arn:aws:s3:::b/k"), ("s3:PutObjectTagging", "arn:aws:s3:::b/k")}),
        (Request("s3", "POST", "/b", {"delete": ""}, {},
        b"<Object><Key>k</Key><VersionId>1</VersionId></Object>"),
        {("s3:DeleteObjectVersion", "arn:aws:s3:::b/k")}),
        (s3("PATCH", "/b/k"), {("s3:?", "arn:aws:s3:::b/k")}),
        (s3("GET", "/"), {("s3:ListAllMyBuckets", "*")}),
        (
            Request("ssm", "POST", "/", {}, {"x-amz-target": "AmazonSSM.GetParameter"},
            b'{"Name": "/a/b"}'),
            {("ssm:GetParameter", "arn:aws:ssm:us-east-1:000000000000:parameter/a/b")},
        ),
        (
            Request("ssm", "POST", "/", {}, {"x-amz-target": "AmazonSSM.GetParameter"},
            b'{"Name": "/secure", "WithDecryption": true}'),
            {("ssm:GetParameter", "arn:aws:ssm:us-east-1:000000000000:parameter/secure")},
        ),
        (
            Request("ssm", "POST", "/", {}, {"x-amz-target": "AmazonSSM.GetParameters"},
            b'{"Names": ["/a/b:3", "arn:aws:ssm:us-east-1:1:parameter/c"]}'),
            {("ssm:GetParameters",
            f"arn:aws:ssm:us-east-1:000000000000:parameter/{each}") for each in ("a/b", "c")},
        ),
        *(
            (kms(operation, **arguments), {(f"kms:{action}", arn) for action, arn in needed})
            for operation, arguments, needed in [
                ("Encrypt", {"KeyId": KEY_ID}, [("Encrypt", KEY)]),
                ("Encrypt", {"KeyId": KEY}, [("Encrypt", KEY)]),
                ("Encrypt", {"KeyId": "alias/orders"}, [("Encrypt", KEY)]),
                ("Decrypt", {"CiphertextBlob": SEALED}, [("Decrypt", KEY)]),
                ("Decrypt", {"CiphertextBlob": NO_CIPHERTEXT}, []),
                ("Decrypt", {"CiphertextBlob": NO_CIPHERTEXT, "KeyId": KEY}, [("Decrypt", KEY)]),
                ("ReEncrypt", {"CiphertextBlob": NO_CIPHERTEXT, "DestinationKeyId": OTHER_KEY},
                [("ReEncryptTo", OTHER_KEY)]),
                ("ReEncrypt", {"CiphertextBlob": SEALED, "DestinationKeyId": OTHER_KEY},
                [("ReEncryptFrom", KEY), ("ReEncryptTo", OTHER_KEY)]),
                ("UpdateAlias", {"AliasName": "alias/orders", "TargetKeyId": OTHER_KEY},
                [("UpdateAlias", ALIAS), ("UpdateAlias", OTHER_KEY)]),
                ("GenerateRandom", {}, [("GenerateRandom", "*")]),
                ("ListKeys", {}, [("ListKeys", "*")]),
            ]
        ),
        *(
            (Request("cloudformation", "POST", "/", {}, {}, body.encode()),
            {(f"cloudformation:{action}", arn)})
            for body, action, arn in [
                ("Action=DescribeStacks&StackName=app-x", "DescribeStacks", stack_id("app-x")),
                ("Action=DescribeStacks&StackName=arn%3Aaws%3Ax", "DescribeStacks", "arn:aws:x"),
                ("Action=DescribeStacks", "DescribeStacks", "*"),
            ]
        ),
        (Request("sqs", "POST", "/000000000000/q", {}, {"x-amz-target": "AmazonSQS.PurgeQueue"},
        b"{}"), {("sqs:PurgeQueue", "arn:aws:sqs:us-east-1:000000000000:q")}),
        *(
            (Request("lambda", method, f"/2015-03-31/functions/{name}{rest}", query, {}, b""),
            {(f"lambda:{action}", f"{FUNCTION}{arn}")})
            for method, name, rest, query, action, arn in [
                ("POST", "F", "/invocations", {}, "InvokeFunction", ":F"),
                ("POST", "F", "/invocations", {"Qualifier": "live"}, "InvokeFunction", ":F:live"),
                ("POST", "F:live", "/invocations", {}, "InvokeFunction", ":F:live"),
                ("POST", f"{FUNCTION}:F", "/invocations", {}, "InvokeFunction", ":F"),
                ("POST", "000000000000:function:F", "/invocations", {}, "InvokeFunction", ":F"),
                ("GET", "F", "/configuration", {}, "GetFunctionConfiguration", ":F"),
                ("GET", "F", "", {}, "GetFunction", ":F"),
                ("DELETE", "F", "", {}, "?", ":F"),
            ]
        ),
        (Request("lambda", "GET", "/2015-03-31/functions/", {}, {}, b""),
        {("lambda:ListFunctions", "*")}),
        (Request("sns", "POST", "/", {}, {}, b"Action=Publish&TopicArn=arn%3At&Message=m"),
        {("sns:Publish", "arn:t")}),
        (Request("sns", "POST", "/", {}, {}, b"Action=PublishBatch&TopicArn=arn%3At"),
        {("sns:Publish", "arn:t")}),
        (Request("sns", "POST", "/", {}, {}, b"Action=Publish&PhoneNumber=1&Message=m"),
        {("sns:Publish", "*")}),
        (Request("sns", "POST", "/", {}, {}, b"Action=Unsubscribe&SubscriptionArn=arn%3At%3Aid"),
        {("sns:Unsubscribe", "arn:t")}),
        (Request("events", "POST", "/", {}, {"x-amz-target": "AWSEvents.PutEvents"},
        json.dumps({"Entries": [{}, {"EventBusName": "own"},
        {"EventBusName": f"{EVENTS}:event-bus/third"}]}).encode()),
        {("events:PutEvents", f"{EVENTS}:event-bus/{bus}") for bus in ("default", "own", "third")}),
        (Request("events", "POST", "/", {}, {"x-amz-target": "AWSEvents.PutRule"},
        b'{"Name": "r", "EventBusName": "own"}'),
        {("events:PutRule", f"{EVENTS}:rule/own/r")}),
        *(
            (Request("kinesis", "POST", "/", {}, {"x-amz-target": f"Kinesis_20131202.{action}"},
            json.dumps(arguments).encode()),
            {(f"kinesis:{action}", f"arn:aws:kinesis:us-east-1:000000000000:stream/{name}")})
            for action, arguments, name in [
                ("PutRecord", {"StreamName": "s"}, "s"),
                ("PutRecords", {"StreamARN":
                "arn:aws:kinesis:us-east-1:000000000000:stream/t"}, "t"),
            ]
        ),
        (Request("sts", "POST", "/", {}, {}, b"Action=GetCallerIdentity"),
        {("sts:GetCallerIdentity", "*")}),
    ],
)  # fmt: skip
def test_request_needs_actions_on_resources(request_: Request, pairs: set[tuple[str, str]]) -> None:
    assert request_.permissions() == {Permission(*pair) for pair in pairs}


def test_signer_is_read_from_the_header_or_a_presigned_address() -> None:
    header = (
        "AWS4-HMAC-SHA256 Credential=function-F/20260101/us-east-1/sqs/aws4_request, "
        "SignedHeaders=host, Signature=0"
    )
    assert signer({"authorization": header}, {}) == ("function-F", "sqs")
    assert signer({}, {"X-Amz-Credential": "function-F/20260101/us-east-1/s3/aws4_request"}) == (
        "function-F",
        "s3",
    )
    assert signer({}, {"AWSAccessKeyId": "function-F", "Signature": "x"}) == ("function-F", "s3")
    assert signer({}, {}) == ("", "")


def test_address_presigned_with_sdk_defaults_identifies_its_signer() -> None:
    url = make_client("s3").generate_presigned_url("get_object", Params={"Bucket": "b", "Key": "k"})
    query = dict(parse_qsl(urlsplit(url).query))
    assert signer({}, query)[0] == "test"


def role(*statements: dict[str, Any], managed: tuple[str, ...] = ()) -> Role:
    return Role("R", ({"Version": "2012-10-17", "Statement": list(statements)},), managed)


ALLOW = {"Effect": "Allow", "Action": ["dynamodb:GetItem", "dynamodb:PutItem"], "Resource": TABLE}


@pytest.mark.parametrize(
    ("role_", "action", "resource", "allowed"),
    [
        (role(ALLOW), "dynamodb:GetItem", TABLE, True),
        (role(ALLOW), "dynamodb:Scan", TABLE, False),
        (role(ALLOW), "dynamodb:GetItem", TABLE + "2", False),
        (role(ALLOW), "dynamodb:Query", f"{TABLE}/index/i", False),
        # IAM ignores case in actions.
        (
            role({**ALLOW, "Action": "dynamodb:getitem"}),
            "dynamodb:GetItem",
            TABLE,
            True,
        ),
        (role({**ALLOW, "Action": "dynamodb:*"}), "dynamodb:Scan", TABLE, True),
        (
            role({"Effect": "Allow", "NotAction": "dynamodb:Scan", "Resource": TABLE}),
            "dynamodb:GetItem",
            TABLE,
            True,
        ),
        (
            role({"Effect": "Allow", "NotAction": "dynamodb:Scan", "Resource": TABLE}),
            "dynamodb:Scan",
            TABLE,
            False,
        ),
        (role({**ALLOW, "Resource": TABLE + "?"}), "dynamodb:GetItem", TABLE + "x", True),
        (role({**ALLOW, "Resource": TABLE + "?"}), "dynamodb:GetItem", TABLE, False),
        (
            role({**ALLOW, "Action": "s3:GetObject", "Resource": "arn:aws:s3:::my.bucket/*"}),
            "s3:GetObject",
            "arn:aws:s3:::my-bucket/k",
            False,
        ),
        (
            role({**ALLOW, "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/a+[b/*"}),
            "s3:GetObject",
            "arn:aws:s3:::b/a+[b/k\nl",
            True,
        ),
        (role({**ALLOW, "Resource": "*"}), "dynamodb:GetItem", TABLE, True),
        (role(ALLOW, {**ALLOW, "Effect": "Deny"}), "dynamodb:GetItem", TABLE, False),
        (
            Role("R", ({"Statement": [ALLOW]}, {"Statement": {**ALLOW, "Effect": "Deny"}})),
            "dynamodb:GetItem",
            TABLE,
            False,
        ),
        # Conditions are not evaluated.
        (
            role({**ALLOW, "Condition": {"StringEquals": {"a": "b"}}}),
            "dynamodb:GetItem",
            TABLE,
            True,
        ),
        (
            role(
                ALLOW,
                {
                    **ALLOW,
                    "Effect": "Deny",
                    "Condition": {"Bool": {"aws:SecureTransport": "false"}},
                },
            ),
            "dynamodb:GetItem",
            TABLE,
            True,
        ),
        (role(), "sts:GetCallerIdentity", "*", True),
        (
            role(managed=("AWSLambdaBasicExecutionRole",)),
            "logs:PutLogEvents",
            "arn:aws:logs:us-east-1:000000000000:log-group:g",
            True,
        ),
        (role(managed=("AWSLambdaBasicExecutionRole",)), "dynamodb:GetItem", TABLE, False),
        # A role defined elsewhere: its permissions are unknown.
        (None, "dynamodb:Scan", TABLE, True),
    ],
)
def test_role_allows_what_its_policies_allow(
    role_: Role | None, action: str, resource: str, allowed: bool
) -> None:
    permissions = Permissions()
    permissions.set({"F": role_})
    assert permissions.allows("F", Permission(action, resource)) is allowed


def test_unknown_function_may_do_nothing() -> None:
    assert not Permissions().allows("F", Permission("dynamodb:GetItem", TABLE))


def test_used_and_refused_permissions_are_counted_and_queries_are_not() -> None:
    permissions = Permissions()
    permissions.set({"F": role(ALLOW)})
    used, refused = Permission("dynamodb:GetItem", TABLE), Permission("dynamodb:Scan", TABLE)
    assert [permissions.allows("F", permission) for permission in (used, used, refused)] == [
        True,
        True,
        False,
    ]
    assert permissions.may("F", Permission("dynamodb:PutItem", TABLE))
    assert dict(permissions.used) == {Grant("F", "dynamodb:GetItem", TABLE): 2}
    assert dict(permissions.refused) == {("F", refused): 1}
    assert [grant.action for grant in permissions.grants()] == [
        "dynamodb:GetItem",
        "dynamodb:PutItem",
    ]


def test_permissions_of_aws_managed_policies_are_listed_and_counted_too() -> None:
    permissions = Permissions()
    permissions.set({"F": role(managed=("AWSLambdaBasicExecutionRole",))})
    assert permissions.allows(
        "F", Permission("logs:PutLogEvents", "arn:aws:logs:us-east-1:000000000000:log-group:g")
    )
    assert [(grant.action, permissions.used[grant]) for grant in permissions.grants()] == [
        ("logs:CreateLogGroup", 0),
        ("logs:CreateLogStream", 0),
        ("logs:PutLogEvents", 1),
    ]


def credential(key: str, service: str) -> str:
    return f"Credential={key}/20260101/us-east-1/{service}/aws4_request"


class Wire:
    """A guard before an emulator that answers 200 to everything, and the messages on the wire."""

    def __init__(self, kept: Any = None) -> None:
        self.stored: list[bytes] = []
        self.reported: list[dict[str, Any]] = []
        #: Requests to the runtime.
        self.requested: list[dict[str, Any]] = []
        identities = Identities(people="people", runtime="runtime")
        #: Every bucket is open to every page.
        open_to_pages = Cors({"access-control-allow-origin": "*"}, is_preflight=False)
        self.guard = Guard(
            self._store,
            self.reported.append,
            identities,
            Access(),
            key_seconds=0,
            cors=lambda method, path, headers: open_to_pages,
            kept=kept,
            request=self.requested.append,
        )

    async def _store(self, scope: Any, receive: Any, send: Any) -> None:
        self.stored.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"stored"})

    def ask(self, request: Request, key: str = "key-of-F", path: str = "/") -> tuple[int, str]:
        token = (
            f"Bearer {key}" if path.startswith("/_mayfly/") else credential(key, request.service)
        )
        headers = {"host": "127.0.0.1:3001", **request.headers, "authorization": token}
        return self.send(request, list(headers.items()), path=path if path != "/" else request.path)

    def send(
        self, request: Request, headers: list[tuple[str, str]], *, path: str = "/", query: str = ""
    ) -> tuple[int, str]:
        sent: list[dict[str, Any]] = []
        asyncio.run(self.serve(replace(request, path=path), headers, sent, query=query))
        return sent[0]["status"], sent[1]["body"].decode()

    async def serve(
        self,
        request: Request,
        headers: list[tuple[str, str]],
        sent: list[dict[str, Any]],
        *,
        query: str = "",
    ) -> None:
        scope = {
            "type": "http",
            "method": request.method,
            "path": request.path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers],
            "client": ("127.0.0.1", 40_000),
        }
        parts = [request.body[:3], request.body[3:]]

        async def receive() -> dict[str, Any]:
            if not parts:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

        async def send(message: dict[str, Any]) -> None:
            sent.append(message)

        await self.guard(scope, receive, send)

    def set_roles(self, **roles: Any) -> None:
        body = {
            "roles": roles,
            "keys": {f"key-of-{name}": {"function": name, "secret": "s"} for name in roles},
        }
        self.ask(
            Request("", "POST", "/", {}, {}, json.dumps(body).encode()),
            key="runtime",
            path="/_mayfly/roles",
        )


@pytest.fixture
def wire() -> Wire:
    made = Wire()
    statement = {**ALLOW, "Action": "dynamodb:GetItem"}
    made.set_roles(F={"name": "R", "documents": [{"Statement": statement}], "managed": []})
    return made


def test_allowed_request_reaches_the_emulator_whole(wire: Wire) -> None:
    request = dynamodb("GetItem", TableName="T")
    assert wire.ask(request) == (200, "stored")
    assert wire.stored == [request.body]


def test_request_by_a_key_that_is_about_to_be_registered_waits_for_it() -> None:
    """After a restart of the emulator, functions send requests before their keys are registered."""
    wire = Wire()
    wire.guard._key_seconds = 5.0
    sent: list[dict[str, Any]] = []

    async def scenario() -> None:
        request = dynamodb("GetItem", TableName="T")
        asking = asyncio.ensure_future(
            wire.serve(
                request,
                [*request.headers.items(), ("authorization", credential("key-of-F", "dynamodb"))],
                sent,
            )
        )
        await asyncio.sleep(0.01)
        assert not asking.done()
        roles = {
            "F": {
                "name": "R",
                "documents": [{"Statement": {**ALLOW, "Action": "dynamodb:GetItem"}}],
                "managed": [],
            }
        }
        told = {"roles": roles, "keys": {"key-of-F": {"function": "F", "secret": "s"}}}
        await wire.serve(
            Request("", "POST", "/_mayfly/roles", {}, {}, json.dumps(told).encode()),
            [("authorization", "Bearer runtime")],
            [],
        )
        await asking

    asyncio.run(scenario())
    assert sent[0]["status"] == 200


class FullDisk:
    """A keeper of state whose last write failed, and whose next one fails while `is_full`."""

    is_failing = is_full = True

    def commit(self) -> None:
        if self.is_full:
            raise OSError(28, "No space left on device")
        self.is_failing = False


def test_no_request_begins_while_the_disk_is_full() -> None:
    """Otherwise an unwritten change would be visible to all callers, and lost after a kill."""
    disk = FullDisk()
    wire = Wire(disk)
    status, body = wire.ask(dynamodb("PutItem", TableName="T"), key="people")
    assert (status, "No space left on device" in body) == (500, True)
    assert wire.stored == []
    disk.is_full = False
    assert wire.ask(dynamodb("PutItem", TableName="T"), key="people") == (200, "stored")
    assert len(wire.stored) == 1


def test_refusal_names_action_and_resource_and_nothing_reaches_the_emulator(wire: Wire) -> None:
    status, body = wire.ask(dynamodb("PutItem", TableName="T"))
    assert status == 400
    assert json.loads(body)["__type"] == "AccessDeniedException"
    assert (
        f"R/F is not authorized to perform: dynamodb:PutItem on resource: {TABLE} because" in body
    )
    status, body = wire.ask(s3("GET", "/b/k"))
    assert (status, "<Code>AccessDenied</Code>" in body, "s3:GetObject" in body) == (
        403,
        True,
        True,
    )
    assert wire.stored == []
    wire.ask(dynamodb("PutItem", TableName="T"))
    advice = "allow it in the policies of R"
    assert wire.reported == [
        {
            "function": "F",
            "role": "R",
            "action": "dynamodb:PutItem",
            "resource": TABLE,
            "advice": advice,
        },
        {
            "function": "F",
            "role": "R",
            "action": "s3:GetObject",
            "resource": "arn:aws:s3:::b/k",
            "advice": advice,
        },
    ]


def parsed(service: str, status: int, body: bytes, kind: str) -> tuple[str, str]:
    """Returns the code and the message that an SDK reads from an error of a service."""
    model = get_session().get_service_model(service)
    headers = HTTPHeaders.from_dict({"content-type": kind})
    reply = {"status_code": status, "headers": headers, "body": body}
    shape = model.operation_model(model.operation_names[0]).output_shape
    parser: Any = create_parser(model.metadata["protocol"])
    error = parser.parse(reply, shape)["Error"]
    return error["Code"], error["Message"]


@pytest.mark.parametrize("service", sorted(SERVICES))
def test_sdk_reads_the_errors_of_the_guard_for_each_service(service: str) -> None:
    codes = {"AccessDenied", "AccessDeniedException", "AuthorizationError"}
    code, message = parsed(service, *access_denied(service, "<not> allowed"))
    assert (code in codes, message) == (True, "<not> allowed")
    code, message = parsed(service, 500, *requested_fault(service))
    assert (code[:8], message) == ("Internal", "a fault that a test requested")


def test_refusal_distinguishes_denied_and_unknown_from_not_allowed(wire: Wire) -> None:
    deny = {"Effect": "Deny", "Action": "dynamodb:GetItem", "Resource": "*"}
    wire.set_roles(F={"name": "R", "documents": [{"Statement": [ALLOW, deny]}], "managed": []})
    assert (
        "with an explicit deny in an identity-based policy"
        in wire.ask(dynamodb("GetItem", TableName="T"))[1]
    )
    assert "does not know which permission" in wire.ask(s3("PATCH", "/b/k"))[1]
    assert [report["advice"] for report in wire.reported] == [
        "a policy of its role denies it",
        "mayfly does not know which permission it needs",
    ]


@pytest.mark.parametrize("key", ["key-of-F", "people", "runtime"])
def test_service_that_the_stack_does_not_have_is_refused_by_name(wire: Wire, key: str) -> None:
    status, body = wire.ask(Request("states", "POST", "/", {}, {}, b"{}"), key=key)
    assert (status, "no service 'states'" in body) == (403, True)
    assert wire.stored == []


@pytest.mark.parametrize(
    "fault",
    [
        {},
        5,
        [1],
        {"function": "F", "action": "a", "kind": "other", "times": 1},
        {"function": "F", "action": "a", "kind": "lose", "times": 0},
        {"function": "F", "action": "s3:GetObject", "kind": "conflict", "times": 1},
        {"function": "F", "action": "dynamodb:GetItem", "kind": "conflict", "times": 1},
        {"function": "F", "action": "s3:GetObject", "kind": "throttle", "times": 1},
        {"function": "F", "action": "a", "kind": "lose", "times": True},
        {"function": "F", "action": "a", "kind": "lose", "times": 1, "more": 1},
        {"function": "F", "action": "a", "kind": "kill", "times": 1, "containing": 1},
    ],
)
def test_malformed_fault_is_rejected_and_changes_nothing(wire: Wire, fault: Any) -> None:
    assert (
        wire.ask(
            Request("", "POST", "/", {}, {}, json.dumps(fault).encode()),
            key="people",
            path="/_mayfly/faults",
        )[0]
        == 400
    )
    assert wire.ask(dynamodb("GetItem", TableName="T")) == (200, "stored")


@pytest.mark.parametrize("path", ["roles", "mappings", "read", "expired", "outlook", "advanced"])
def test_control_requests_are_accepted_from_the_runtime_only(wire: Wire, path: str) -> None:
    request = Request("", "POST", "/", {}, {}, b"{}")
    assert wire.ask(request, key="people", path=f"/_mayfly/{path}")[0] == 403
    assert wire.ask(request, key="key-of-F", path=f"/_mayfly/{path}")[0] == 401
    assert wire.ask(request, key="unknown", path=f"/_mayfly/{path}")[0] == 401


def test_request_with_two_signatures_is_refused(wire: Wire) -> None:
    signed = [
        ("host", "127.0.0.1:3001"),
        *[("authorization", credential(key, "dynamodb")) for key in ("key-of-F", "people")],
    ]
    assert wire.send(dynamodb("GetItem", TableName="T"), signed)[0] == 403
    assert wire.stored == []


@pytest.mark.parametrize(("service", "status"), [("sqs", 403), ("dynamodb", 403), ("s3", 200)])
def test_only_requests_to_s3_are_signed_in_their_query(
    wire: Wire, service: str, status: int
) -> None:
    query = urlencode(
        {
            "X-Amz-Credential": f"people/20260101/us-east-1/{service}/aws4_request",
            "Action": "ListQueues",
        }
    )
    assert (
        wire.send(
            Request(service, "GET", "/", {}, {}, b""), [("host", "127.0.0.1:3001")], query=query
        )[0]
        == status
    )
    assert len(wire.stored) == (status == 200)


def test_cors_of_a_bucket_opens_no_other_service(wire: Wire) -> None:
    page = [
        ("host", "127.0.0.1:3001"),
        ("origin", "https://evil.example"),
        ("authorization", credential("people", "s3")),
    ]
    assert wire.send(s3("GET", "/b/k"), page, path="/b/k")[0] == 200
    assert (
        wire.send(
            s3("POST", "/b"), [*page, ("x-amz-target", "DynamoDB_20120810.ListTables")], path="/b"
        )[0]
        == 403
    )
    assert wire.send(s3("GET", "/b"), page, path="/b", query="Action=ListQueues")[0] == 403
    assert len(wire.stored) == 1


def test_one_write_that_is_not_allowed_refuses_its_whole_transaction(wire: Wire) -> None:
    request = dynamodb(
        "TransactGetItems", TransactItems=[{"Get": {"TableName": "T"}}, {"Get": {"TableName": "U"}}]
    )
    assert wire.ask(request)[0] == 400
    assert wire.stored == []


def test_requests_of_administrators_are_allowed(wire: Wire) -> None:
    parts = dynamodb("DeleteTable", TableName="T")
    assert wire.ask(parts, key="people") == (200, "stored")


@pytest.mark.parametrize("body", [b"[" * 100_000, b"\xff", b"[]", b'{"TransactItems": [1]}'])
def test_malformed_body_is_left_to_the_emulator(wire: Wire, body: bytes) -> None:
    headers = {"x-amz-target": "DynamoDB_20120810.TransactWriteItems"}
    assert wire.ask(Request("dynamodb", "POST", "/", {}, headers, body)) == (200, "stored")


@pytest.mark.parametrize(
    ("kind", "reaches", "status"), [("refuse", 0, 500), ("lose", 1, 500), ("throttle", 0, 400)]
)
def test_fault_strikes_as_often_as_requested(
    wire: Wire, kind: str, reaches: int, status: int
) -> None:
    fault = {"function": "F", "action": "dynamodb:GetItem", "kind": kind, "times": 1}
    wire.ask(
        Request("", "POST", "/", {}, {}, json.dumps(fault).encode()),
        key="people",
        path="/_mayfly/faults",
    )
    request = dynamodb("GetItem", TableName="T")
    assert wire.ask(request)[0] == status
    assert len(wire.stored) == reaches
    assert wire.ask(request) == (200, "stored")


@pytest.mark.parametrize(("kind", "reaches"), [("kill", 0), ("kill-after", 1)])
def test_killed_call_has_its_process_named_and_gets_no_response(
    wire: Wire, kind: str, reaches: int
) -> None:
    fault = {
        "function": "F", "action": "dynamodb:*", "kind": kind, "times": 1, "containing": '"mine"',
    }  # fmt: skip
    wire.ask(
        Request("", "POST", "/", {}, {}, json.dumps(fault).encode()),
        key="people",
        path="/_mayfly/faults",
    )
    assert wire.ask(dynamodb("GetItem", TableName="T", Key={})) == (200, "stored")
    wire.stored.clear()
    request, sent = (
        dynamodb("GetItem", TableName="T", Key={"pk": {"S": "mine"}}),
        list[dict[str, Any]](),
    )
    signature = credential("key-of-F", "dynamodb")
    headers = {"host": "127.0.0.1:3001", **request.headers, "authorization": signature}
    asyncio.run(wire.serve(request, list(headers.items()), sent))
    assert (sent, len(wire.stored)) == ([], reaches)
    assert wire.requested == [{"kill": {"function": "F", "port": 40_000}}]


@pytest.mark.parametrize(
    "body",
    [{}, {"seconds": 1, "at_once": False}, {"seconds": 1.0}, {"seconds": -1.0, "at_once": True}],
    ids=["empty", "whole-number", "part", "negative"],
)
def test_malformed_request_to_move_the_clock_is_rejected(wire: Wire, body: Any) -> None:
    content = json.dumps(body).encode()
    request = Request("", "POST", "/", {}, {}, content)
    assert wire.ask(request, key="people", path="/_mayfly/advance")[0] == 400
    assert wire.requested == []


def test_request_to_move_the_clock_waits_for_the_runtime(wire: Wire) -> None:
    def serve(path: str, key: str, body: Any, sent: list[dict[str, Any]]) -> Any:
        request = Request("", "POST", path, {}, {}, json.dumps(body).encode())
        return wire.serve(request, [("authorization", f"Bearer {key}")], sent)

    async def scenario() -> list[dict[str, Any]]:
        sent: list[dict[str, Any]] = []
        asked = {"seconds": 5.0, "at_once": True}
        waiting = asyncio.ensure_future(serve("/_mayfly/advance", "people", asked, sent))
        for _ in range(20):  # It reads the body in a few steps.
            await asyncio.sleep(0)
        (request,) = wire.requested
        number = request["advance"]["number"]
        assert request == {"advance": {**asked, "number": number}}
        reply = {"number": number, "reply": {"moves": 1}}
        await serve("/_mayfly/advanced", "runtime", reply, [])
        await waiting
        return sent

    sent = asyncio.run(scenario())
    assert (sent[0]["status"], sent[1]["body"]) == (200, b'{"moves": 1}')


def test_cleared_faults_strike_no_longer(wire: Wire) -> None:
    def ask(path: str, body: Any, key: str = "people") -> tuple[int, str]:
        content = json.dumps(body).encode()
        return wire.ask(Request("", "POST", "/", {}, {}, content), key=key, path=f"/_mayfly/{path}")

    fault = {"function": "F", "action": "dynamodb:GetItem", "kind": "refuse", "times": 3}
    ask("faults", fault)
    ask("faults", {**fault, "kind": "silence", "times": 1})
    request = dynamodb("GetItem", TableName="T")
    assert wire.ask(request)[0] == 500
    assert ask("clear-faults", {"kind": "refuse"})[0] == 400
    assert ask("clear-faults", {}, key="key-of-F")[0] == 401
    assert ask("clear-faults", {}) == (200, '{"cleared": 3}')
    assert wire.ask(request) == (200, "stored")
