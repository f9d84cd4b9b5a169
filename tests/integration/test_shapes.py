"""Templates of the kinds that people have do what AWS documents.

Each of `tests/apps/shapes` is a small template with the shape of many in public repositories. Each
starts by `mayfly up`, gets a request, a message or an item, and its answer is compared with AWS's
pages.
"""

import re
from pathlib import Path
from typing import Any, Final

import pytest

from mayfly_testing.stack import ROOT, running
from tests.support.shapes import (
    ABSENT,
    Shape,
    answered_key,
    ask,
    call,
    differences,
    every,
    noted,
    received,
    send,
    soon,
    then,
    token,
)

FOLDER: Final = ROOT / "tests" / "apps" / "shapes"

_AWS: Final = "https://docs.aws.amazon.com"
_GATEWAY: Final = f"{_AWS}/apigateway/latest/developerguide"
_LAMBDA: Final = f"{_AWS}/lambda/latest/dg"
_BUS: Final = f"{_AWS}/eventbridge/latest/userguide"
_SAM: Final = f"{_AWS}/serverless-application-model/latest/developerguide"
_CFN: Final = f"{_AWS}/AWSCloudFormation/latest/UserGuide"
_OWN: Final = "docs/local.md"

PROXY: Final = f"{_GATEWAY}/set-up-lambda-proxy-integrations.html"
PAYLOADS: Final = f"{_GATEWAY}/http-api-develop-integrations-lambda.html"
AUTHORIZERS: Final = f"{_GATEWAY}/apigateway-use-lambda-authorizer.html"
REFUSALS: Final = f"{_GATEWAY}/supported-gateway-response-types.html"
QUEUES: Final = f"{_LAMBDA}/with-sqs.html"
FAILURES: Final = f"{_LAMBDA}/services-sqs-errorhandling.html"
TOPICS: Final = f"{_LAMBDA}/with-sns.html"
RECORDS: Final = f"{_LAMBDA}/invocation-async-retain-records.html"
URLS: Final = f"{_LAMBDA}/urls-invocation.html"

UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
ALLOWED: Final = {"Authorization": "allow"}
DENIED: Final = {"Authorization": "deny"}
#: The body of an error that a gateway makes itself.
FORBIDDEN: Final = {"status": 403, "body": {"message": "Forbidden"}}


def message(**of_record: Any) -> dict[str, Any]:
    """Returns the event of one message of a queue."""
    return {"Records": [{"eventSource": "aws:sqs", **of_record}]}


