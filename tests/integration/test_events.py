"""Topics, buses, buckets and functions call functions on a running stack.

Messages come from clients of AWS's SDK, and from functions under their own roles.
"""

import base64
import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from botocore.exceptions import ClientError

from mayfly_testing.stack import ROOT, Stack, running, wait_until

TEMPLATE = ROOT / "tests" / "apps" / "events" / "template.yaml"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(
        tmp_path_factory.mktemp("events"), "--retry-delay", "0.1", template=TEMPLATE
    ) as found:
        yield found


def resource(stack: Stack, name: str) -> str:
    return str(stack.facts["resources"][name])


def seen(stack: Stack, function: str = "Reader") -> list[Any]:
    """Returns the events that a function has noted."""
    return [
        json.loads(item["event"]["S"])
        for item in stack.items("Seen")
        if item.get("function", {}).get("S", "").lower().endswith(function.lower())
    ]


def arrives(stack: Stack, part: str, function: str = "Reader") -> Any:
    """Waits until a function has noted one event with this text in it, and returns the event."""

    def found() -> list[Any]:
        return [event for event in seen(stack, function) if part in json.dumps(event)]

    wait_until(found, 20, what=f"an event with {part}")
    (event,) = found()
    return event


def message(stack: Stack, queue: str, part: str) -> dict[str, Any]:
    """Waits for a message with this text in its body, and deletes it."""

    def found() -> dict[str, Any] | None:
        url = resource(stack, queue)
        reply = stack.client("sqs").receive_message(
            QueueUrl=url, WaitTimeSeconds=1, VisibilityTimeout=0, MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
        )  # fmt: skip
        for candidate in reply.get("Messages", []):
            if part in candidate["Body"]:
                return dict(candidate)
        return None

    received = wait_until(found, 20, what=f"a message with {part}")
    assert received is not None
    return received


def ask(stack: Stack, service: str, operation: str, **arguments: Any) -> Any:
    """Makes a function call an operation, and returns its answer or its error."""
    reply = stack.client("lambda").invoke(
        FunctionName="Asking",
        Payload=json.dumps({"service": service, "operation": operation, "arguments": arguments}),
    )
    answer = json.loads(reply["Payload"].read())
    assert "FunctionError" not in reply, answer
    return answer


# ---------------------------------------------------------------- SNS


def publish(stack: Stack, text: str, **more: Any) -> str:
    reply = stack.client("sns").publish(
        TopicArn=resource(stack, "News"), Message=json.dumps({"kind": "loud", "text": text}), **more
    )
    return str(reply["MessageId"])


def test_published_message_arrives_at_a_function(stack: Stack) -> None:
    attributes = {"weight": {"DataType": "Number", "StringValue": "3"}}
    published = publish(stack, "for a function", Subject="hello", MessageAttributes=attributes)
    (record,) = arrives(stack, "for a function")["Records"]
    sns = record.pop("Sns")
    assert record.pop("EventSubscriptionArn").startswith(resource(stack, "News"))
    assert record == {"EventSource": "aws:sns", "EventVersion": "1.0"}
    assert sns["MessageAttributes"] == {"weight": {"Type": "Number", "Value": "3"}}
    assert (sns["MessageId"], sns["Subject"], sns["Type"]) == (published, "hello", "Notification")
    assert json.loads(sns["Message"])["text"] == "for a function"
    assert sns["TopicArn"] == resource(stack, "News")
    assert {"SigningCertUrl", "UnsubscribeUrl", "Timestamp", "Signature"} <= set(sns)


def test_message_that_the_filter_policy_excludes_does_not_arrive(stack: Stack) -> None:
    stack.client("sns").publish(
        TopicArn=resource(stack, "News"), Message='{"kind": "quiet", "text": "excluded"}'
    )
    publish(stack, "after the excluded one")
    arrives(stack, "after the excluded one")
    assert [event for event in seen(stack) if "excluded\\" in json.dumps(event)] == []


def test_queue_gets_the_notification_as_json(stack: Stack) -> None:
    publish(stack, "for a queue")
    body = json.loads(message(stack, "Copies", "for a queue")["Body"])
    assert body["Type"] == "Notification"
    assert "Subject" not in body
    assert "SigningCertURL" in body