SHAPES: Final[dict[str, Shape]] = {
    # ------------------------------------------------------------ REST
    "rest_implicit": Shape(
        PROXY,
        ask("/hello?a=1&a=2"),
        {
            "status": 200,
            "body": {
                "version": ABSENT,
                "resource": "/hello",
                "path": "/hello",
                "httpMethod": "GET",
                "queryStringParameters": {"a": "2"},
                "multiValueQueryStringParameters": {"a": ["1", "2"]},
                "pathParameters": None,
                "stageVariables": None,
                "body": None,
                "isBase64Encoded": False,
                "requestContext": {
                    "stage": "Prod",
                    "path": "/Prod/hello",
                    "resourcePath": "/hello",
                    "httpMethod": "GET",
                    "protocol": "HTTP/1.1",
                },
            },
        },
    ),
    "rest_explicit": Shape(
        PROXY,
        every(
            root=ask("/"),
            deep=ask("/a/b", "DELETE", json={"x": 1}),
        ),
        {
            "root": {"status": 200, "body": {"resource": "/", "path": "/"}},
            "deep": {
                "status": 200,
                "body": {
                    "resource": "/{proxy+}",
                    "httpMethod": "DELETE",
                    "pathParameters": {"proxy": "a/b"},
                    "stageVariables": {"table": "books"},
                    "body": '{"x": 1}',
                    "requestContext": {"stage": "dev", "path": "/dev/a/b"},
                },
            },
        },
    ),
    "rest_definition_body": Shape(
        f"{_GATEWAY}/api-gateway-swagger-extensions-integration.html",
        every(book=ask("/books/7"), health=ask("/health"), other=ask("/books/7", "POST")),
        {
            "book": {
                "status": 200,
                "body": {"resource": "/books/{id}", "pathParameters": {"id": "7"}},
            },
            "health": {"status": 200, "body": {"status": "ok"}},
            "other": {"status": 403, "body": {"message": "Missing Authentication Token"}},
        },
    ),
    "rest_stage_variable": Shape(
        f"{_GATEWAY}/aws-api-gateway-stage-variables-reference.html",
        ask("/hello"),
        {"status": 200, "body": {"stageVariables": {"alias": "live"}, "resource": "/hello"}},
    ),
    "rest_include": Shape(
        f"{_CFN}/transform-aws-include.html",
        ask("/pets", "POST", data="rex"),
        {"status": 200, "body": {"resource": "/pets", "httpMethod": "POST", "body": "rex"}},
    ),
    "rest_by_hand": Shape(
        PROXY,
        ask("/users/ada"),
        {
            "status": 200,
            "body": {
                "resource": "/users/{user}",
                "pathParameters": {"user": "ada"},
                "requestContext": {"stage": "test", "path": "/test/users/ada"},
            },
        },
    ),
    "rest_cors": Shape(
        f"{_SAM}/sam-property-api-corsconfiguration.html",
        ask("/notes", "OPTIONS", headers={"Origin": "https://any.example"}),
        {
            "status": 200,
            "headers": {
                "Access-Control-Allow-Origin": "*",
                "Access-Control-Allow-Methods": "GET,OPTIONS,POST",
                "Access-Control-Allow-Credentials": ABSENT,
            },
        },
    ),
    "rest_api_key": Shape(
        f"{_GATEWAY}/api-gateway-api-usage-plans.html",
        every(
            without=ask("/quotes"),
            wrong=ask("/quotes", headers={"x-api-key": "wrong"}),
            right=answered_key("/quotes"),
            open=ask("/open"),
        ),
        {
            "without": FORBIDDEN,
            "wrong": FORBIDDEN,
            "right": {"status": 200, "body": {"requestContext": {"identity": {"apiKey": ...}}}},
            "open": {"status": 200},
        },
    ),
    "rest_token_authorizer": Shape(
        AUTHORIZERS,
        every(
            allowed=ask("/me", headers=ALLOWED),
            denied=ask("/me", headers=DENIED),
            without=ask("/me"),
            open=ask("/open"),
        ),
        {
            "allowed": {
                "status": 200,
                "body": {
                    "requestContext": {
                        "authorizer": {"principalId": "ada", "plan": "free", "seats": "3"}
                    }
                },
            },
            "denied": {
                "status": 403,
                "body": {
                    "Message": "User is not authorized to access this resource "
                    "with an explicit deny"
                },
            },
            "without": {"status": 401, "body": {"message": "Unauthorized"}},
            "open": {"status": 200},
        },
    ),
    "rest_request_authorizer": Shape(
        AUTHORIZERS,
        every(
            allowed=ask("/me?tenant=x", headers=ALLOWED),
            without=ask("/me", headers=ALLOWED),
        ),
        {
            "allowed": {
                "status": 200,
                "body": {"requestContext": {"authorizer": {"principalId": "ada"}}},
            },
            "without": {"status": 401, "body": {"message": "Unauthorized"}},
        },
    ),
    "rest_cognito": Shape(
        f"{_GATEWAY}/apigateway-enable-cognito-user-pool.html",
        every(with_token=token("/me"), without=ask("/me")),
        {
            "with_token": {
                "status": 200,
                "body": {
                    "requestContext": {
                        "authorizer": {"claims": {"cognito:username": "ada", "sub": ...}}
                    }
                },
            },
            "without": {"status": 401, "body": {"message": "Unauthorized"}},
        },
    ),
    "rest_iam": Shape(
        REFUSALS,
        ask("/me"),
        {
            "status": 403,
            "headers": {"x-amzn-ErrorType": "MissingAuthenticationTokenException"},
            "body": {"message": "Missing Authentication Token"},
        },
    ),
    "rest_binary": Shape(
        f"{_GATEWAY}/lambda-proxy-binary-media.html",
        ask(
            "/files",
            "POST",
            data=b"\x89PNG\x00",
            headers={"Content-Type": "image/png", "Accept": "image/png"},
        ),
        {"status": 200, "headers": {"Content-Type": "image/png", "Content-Length": "5"}},
    ),
    "rest_gateway_response": Shape(
        REFUSALS,
        ask("/nothing"),
        {
            "status": 403,
            "headers": {"Access-Control-Allow-Origin": "*"},
            "body": {"message": "Missing Authentication Token"},
        },
    ),
    "rest_model": Shape(
        f"{_GATEWAY}/api-gateway-method-request-validation.html",
        every(
            good=ask("/users", "POST", json={"name": "ada"}),
            bad=ask("/users", "POST", json={"name": 1}),
        ),
        {
            "good": {"status": 200, "body": {"body": '{"name": "ada"}'}},
            "bad": {"status": 400, "body": {"message": "Invalid request body"}},
        },
    ),
    # ------------------------------------------------------------ HTTP APIs and function URLs
    "http_implicit": Shape(
        PAYLOADS,
        ask("/orders/7?a=1&a=2", "PUT", data="x", headers={"Cookie": "c=1; d=2"}),
        {
            "status": 200,
            "body": {
                "version": "2.0",
                "routeKey": "PUT /orders/{id}",
                "rawPath": "/orders/7",
                "rawQueryString": "a=1&a=2",
                "cookies": ["c=1", "d=2"],
                "queryStringParameters": {"a": "1,2"},
                "pathParameters": {"id": "7"},
                "stageVariables": ABSENT,
                "body": "x",
                "isBase64Encoded": False,
                "requestContext": {
                    "stage": "$default",
                    "http": {"method": "PUT", "path": "/orders/7", "protocol": "HTTP/1.1"},
                },
            },
        },
    ),
    "http_inferred": Shape(
        PAYLOADS,
        ask("/any/path"),
        {
            "status": 200,
            "headers": {"Content-Type": "application/json"},
            "body": {"route": "$default"},
        },
    ),
    "http_payload_1": Shape(
        PAYLOADS,
        ask("/old/7?a=1"),
        {
            "status": 200,
            "body": {
                "version": "1.0",
                "resource": "/old/{id}",
                "path": "/old/7",
                "httpMethod": "GET",
                "queryStringParameters": {"a": "1"},
                "multiValueQueryStringParameters": {"a": ["1"]},
                "pathParameters": {"id": "7"},
                "body": None,
                "requestContext": {"stage": "$default", "resourcePath": "/old/{id}"},
            },
        },
    ),
    "http_jwt": Shape(
        f"{_GATEWAY}/http-api-jwt-authorizer.html",
        every(
            right=token("/me", "--scope", "read"),
            other_scope=token("/me", "--scope", "write"),
            without=ask("/me"),
        ),
        {
            "right": {
                "status": 200,
                "body": {
                    "requestContext": {
                        "authorizer": {
                            "jwt": {
                                "claims": {"iss": "https://login.example/", "sub": "ada"},
                                "scopes": ["read"],
                            }
                        }
                    }
                },
            },
            "other_scope": {"status": 403, "body": {"message": "Forbidden"}},
            "without": {"status": 401, "body": {"message": "Unauthorized"}},
        },
    ),
    "http_stage": Shape(
        f"{_GATEWAY}/http-api-stages.html",
        every(
            items=ask("/items", headers={"Origin": "https://shop.example"}),
            preflight=ask(
                "/items",
                "OPTIONS",
                headers={"Origin": "https://shop.example", "Access-Control-Request-Method": "GET"},
            ),
            other=ask("/nothing"),
        ),
        {
            "items": {
                "status": 200,
                "headers": {"Access-Control-Allow-Origin": "https://shop.example"},
                "body": {
                    "rawPath": "/beta/items",
                    "stageVariables": {"color": "blue"},
                    "requestContext": {"stage": "beta", "http": {"path": "/beta/items"}},
                },
            },
            "preflight": {
                "status": 204,
                "headers": {
                    "Access-Control-Allow-Methods": "GET,POST",
                    "Access-Control-Max-Age": "600",
                },
            },
            "other": {"status": 404, "body": {"message": "Not Found"}},
        },
    ),
    "http_simple_authorizer": Shape(
        f"{_GATEWAY}/http-api-lambda-authorizer.html",
        every(
            allowed=ask("/me", headers=ALLOWED),
            denied=ask("/me", headers=DENIED),
            without=ask("/me"),
        ),
        {
            "allowed": {
                "status": 200,
                "body": {
                    "requestContext": {"authorizer": {"lambda": {"plan": "free", "seats": 3}}}
                },
            },
            "denied": FORBIDDEN,
            "without": {"status": 401, "body": {"message": "Unauthorized"}},
        },
    ),
    "http_by_hand": Shape(
        PAYLOADS,
        ask("/pets/rex"),
        {
            "status": 200,
            "body": {"routeKey": "GET /pets/{pet}", "pathParameters": {"pet": "rex"}},
        },
    ),
    "function_url": Shape(
        URLS,
        ask("/a?x=1", "POST", data="hi", headers={"Content-Type": "text/plain"}),
        {
            "status": 200,
            "body": {
                "version": "2.0",
                "routeKey": "$default",
                "rawPath": "/a",
                "rawQueryString": "x=1",
                "body": "hi",
                "requestContext": {
                    "accountId": "anonymous",
                    "stage": "$default",
                    "http": {"method": "POST", "path": "/a"},
                },
            },
        },
    ),
    "function_url_iam": Shape(
        f"{_LAMBDA}/urls-auth.html",
        ask("/"),
        {"status": 403, "body": {"Message": "Forbidden"}},
    ),
    # ------------------------------------------------------------ queues
    "sqs_standard": Shape(
        QUEUES,
        then(
            send(
                "sqs",
                "send_message",
                QueueUrl="{Jobs}",
                MessageBody="hello",
                MessageAttributes={"kind": {"DataType": "String", "StringValue": "greeting"}},
            ),
            noted("Worker"),
        ),
        [
            message(
                messageId=UUID,
                receiptHandle=...,
                body="hello",
                md5OfBody="5d41402abc4b2a76b9719d911017c592",
                awsRegion="us-east-1",
                eventSourceARN=re.compile(r"arn:aws:sqs:us-east-1:\d{12}:.+"),
                attributes={
                    "ApproximateReceiveCount": "1",
                    "SentTimestamp": re.compile(r"\d{13}"),
                    "SenderId": ...,
                    "ApproximateFirstReceiveTimestamp": re.compile(r"\d{13}"),
                },
                messageAttributes={
                    "kind": {
                        "stringValue": "greeting",
                        "dataType": "String",
                        "stringListValues": [],
                        "binaryListValues": [],
                    }
                },
            )
        ],
    ),
    "sqs_filter": Shape(
        f"{_LAMBDA}/invocation-eventfiltering.html",
        then(
            *(
                send("sqs", "send_message", QueueUrl="{Jobs}", MessageBody=body)
                for body in (
                    '{"kind": "note", "total": 101}',
                    '{"kind": "order", "total": 100}',
                    '{"kind": "order", "total": 101}',
                )
            ),
            noted("Worker"),
        ),
        [message(body='{"kind": "order", "total": 101}')],
    ),
    "sqs_fifo": Shape(
        f"{_AWS}/AWSSimpleQueueService/latest/SQSDeveloperGuide/"
        "FIFO-queues-understanding-logic.html",
        then(
            *(
                send(
                    "sqs",
                    "send_message_batch",
                    QueueUrl="{Jobs}",
                    Entries=[
                        {"Id": str(place), "MessageBody": body, "MessageGroupId": "g"}
                        for place, body in enumerate(("one", "two", "one", "three"))
                    ],
                )
                for _ in range(2)
            ),
            noted("Worker"),
        ),
        [
            {
                "Records": [
                    {
                        "body": body,
                        "attributes": {
                            "MessageGroupId": "g",
                            "MessageDeduplicationId": re.compile(r"[0-9a-f]{64}"),
                            "SequenceNumber": re.compile(r"\d+"),
                        },
                    }
                    for body in ("one", "two", "three")
                ]
            }
        ],
    ),
    "sqs_partial": Shape(
        FAILURES,
        every(
            sent=send(
                "sqs",
                "send_message_batch",
                QueueUrl="{Jobs}",
                Entries=[
                    {"Id": str(place), "MessageBody": body}
                    for place, body in enumerate(("good", "bad", "fine"))
                ],
            ),
            dead=received("Dead"),
            done=noted("Worker", 2),
        ),
        {"dead": {"body": "bad"}, "done": [{"done": ...}, {"done": ...}]},
    ),
    "sqs_dead_letters": Shape(
        FAILURES,
        then(
            send("sqs", "send_message", QueueUrl="{Jobs}", MessageBody="hopeless"),
            noted("Undertaker"),
        ),
        [message(body="hopeless", attributes={"ApproximateReceiveCount": ...})],
    ),
    # ------------------------------------------------------------ topics
    "sns_function": Shape(
        TOPICS,
        then(
            *(
                send(
                    "sns",
                    "publish",
                    TopicArn="{News}",
                    Message=f"for {region}",
                    MessageAttributes={"region": {"DataType": "String", "StringValue": region}},
                )
                for region in ("us", "eu")
            ),
            noted("Reader"),
        ),
        [
            {
                "Records": [
                    {
                        "EventSource": "aws:sns",
                        "EventVersion": "1.0",
                        "EventSubscriptionArn": ...,
                        "Sns": {
                            "Type": "Notification",
                            "MessageId": UUID,
                            "TopicArn": ...,
                            "Message": "for eu",
                            "MessageAttributes": {"region": {"Type": "String", "Value": "eu"}},
                            "Timestamp": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"),
                        },
                    }
                ]
            }
        ],
    ),
    "sns_queue_function": Shape(
        f"{_SAM}/sam-property-function-sns.html",
        then(
            send("sns", "publish", TopicArn="{News}", Message="by a queue"),
            noted("Reader"),
        ),
        [message(body=re.compile(r'.*"Message": ?"by a queue".*', re.DOTALL))],
    ),
    "sns_queue": Shape(
        f"{_AWS}/sns/latest/dg/sns-large-payload-raw-message-delivery.html",
        every(
            sent=send(
                "sns",
                "publish",
                TopicArn="{News}",
                Message="hi",
                MessageAttributes={"kind": {"DataType": "String", "StringValue": "k"}},
            ),
            wrapped=received("Queue"),
            raw=received("Raw"),
        ),
        {
            "wrapped": {
                "body": {
                    "Type": "Notification",
                    "Message": "hi",
                    "MessageAttributes": {"kind": {"Type": "String", "Value": "k"}},
                }
            },
            "raw": {"body": "hi", "attributes": {"kind": "k"}},
        },
    ),
    # ------------------------------------------------------------ buses and schedules
    "bus_pattern": Shape(
        f"{_BUS}/eb-events-structure.html",
        then(
            *(
                send(
                    "events",
                    "put_events",
                    Entries=[
                        {
                            "Source": "shop",
                            "DetailType": "placed",
                            "Detail": f'{{"total": {total}}}',
                            "EventBusName": "app-shapes-bus",
                        }
                    ],
                )
                for total in (9, 10)
            ),
            noted("Reader"),
        ),
        [
            {
                "version": "0",
                "id": UUID,
                "source": "shop",
                "detail-type": "placed",
                "account": re.compile(r"\d{12}"),
                "time": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ"),
                "region": "us-east-1",
                "resources": [],
                "detail": {"total": 10},
            }
        ],
    ),
    "bus_default": Shape(
        f"{_BUS}/eb-transform-target-input.html",
        then(
            *(
                send(
                    "events",
                    "put_events",
                    Entries=[
                        {
                            "Source": "shop",
                            "DetailType": "state",
                            "Detail": f'{{"state": "{state}"}}',
                        }
                    ],
                )
                for state in ("stopped", "running")
            ),
            noted("Reader"),
        ),
        [{"became": "running"}],
    ),
    "schedule": Shape(
        f"{_SAM}/sam-property-function-schedule.html",
        noted("Tick", seconds=80),
        [{"tick": True}],
    ),
    "schedule_once": Shape(
        f"{_AWS}/scheduler/latest/UserGuide/schedule-types.html",
        noted("Tick", seconds=80),
        [{"once": True}],
        options=lambda: ("--parameter", f"When={soon()}"),
    ),
    # ------------------------------------------------------------ buckets and streams
    "s3_notification": Shape(
        f"{_AWS}/AmazonS3/latest/userguide/notification-content-structure.html",
        then(
            *(
                send("s3", "put_object", Bucket="{Images}", Key=key, Body=b"four")
                for key in ("a b.txt", "a b.png")
            ),
            noted("Resize"),
        ),
        [
            {
                "Records": [
                    {
                        "eventVersion": re.compile(r"2\.\d"),
                        "eventSource": "aws:s3",
                        "awsRegion": "us-east-1",
                        "eventTime": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"),
                        "eventName": "ObjectCreated:Put",
                        "s3": {
                            "s3SchemaVersion": "1.0",
                            "bucket": {"name": ..., "arn": re.compile(r"arn:aws:s3:::.+-images")},
                            "object": {
                                "key": "a+b.png",
                                "size": 4,
                                "eTag": "8cbad96aced40b3838dd9f07f6ef5772",
                                "sequencer": ...,
                            },
                        },
                    }
                ]
            }
        ],
    ),
    "s3_bus": Shape(
        f"{_AWS}/AmazonS3/latest/userguide/ev-events.html",
        then(
            send("s3", "put_object", Bucket="{Images}", Key="a b.png", Body=b"four"),
            noted("Reader"),
        ),
        [
            {
                "source": "aws.s3",
                "detail-type": "Object Created",
                "resources": [re.compile(r"arn:aws:s3:::.+")],
                "detail": {
                    "version": "0",
                    "bucket": {"name": ...},
                    "object": {"key": "a b.png", "size": 4},
                    "reason": "PutObject",
                },
            }
        ],
    ),
    "dynamodb_stream": Shape(
        f"{_LAMBDA}/with-ddb.html",
        then(
            *(
                send(
                    "dynamodb",
                    "put_item",
                    TableName="{Users}",
                    Item={"pk": {"S": "ada"}, "age": {"N": age}},
                )
                for age in ("36", "37")
            ),
            noted("Reader"),
        ),
        [
            {
                "Records": [
                    {
                        "eventID": ...,
                        "eventName": "MODIFY",
                        "eventVersion": "1.1",
                        "eventSource": "aws:dynamodb",
                        "awsRegion": "us-east-1",
                        "eventSourceARN": re.compile(r"arn:aws:dynamodb:.+/stream/.+"),
                        "dynamodb": {
                            "Keys": {"pk": {"S": "ada"}},
                            "NewImage": {"pk": {"S": "ada"}, "age": {"N": "37"}},
                            "OldImage": {"pk": {"S": "ada"}, "age": {"N": "36"}},
                            "SequenceNumber": re.compile(r"\d+"),
                            "SizeBytes": ...,
                            "StreamViewType": "NEW_AND_OLD_IMAGES",
                        },
                    }
                ]
            }
        ],
    ),
    "kinesis": Shape(
        f"{_LAMBDA}/with-kinesis.html",
        then(
            send("kinesis", "put_record", StreamName="{Clicks}", Data=b"hello", PartitionKey="p"),
            noted("Reader"),
        ),
        [
            {
                "Records": [
                    {
                        "eventSource": "aws:kinesis",
                        "eventName": "aws:kinesis:record",
                        "eventID": re.compile(r"shardId-000000000000:\d+"),
                        "eventSourceARN": re.compile(r"arn:aws:kinesis:.+:stream/.+"),
                        "kinesis": {
                            "kinesisSchemaVersion": "1.0",
                            "partitionKey": "p",
                            "data": "aGVsbG8=",
                            "sequenceNumber": re.compile(r"\d+"),
                        },
                    }
                ]
            }
        ],
    ),
    # ------------------------------------------------------------ functions
    "function_calls_function": Shape(
        f"{_LAMBDA}/invocation-sync.html",
        call("Calling", {"number": 21}),
        {"answer": {"doubled": 42}},
    ),
    "async_destination": Shape(
        RECORDS,
        then(
            call("Double", {"number": 2}, InvocationType="Event"),
            received("Double"),
        ),
        {
            "body": {
                "version": "1.0",
                "timestamp": ...,
                "requestContext": {
                    "requestId": UUID,
                    "functionArn": re.compile(r"arn:aws:lambda:.+:function:.+:\$LATEST"),
                    "condition": "Success",
                    "approximateInvokeCount": 1,
                },
                "requestPayload": {"number": 2},
                "responseContext": {"statusCode": 200, "executedVersion": "$LATEST"},
                "responsePayload": {"doubled": 4},
            }
        },
    ),
    "async_failure": Shape(
        RECORDS,
        then(call("Failing", {"x": 1}, InvocationType="Event"), noted("Reader")),
        [
            {
                "Records": [
                    {
                        "Sns": {
                            "Message": re.compile(
                                r'.*"condition": ?"RetriesExhausted".*"requestPayload": ?'
                                r'\{"x": ?1\}.*"functionError": ?"Unhandled".*'
                            )
                        }
                    }
                ]
            }
        ],
    ),
    "dead_letter_queue": Shape(
        f"{_LAMBDA}/invocation-async-retain-records.html#invocation-dlq",
        then(call("Failing", {"x": 1}, InvocationType="Event"), received("Dead")),
        {
            "body": {"x": 1},
            "attributes": {
                "RequestID": UUID,
                "ErrorCode": "200",
                "ErrorMessage": "asked to fail",
            },
        },
    ),
    "alias_live": Shape(
        f"{_LAMBDA}/configuration-aliases.html",
        every(
            request=ask("/hello"),
            alias=call("app-shapes-hello:live", {"by": "alias"}),
            other=call("app-shapes-hello:other", {}),
        ),
        {
            "request": {"status": 200, "body": {"path": "/hello"}},
            "alias": {"statusCode": 200, "body": '{"by": "alias"}'},
            "other": {"error": {"Code": "ResourceNotFoundException"}},
        },
    ),
    # ------------------------------------------------------------ templates
    "ssm_value": Shape(
        f"{_CFN}/dynamic-references-ssm.html",
        call("Read"),
        {"read": "blue", "resolved": "large"},
        options=lambda: ("--parameter", "resolve:ssm:/shop/size:1=large"),
    ),
    "secret": Shape(
        f"{_CFN}/dynamic-references-secretsmanager.html",
        call("Read"),
        {"user": "ada", "password": 20, "resolved": "ada"},
    ),
    "key": Shape(
        "https://docs.aws.amazon.com/kms/latest/developerguide/encrypt_context.html",
        every(sealed=call("Seal"), refused=call("Peek")),
        {
            "sealed": {"key": UUID, "opened": "secret", "other": "InvalidCiphertextException"},
            "refused": {"code": "AccessDeniedException"},
        },
        options=lambda: ("--strict",),
    ),
    "nested": Shape(
        f"{_SAM}/sam-resource-application.html",
        call("Put", {"id": "7"}),
        {"id": {"S": "7"}, "n": {"N": "1"}},
    ),
    "conditions": Shape(
        f"{_CFN}/conditions-section-structure.html",
        every(settings=call("Settings"), prod=call("OnlyProd")),
        {
            "settings": {"LEVEL": "DEBUG", "NOTHING": ABSENT, "OWN": "yes", "memory": "256"},
            "prod": {"error": {"Code": "ResourceNotFoundException"}},
        },
    ),
    "layer": Shape(
        f"{_LAMBDA}/python-layers.html",
        call("Speak"),
        {"says": "hello from a layer", "from": re.compile(r"/.+/python/words\.py")},
    ),
    "image": Shape(
        f"{_LAMBDA}/python-image.html",
        ask("/hello"),
        {"status": 200, "body": {"message": "hello from an image"}},
    ),
    "connector": Shape(
        f"{_SAM}/sam-resource-connector.html",
        every(
            read=call("Reader", {"do": "read"}),
            write=call("Reader", {"do": "write"}),
        ),
        {"read": {"count": 0}, "write": {"code": "AccessDeniedException"}},
    ),
    # ------------------------------------------------------------ absent parts
    "other_language": Shape(
        _OWN,
        every(python=ask("/python"), node=ask("/node"), call=call("Node")),
        {
            "python": {"status": 200},
            "node": {
                "status": 501,
                "body": {"message": "GET /node: the function Node is absent here"},
            },
            "call": {"error": {"Code": "ResourceNotFoundException"}},
        },
    ),
    "state_machine": Shape(
        _OWN,
        call("Start"),
        {"Code": "AbsentService", "Message": re.compile(r".*'states' is absent.*Flow.*")},
    ),
    "custom_resource": Shape(
        _OWN,
        call("Hello"),
        {"SEED": re.compile(r".+")},
    ),
    "websocket": Shape(
        _OWN,
        ask("/hello"),
        {"status": 200, "body": {"resource": "/hello"}},
    ),
}


@pytest.mark.soak
@pytest.mark.parametrize("name", SHAPES)
def test_shape_does_what_aws_documents(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    with running(tmp_path, *shape.options(), template=FOLDER / f"{name}.yaml") as stack:
        found = shape.act(stack)
        assert differences(shape.answer, found) == [], found
        assert "Traceback" not in stack.output or "asked to fail" in stack.output


def test_every_template_is_exercised() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} - {"swagger"} == set(SHAPES)


@pytest.mark.parametrize(
    ("expected", "found", "said"),
    [
        ({"a": {"b": 1}}, {"a": {"b": 1}, "more": 2}, []),
        ({"a": {"b": 1}}, {"a": {"b": 2}}, ["answer.a.b is 2, not 1"]),
        ({"a": 1}, {}, ["answer.a is not there"]),
        ({"a": ABSENT}, {"a": None}, ["answer.a is there"]),
        ({"a": ...}, {"a": None}, []),
        ([1, ...], [1, 2], []),
        ([1], [1, 2], ["answer is [1, 2], not [1]"]),
        (1, True, ["answer is True, not 1"]),
        (re.compile("a+"), "aab", ["answer is 'aab', not re.compile('a+')"]),
    ],
)
def test_differences_of_an_answer_are_named(expected: Any, found: Any, said: list[str]) -> None:
    assert differences(expected, found) == said