def test_queue_with_raw_delivery_gets_the_message_and_its_attributes(stack: Stack) -> None:
    attributes = {"weight": {"DataType": "Number", "StringValue": "11"}}
    publish(stack, "heavy", MessageAttributes=attributes)
    received = message(stack, "Plain", "heavy")
    assert json.loads(received["Body"]) == {"kind": "loud", "text": "heavy"}
    assert received["MessageAttributes"] == attributes


def test_function_publishes_under_its_role(stack: Stack) -> None:
    answer = ask(
        stack, "sns", "publish",
        TopicArn=resource(stack, "News"), Message='{"kind": "from a function"}',
    )  # fmt: skip
    assert set(answer) == {"MessageId"}
    arrives(stack, "from a function")
    refused = ask(
        stack, "sns", "publish",
        TopicArn="arn:aws:sns:us-east-1:000000000000:another", Message="x",
    )  # fmt: skip
    assert (refused["error"]["Code"], refused["status"]["HTTPStatusCode"]) == (
        "AuthorizationError",
        403,
    )


# ---------------------------------------------------------------- EventBridge


def put(stack: Stack, **entry: Any) -> dict[str, Any]:
    reply: dict[str, Any] = stack.client("events").put_events(Entries=[entry])
    return reply


def test_event_of_a_bus_arrives_at_a_function(stack: Stack) -> None:
    reply = put(
        stack, Source="any", DetailType="ordered", Detail='{"what": "a bus event"}',
        EventBusName="shop", Resources=["r"],
    )  # fmt: skip
    event = arrives(stack, "a bus event")
    assert event.pop("time").endswith("Z")
    assert event == {
        "version": "0",
        "id": reply["Entries"][0]["EventId"],
        "detail-type": "ordered",
        "source": "any",
        "account": "000000000000",
        "region": "us-east-1",
        "resources": ["r"],
        "detail": {"what": "a bus event"},
    }


def test_event_of_the_default_bus_arrives_with_its_input_path(stack: Stack) -> None:
    put(stack, Source="shop.default", DetailType="x", Detail='{"what": "by default"}')
    assert arrives(stack, "by default") == {"what": "by default"}


def test_rule_sends_its_transformed_input_to_a_queue(stack: Stack) -> None:
    for total in (99, 4711):
        put(stack, Source="shop.till", DetailType="sold", Detail=json.dumps({"total": total}),
            EventBusName="shop")  # fmt: skip
    body = json.loads(message(stack, "Matched", "4711")["Body"])
    assert body == {"total": 4711, "rule": resource(stack, "Big")}


@pytest.mark.parametrize(
    ("entry", "code"),
    [
        ({"Source": "s", "DetailType": "t", "Detail": "{"}, "MalformedDetail"),
        ({"Source": "s", "DetailType": "t"}, "InvalidArgument"),
        ({"Source": "aws.s3", "DetailType": "t", "Detail": "{}"}, "NotAuthorizedForSource"),
    ],
    ids=["malformed", "without detail", "source of AWS"],
)
def test_bad_entry_fails_alone(stack: Stack, entry: dict[str, str], code: str) -> None:
    good = {"Source": "s", "DetailType": "t", "Detail": "{}"}
    reply = stack.client("events").put_events(Entries=[entry, good])
    assert reply["FailedEntryCount"] == 1
    assert reply["Entries"][0]["ErrorCode"].startswith(code)
    assert "EventId" in reply["Entries"][1]


def test_function_puts_events_on_the_bus_of_its_policy_only(stack: Stack) -> None:
    entry = {"Source": "f", "DetailType": "ordered", "Detail": '{"what": "by a function"}'}
    answer = ask(stack, "events", "put_events", Entries=[{**entry, "EventBusName": "shop"}])
    assert answer["FailedEntryCount"] == 0
    arrives(stack, "by a function")
    refused = ask(stack, "events", "put_events", Entries=[entry])
    assert refused["error"]["Code"] == "AccessDeniedException"
    assert "event-bus/default" in refused["error"]["Message"]


# ---------------------------------------------------------------- S3


def test_upload_calls_a_function_if_its_key_matches(stack: Stack) -> None:
    bucket = resource(stack, "Files")
    for key in ("in/not.png", "out/not.txt", "in/an upload ü.txt"):
        stack.client("s3").put_object(Bucket=bucket, Key=key, Body=b"four")
    (record,) = arrives(stack, "an+upload")["Records"]
    assert (record["eventSource"], record["eventName"]) == ("aws:s3", "ObjectCreated:Put")
    assert record["awsRegion"] == "us-east-1"
    assert record["s3"]["bucket"]["name"] == bucket
    assert record["s3"]["bucket"]["arn"] == f"arn:aws:s3:::{bucket}"
    assert record["s3"]["object"]["key"] == "in/an+upload+%C3%BC.txt"
    assert record["s3"]["object"]["size"] == 4
    assert "sequencer" in record["s3"]["object"]
    # ministack's example, in place of the caller.
    assert record["userIdentity"] == {"principalId": "EXAMPLE"}
    assert [event for event in seen(stack) if "not." in json.dumps(event)] == []


# ---------------------------------------------------------------- Kinesis


def test_record_of_a_stream_arrives_at_a_function(stack: Stack) -> None:
    kinesis, stream = stack.client("kinesis"), resource(stack, "Clicks")
    for kind in ("quiet", "clicked"):
        data = json.dumps({"kind": kind, "many": "bytes"}).encode()
        put = kinesis.put_record(StreamName=stream, Data=data, PartitionKey="p")
    (record,) = arrives(stack, "aws:kinesis:record")["Records"]
    facts = record.pop("kinesis")
    assert json.loads(base64.b64decode(facts["data"])) == {"kind": "clicked", "many": "bytes"}
    assert facts["sequenceNumber"] == put["SequenceNumber"]
    assert (facts["partitionKey"], facts["kinesisSchemaVersion"]) == ("p", "1.0")
    assert facts["approximateArrivalTimestamp"] > 0
    assert record == {
        "eventSource": "aws:kinesis",
        "eventVersion": "1.0",
        "eventID": f"{put['ShardId']}:{put['SequenceNumber']}",
        "eventName": "aws:kinesis:record",
        "invokeIdentityArn": "arn:aws:iam::000000000000:role/ReaderRole",
        "awsRegion": "us-east-1",
        "eventSourceARN": f"arn:aws:kinesis:us-east-1:000000000000:stream/{stream}",
    }


# ---------------------------------------------------------------- Invoke


@pytest.mark.parametrize(
    "name",
    [
        "Working",
        "app-events-working",
        "app-events-working:live",
        "app-events-working:$LATEST",
        "app-events-working:1",
        "arn:aws:lambda:us-east-1:000000000000:function:app-events-working",
        "arn:aws:lambda:us-east-1:000000000000:function:app-events-working:live",
        "000000000000:function:app-events-working",
        "function:app-events-working",
    ],
)
def test_function_is_invoked_by_each_of_its_names(stack: Stack, name: str) -> None:
    reply = stack.client("lambda").invoke(FunctionName=name, Payload=b'{"by": "name"}')
    assert (reply["StatusCode"], reply["Payload"].read()) == (200, b'{"noted": true}')
    assert "FunctionError" not in reply


@pytest.mark.parametrize("name", ["Nobody", "Working:other", "Working:7"])
def test_unknown_function_or_qualifier_is_not_found(stack: Stack, name: str) -> None:
    with pytest.raises(ClientError) as refused:
        stack.client("lambda").invoke(FunctionName=name)
    error = refused.value.response["Error"]
    assert error["Code"] == "ResourceNotFoundException"
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name}"
    assert error["Message"] == f"Function not found: {arn}"


def test_function_error_comes_with_the_reply(stack: Stack) -> None:
    reply = stack.client("lambda").invoke(FunctionName="Working", Payload=b'{"raises": true}')
    assert (reply["StatusCode"], reply["FunctionError"]) == (200, "Unhandled")
    payload = json.loads(reply["Payload"].read())
    assert payload["errorType"] == "ValueError"
    assert payload["errorMessage"] == "asked to fail"
    assert len(payload["requestId"]) == 36
    assert payload["requestId"] != reply["ResponseMetadata"]["RequestId"]
    assert any('raise ValueError("asked to fail")' in line for line in payload["stackTrace"])


def test_end_of_the_process_is_a_function_error(stack: Stack) -> None:
    reply = stack.client("lambda").invoke(FunctionName="Working", Payload=b'{"dies": true}')
    assert reply["FunctionError"] == "Unhandled"
    assert json.loads(reply["Payload"].read())["errorType"] == "Runtime.ExitError"


def test_tail_of_the_log_has_what_the_function_printed(stack: Stack) -> None:
    reply = stack.client("lambda").invoke(FunctionName="Working", Payload=b"{}", LogType="Tail")
    lines = base64.b64decode(reply["LogResult"]).decode().splitlines()
    assert lines[0].startswith("START RequestId: ")
    assert lines[1] == "noted"
    assert lines[-1].startswith("REPORT RequestId: ")


def test_client_context_reaches_the_function(stack: Stack) -> None:
    context = base64.b64encode(b'{"custom": {"who": "client"}}').decode()
    stack.client("lambda").invoke(
        FunctionName="Working", Payload=b'{"with": "context"}', ClientContext=context
    )
    (item,) = [item for item in stack.items("Seen") if "custom" in item]
    assert json.loads(item["custom"]["S"]) == {"who": "client"}


def test_dry_run_runs_nothing(stack: Stack) -> None:
    reply = stack.client("lambda").invoke(
        FunctionName="Working", Payload=b'{"it": "was dry"}', InvocationType="DryRun"
    )
    assert reply["StatusCode"] == 204
    stack.client("lambda").invoke(FunctionName="Working", Payload=b'{"it": "was wet"}')
    assert [event for event in seen(stack, "Working") if "it" in event] == [{"it": "was wet"}]


def test_body_that_is_not_json_is_refused(stack: Stack) -> None:
    with pytest.raises(ClientError) as refused:
        stack.client("lambda").invoke(FunctionName="Working", Payload=b"{")
    assert refused.value.response["Error"]["Code"] == "InvalidRequestContentException"


@pytest.mark.parametrize(
    ("kind", "size"), [("RequestResponse", 6 * 1024 * 1024), ("Event", 1024 * 1024)]
)
def test_body_above_the_limit_is_refused(stack: Stack, kind: str, size: int) -> None:
    with pytest.raises(ClientError) as refused:
        stack.client("lambda").invoke(
            FunctionName="Working", Payload=json.dumps("x" * size).encode(), InvocationType=kind
        )
    assert refused.value.response["Error"]["Code"] == "RequestTooLargeException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413


def test_function_calls_a_function_under_its_role(stack: Stack) -> None:
    answer = ask(
        stack, "lambda", "invoke", FunctionName="app-events-working", Payload='{"by": "a function"}'
    )
    assert (answer["StatusCode"], answer["Payload"]) == (200, {"noted": True})
    refused = ask(stack, "lambda", "invoke", FunctionName="Reader", Payload="{}")
    assert refused["error"]["Code"] == "AccessDeniedException"
    assert "lambda:InvokeFunction" in refused["error"]["Message"]
    assert refused["status"]["HTTPStatusCode"] == 403


def test_functions_are_listed_and_described(stack: Stack) -> None:
    client = stack.client("lambda")
    names = {function["FunctionName"] for function in client.list_functions()["Functions"]}
    assert names == {"Asking", "Failing", "Reader", "app-events-working"}
    facts = client.get_function_configuration(FunctionName="Working")
    assert (facts["Timeout"], facts["MemorySize"]) == (10, 256)
    with pytest.raises(ClientError, match="not served locally"):
        client.delete_function(FunctionName="Working")


# ---------------------------------------------------------------- asynchronous invocations


def test_success_of_an_asynchronous_call_goes_to_its_destination(stack: Stack) -> None:
    reply = stack.client("lambda").invoke(
        FunctionName="Working", Payload=b'{"later": "please"}', InvocationType="Event"
    )
    assert (reply["StatusCode"], reply["Payload"].read()) == (202, b"")
    record = arrives(stack, "later")
    assert record["requestContext"]["condition"] == "Success"
    assert record["requestPayload"] == {"later": "please"}
    assert record["responsePayload"] == {"noted": True}


@pytest.mark.parametrize("way", ["raises", "dies"])
def test_failing_event_arrives_at_its_destinations_after_its_retries(
    stack: Stack, way: str
) -> None:
    event: dict[str, Any] = {"what": f"fails: {way}", "dies": way == "dies"}
    stack.client("lambda").invoke(
        FunctionName="Failing", Payload=json.dumps(event), InvocationType="Event"
    )
    record = json.loads(message(stack, "Failures", event["what"])["Body"])
    context = record["requestContext"]
    assert (context["condition"], context["approximateInvokeCount"]) == ("RetriesExhausted", 2)
    assert record["requestPayload"] == event
    assert record["responseContext"]["functionError"] == "Unhandled"
    if way == "raises":
        error = record["responsePayload"]
        assert error["requestId"] == context["requestId"]
        assert "raise " in error["stackTrace"][-1]
    (item,) = [item for item in stack.items("Seen") if item["id"]["S"] == context["requestId"]]
    assert item["tries"] == {"N": "2"}
    dead = message(stack, "Dead", event["what"])
    assert json.loads(dead["Body"]) == event
    assert dead["MessageAttributes"]["RequestID"]["StringValue"] == context["requestId"]
    assert dead["MessageAttributes"]["ErrorCode"]["StringValue"] == "200"


def test_event_survives_the_kill_of_its_functions_process(tmp_path: Path) -> None:
    with running(tmp_path, "--retry-delay", "0.1", template=TEMPLATE) as stack:
        stack.client("lambda").invoke(
            FunctionName="Working", Payload=b'{"waits": 30}', InvocationType="Event"
        )
        wait_until(lambda: seen(stack, "Working"), 20)
        (pid,) = stack.environments("Working")
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: "again in" in stack.output, 20, what="a retry")
        wait_until(lambda: len(stack.environments("Working")) == 1, 20, what="the retry's process")


def test_waiting_event_survives_a_kill_of_the_whole_stack(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    with running(
        tmp_path / "a", "--state", state, "--retry-delay", "5", template=TEMPLATE
    ) as stack:
        stack.client("lambda").invoke(
            FunctionName="Failing", Payload=b'{"what": "kept"}', InvocationType="Event"
        )
        wait_until(lambda: "again in 5 s" in stack.output, 20, what="the first try")
        for process in stack.tree():
            with suppress(psutil.NoSuchProcess):  # Children end with their parent.
                process.kill()
        stack.process.wait(20)
    with running(
        tmp_path / "b", "--state", state, "--retry-delay", "0.1", template=TEMPLATE
    ) as stack:
        assert stack.client("events").list_rules(EventBusName="shop")["Rules"]
        record = json.loads(
            wait_until(lambda: kept_record(stack), 60, what="the record of the event") or ""
        )
        assert record["requestContext"]["approximateInvokeCount"] == 2


def kept_record(stack: Stack) -> str | None:
    reply = stack.client("sqs").receive_message(
        QueueUrl=resource(stack, "Failures"), WaitTimeSeconds=1
    )
    return next((received["Body"] for received in reply.get("Messages", [])), None)


def test_stop_runs_what_is_due_and_says_what_is_lost(tmp_path: Path) -> None:
    with running(tmp_path, template=TEMPLATE) as stack:
        stack.client("lambda").invoke(
            FunctionName="Failing", Payload=b'{"what": "retried"}', InvocationType="Event"
        )
        wait_until(lambda: "again in 60 s" in stack.output, 20, what="the first try")
        for number in range(20):
            publish(stack, f"message {number} before the stop")
        assert stack.stop() == 0
        assert stack.output.count("Reader        noted") == 20
        assert "1 asynchronous invocations are not done: they are lost" in stack.output


def test_stop_keeps_for_the_next_start_what_is_due(tmp_path: Path) -> None:
    state = str(tmp_path / "state")
    with running(tmp_path / "a", "--state", state, template=TEMPLATE) as stack:
        for number in range(20):
            publish(stack, f"message {number} before the stop")
        assert stack.stop() == 0
    with running(tmp_path / "b", "--state", state, template=TEMPLATE) as stack:
        wait_until(lambda: len(seen(stack)) == 20, 20)
