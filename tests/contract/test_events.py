"""SNS, EventBridge and S3 of the emulator by the rules of AWS's pages: what arrives in queues.

The tests of a whole stack have the functions.
"""

import json
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import requests
from botocore.exceptions import ClientError

from mayfly_local.emulator.clients import Clients
from mayfly_local.iam.credentials import FOREIGN
from mayfly_testing.stack import emulator, wait_until
from tests.support.patterns import MALFORMED, PATTERNS

_NUMBERS = count()


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("events")


@pytest.fixture(scope="module")
def clients(work: Path) -> Iterator[Clients]:
    with emulator(work) as endpoint:
        found = Clients(endpoint)
        yield found
        found.close()


class Queue:
    """A queue of its own for each test."""

    def __init__(self, clients: Clients, **attributes: str) -> None:
        self._sqs = clients.get("sqs")
        name = f"q{next(_NUMBERS)}" + (".fifo" if "FifoQueue" in attributes else "")
        self.url = self._sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
        self.arn = f"arn:aws:sqs:us-east-1:000000000000:{name}"

    def messages(self) -> list[dict[str, Any]]:
        """Returns and deletes everything in it. All deliveries precede the response."""
        found: list[dict[str, Any]] = []
        while True:
            reply = self._sqs.receive_message(
                QueueUrl=self.url, MaxNumberOfMessages=10, AttributeNames=["All"],
                MessageAttributeNames=["All"],
            )  # fmt: skip
            received = reply.get("Messages", [])
            if not received:
                return found
            for message in received:
                self._sqs.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
            found += received

    def bodies(self) -> list[Any]:
        """Returns and deletes everything in it as JSON."""
        return [json.loads(message["Body"]) for message in self.messages()]


def topic_with(clients: Clients, queue: Queue, **attributes: str) -> str:
    sns = clients.get("sns")
    arn = str(sns.create_topic(Name=f"t{next(_NUMBERS)}")["TopicArn"])
    sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=queue.arn, Attributes=attributes)
    return arn


# ---------------------------------------------------------------- patterns


@pytest.mark.parametrize(("pattern", "event", "expected"), PATTERNS)
def test_rule_matches_as_a_filter_does(
    clients: Clients, pattern: dict[str, Any], event: Any, expected: bool
) -> None:
    facts = {
        "id": "i", "account": "a", "source": "s", "time": "2026-01-01T00:00:00Z",
        "region": "r", "resources": [], "detail-type": "t", "detail": event,
    }  # fmt: skip
    reply = clients.get("events").test_event_pattern(
        EventPattern=json.dumps({"detail": pattern}), Event=json.dumps(facts)
    )
    assert reply["Result"] is expected


@pytest.mark.parametrize("pattern", MALFORMED)
def test_malformed_pattern_of_a_rule_is_refused(clients: Clients, pattern: Any) -> None:
    with pytest.raises(ClientError, match="InvalidEventPatternException"):
        clients.get("events").put_rule(Name="bad", EventPattern=json.dumps({"detail": pattern}))


# ---------------------------------------------------------------- SNS


def number(value: str) -> dict[str, str]:
    return {"DataType": "Number", "StringValue": value}


def text(value: str) -> dict[str, str]:
    return {"DataType": "String", "StringValue": value}


@pytest.mark.parametrize(
    ("policy", "attributes", "expected"),
    [
        ({"a": ["x", "y"]}, {"a": text("y")}, True),
        ({"a": ["x"]}, {"a": text("z")}, False),
        ({"a": ["x"]}, {}, False),
        ({"a": ["x"], "b": ["y"]}, {"a": text("x")}, False),
        ({"a": [5]}, {"a": number("5")}, True),
        ({"a": [{"numeric": [">", 1, "<=", 5]}]}, {"a": number("5")}, True),
        ({"a": [{"numeric": [">", 1, "<=", 5]}]}, {"a": number("6")}, False),
        ({"a": [{"prefix": "x"}]}, {"a": text("xy")}, True),
        ({"a": [{"suffix": "x"}]}, {"a": text("xy")}, False),
        ({"a": [{"anything-but": ["x"]}]}, {"a": text("y")}, True),
        ({"a": [{"anything-but": ["x"]}]}, {"a": text("x")}, False),
        ({"a": [{"anything-but": {"prefix": "x"}}]}, {"a": text("xy")}, False),
        ({"a": [{"equals-ignore-case": "X"}]}, {"a": text("x")}, True),
        ({"a": [{"exists": True}]}, {"a": text("x")}, True),
        ({"a": [{"exists": False}]}, {"a": text("x")}, False),
        ({"a": [{"exists": False}]}, {"b": text("x")}, True),
        ({"a": [{"cidr": "10.0.0.0/24"}]}, {"a": text("10.0.0.9")}, True),
        (
            {"a": ["x"]},
            {"a": {"DataType": "String.Array", "StringValue": '["w", "x"]'}},
            True,
        ),
        ({"$or": [{"a": ["x"]}, {"b": ["y"]}]}, {"b": text("y")}, True),
        ({"$or": [{"a": ["x"]}, {"b": ["y"]}]}, {"b": text("z")}, False),
    ],
)
def test_filter_policy_of_attributes_decides_what_arrives(
    clients: Clients, policy: Any, attributes: Any, expected: bool
) -> None:
    queue = Queue(clients)
    arn = topic_with(clients, queue, FilterPolicy=json.dumps(policy))
    clients.get("sns").publish(TopicArn=arn, Message="m", MessageAttributes=attributes)
    assert len(queue.messages()) == expected


#: https://aws.amazon.com/blogs/compute/introducing-payload-based-message-filtering-for-amazon-sns/
_CREATED = {
    "Records": {
        "s3": {"object": {"key": [{"prefix": "auto-"}]}},
        "eventName": [{"prefix": "ObjectCreated:"}],
    }
}


def _upload(key: str, event: str) -> dict[str, Any]:
    return {"eventName": event, "s3": {"bucket": {"name": "b"}, "object": {"key": key}}}


@pytest.mark.parametrize(
    ("policy", "message", "expected"),
    [
        ({"a": {"b": ["x"]}}, {"a": {"b": "x"}}, True),
        ({"a": {"b": ["x"]}}, {"a": {"b": "y"}}, False),
        ({"a": [{"numeric": [">=", 10]}]}, {"a": 10}, True),
        ({"a": [{"anything-but": ["x"]}]}, {"a": "y"}, True),
        ({"a": ["x"]}, {"a": ["w", "x"]}, True),
        ({"a": ["x"]}, "x", False),
        ({"a": {"b": [1]}}, {"a": [{"b": 1}]}, True),
        ({"a": {"b": [1]}}, {"a": [{"b": 2}, {"b": 1}]}, True),
        ({"a": {"b": [1]}}, {"a": [{"b": 2}]}, False),
        ({"a": {"b": [1]}}, {"a": [[{"b": 1}]]}, True),
        ({"a": {"b": {"c": ["x"]}}}, {"a": [{"b": [{"c": "x"}]}]}, True),
        ({"a": [None]}, {"a": None}, True),
        ({"a": [None]}, {"a": [1, None]}, True),
        ({"a": [None]}, {"a": "null"}, False),
        ({"a": [None]}, {}, False),
        ({"a": [{"anything-but": ["x"]}]}, {"a": None}, True),
        ({"a": [{"exists": True}]}, {"a": 0}, True),
        ({"a": [{"exists": True}]}, {"a": None}, False),
        ({"a": [{"exists": True}]}, {"a": ""}, False),
        ({"a": {"b": [{"exists": True}]}}, {"a": [{}, {"b": 1}]}, True),
        ({"a": [{"exists": False}]}, {"b": 1}, True),
        ({"a": [{"exists": False}]}, {"a": 1}, False),
        ({"a": [{"exists": False}]}, {}, False),
        ({"a": [{"anything-but": {"prefix": ["x", "y"]}}]}, {"a": "yes"}, False),
        ({"$or": [{"a": {"b": [1]}}, {"c": [2]}]}, {"a": [{"b": 1}]}, True),
        ({"$or": ["x"]}, {"$or": "x"}, True),
        ({}, "x", True),
        (_CREATED, {"Records": [_upload("auto-1.png", "ObjectCreated:Put")]}, True),
        (_CREATED, {"Records": [_upload("1.png", "ObjectCreated:Put")]}, False),
        (_CREATED, {"Records": [_upload("auto-1.png", "ObjectRemoved:Delete")]}, False),
    ],
)
def test_filter_policy_of_bodies_decides_what_arrives(
    clients: Clients, policy: Any, message: Any, expected: bool
) -> None:
    queue = Queue(clients)
    arn = topic_with(
        clients, queue, FilterPolicy=json.dumps(policy), FilterPolicyScope="MessageBody"
    )
    clients.get("sns").publish(TopicArn=arn, Message=json.dumps(message))
    assert len(queue.messages()) == expected


def test_message_has_the_text_for_its_protocol(clients: Clients) -> None:
    queue = Queue(clients)
    arn = topic_with(clients, queue)
    clients.get("sns").publish(
        TopicArn=arn, MessageStructure="json",
        Message=json.dumps({"default": "for others", "sqs": "for queues"}),
    )  # fmt: skip
    assert [body["Message"] for body in queue.bodies()] == ["for queues"]


def test_batch_arrives_message_by_message(clients: Clients) -> None:
    queue = Queue(clients)
    arn = topic_with(clients, queue, RawMessageDelivery="true")
    entries = [{"Id": str(each), "Message": f"m{each}"} for each in range(3)]
    reply = clients.get("sns").publish_batch(TopicArn=arn, PublishBatchRequestEntries=entries)
    assert len(reply["Successful"]) == 3
    assert sorted(message["Body"] for message in queue.messages()) == ["m0", "m1", "m2"]


def test_fifo_topic_keeps_the_order_and_drops_repetitions(clients: Clients) -> None:
    queue = Queue(clients, FifoQueue="true")
    sns = clients.get("sns")
    arn = sns.create_topic(Name=f"t{next(_NUMBERS)}.fifo", Attributes={"FifoTopic": "true"})
    arn = arn["TopicArn"]
    sns.subscribe(
        TopicArn=arn, Protocol="sqs", Endpoint=queue.arn, Attributes={"RawMessageDelivery": "true"}
    )
    for each in ("1", "2", "2", "3"):
        sns.publish(
            TopicArn=arn, Message=each, MessageGroupId="g", MessageDeduplicationId=f"d{each}"
        )
    messages = queue.messages()
    assert [message["Body"] for message in messages] == ["1", "2", "3"]
    numbers = [message["Attributes"]["SequenceNumber"] for message in messages]
    assert numbers == sorted(set(numbers))


def test_message_for_a_queue_that_is_gone_goes_to_the_dead_letter_queue(clients: Clients) -> None:
    gone, dead = Queue(clients), Queue(clients)
    policy = json.dumps({"deadLetterTargetArn": dead.arn})
    arn = topic_with(clients, gone, RedrivePolicy=policy)
    clients.get("sqs").delete_queue(QueueUrl=gone.url)
    clients.get("sns").publish(TopicArn=arn, Message="lost?")
    assert [body["Message"] for body in dead.bodies()] == ["lost?"]


def test_message_for_a_function_that_is_gone_goes_to_the_dead_letter_queue(
    clients: Clients,
) -> None:
    dead, sns = Queue(clients), clients.get("sns")
    url = f"{clients.endpoint}/_mayfly/functions"
    headers = {"Authorization": f"Bearer {FOREIGN.id}"}
    # The stack has no functions.
    assert requests.post(url, json={}, headers=headers, timeout=10).ok
    arn = sns.create_topic(Name=f"t{next(_NUMBERS)}")["TopicArn"]
    sns.subscribe(
        TopicArn=arn, Protocol="lambda",
        Endpoint="arn:aws:lambda:us-east-1:000000000000:function:Gone",
        Attributes={"RedrivePolicy": json.dumps({"deadLetterTargetArn": dead.arn})},
    )  # fmt: skip
    sns.publish(TopicArn=arn, Message="lost?")
    assert [body["Message"] for body in dead.bodies()] == ["lost?"]


@pytest.mark.parametrize("protocol", ["sqs", "lambda"])
def test_message_for_an_endpoint_that_is_gone_is_skipped_with_a_line(
    clients: Clients, work: Path, protocol: str
) -> None:
    kind = "" if protocol == "sqs" else "function:"
    gone = f"arn:aws:{protocol}:us-east-1:000000000000:{kind}gone{next(_NUMBERS)}"
    sns, queue = clients.get("sns"), Queue(clients)
    arn = topic_with(clients, queue)
    sns.subscribe(TopicArn=arn, Protocol=protocol, Endpoint=gone)
    sns.publish(TopicArn=arn, Message="m")
    assert [body["Message"] for body in queue.bodies()] == ["m"]
    wait_until(lambda: f"there is no {gone}" in log_of(work), 10)


@pytest.mark.parametrize("protocol", ["email", "sms", "https"])
def test_message_for_people_and_for_servers_is_not_sent(clients: Clients, protocol: str) -> None:
    sns, queue = clients.get("sns"), Queue(clients)
    arn = topic_with(clients, queue)
    sns.subscribe(TopicArn=arn, Protocol=protocol, Endpoint="https://127.0.0.1:9/")
    sns.publish(TopicArn=arn, Message="m")
    (body,) = queue.bodies()
    assert (body["Message"], body["Signature"]) == ("m", "EXAMPLE")


def log_of(work: Path) -> str:
    """Returns the log of the emulator's process."""
    return (work / "logs" / "emulator.jsonl").read_text()


# ---------------------------------------------------------------- EventBridge


def rule_with(
    clients: Clients, queue: Queue, pattern: Any, *, bus: str = "default", **target: Any
) -> str:
    events, name = clients.get("events"), f"r{next(_NUMBERS)}"
    events.put_rule(Name=name, EventPattern=json.dumps(pattern), EventBusName=bus)
    events.put_targets(
        Rule=name, EventBusName=bus, Targets=[{"Id": "1", "Arn": queue.arn, **target}]
    )
    return name


def put(clients: Clients, source: str, detail: Any, **more: Any) -> None:
    entry = {"Source": source, "DetailType": "t", "Detail": json.dumps(detail), **more}
    reply = clients.get("events").put_events(Entries=[entry])
    assert reply["FailedEntryCount"] == 0, reply


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({"Input": '{"constant": 1}'}, {"constant": 1}),
        ({"InputPath": "$.detail.a"}, {"b": [1, 2]}),
        (
            {
                "InputTransformer": {
                    "InputPathsMap": {"b": "$.detail.a.b", "kind": "$.detail-type"},
                    "InputTemplate": '{"list": <b>, "text": "kind <kind>", "bare": <kind>}',
                }
            },
            {"list": [1, 2], "text": "kind t", "bare": "t"},
        ),
    ],
    ids=["Input", "InputPath", "InputTransformer"],
)
def test_target_gets_the_input_of_its_rule(clients: Clients, target: Any, expected: Any) -> None:
    queue = Queue(clients)
    source = f"s{next(_NUMBERS)}"
    rule_with(clients, queue, {"source": [source]}, **target)
    put(clients, source, {"a": {"b": [1, 2]}})
    assert queue.bodies() == [expected]


def test_event_reaches_the_rules_of_its_own_bus_only(clients: Clients) -> None:
    here, there = Queue(clients), Queue(clients)
    clients.get("events").create_event_bus(Name="own")
    source = f"s{next(_NUMBERS)}"
    rule_with(clients, here, {"source": [source]}, bus="own")
    rule_with(clients, there, {"source": [source]})
    put(clients, source, {"n": 1}, EventBusName="own")
    put(
        clients,
        source,
        {"n": 2},
        EventBusName="arn:aws:events:us-east-1:000000000000:event-bus/own",
    )
    assert sorted(event["detail"]["n"] for event in here.bodies()) == [1, 2]
    assert there.bodies() == []


def test_bus_forwards_to_another_bus(clients: Clients) -> None:
    queue, source = Queue(clients), f"s{next(_NUMBERS)}"
    events = clients.get("events")
    arn = events.create_event_bus(Name="second")["EventBusArn"]
    rule = f"r{next(_NUMBERS)}"
    events.put_rule(Name=rule, EventPattern=json.dumps({"source": [source]}))
    events.put_targets(Rule=rule, Targets=[{"Id": "1", "Arn": arn, "RoleArn": "arn:aws:iam::0:r"}])
    rule_with(clients, queue, {"source": [source]}, bus="second")
    put(clients, source, {"n": 1})
    assert [event["detail"] for event in queue.bodies()] == [{"n": 1}]


def test_disabled_rule_sends_nothing(clients: Clients) -> None:
    queue, source = Queue(clients), f"s{next(_NUMBERS)}"
    name = rule_with(clients, queue, {"source": [source]})
    clients.get("events").disable_rule(Name=name)
    put(clients, source, {})
    assert queue.bodies() == []


def test_event_for_a_target_that_is_gone_is_skipped_with_a_line(
    clients: Clients, work: Path
) -> None:
    queue, other, source = Queue(clients), Queue(clients), f"s{next(_NUMBERS)}"
    for target in (queue, other):
        rule_with(clients, target, {"source": [source]})
    clients.get("sqs").delete_queue(QueueUrl=queue.url)
    put(clients, source, {"n": 1})
    assert [event["detail"] for event in other.bodies()] == [{"n": 1}]
    wait_until(lambda: f"there is no queue {queue.arn}" in log_of(work), 10)


def test_event_has_the_time_and_the_resources_of_its_entry(clients: Clients) -> None:
    queue, source = Queue(clients), f"s{next(_NUMBERS)}"
    rule_with(clients, queue, {"source": [source]})
    put(clients, source, {}, Time=1_700_000_000, Resources=["arn:x"])
    (event,) = queue.bodies()
    assert (event["time"], event["resources"]) == ("2023-11-14T22:13:20Z", ["arn:x"])


def test_target_topic_publishes_the_event(clients: Clients) -> None:
    queue, source = Queue(clients), f"s{next(_NUMBERS)}"
    topic = topic_with(clients, queue)
    events, rule = clients.get("events"), f"r{next(_NUMBERS)}"
    events.put_rule(Name=rule, EventPattern=json.dumps({"source": [source]}))
    events.put_targets(Rule=rule, Targets=[{"Id": "1", "Arn": topic}])
    put(clients, source, {"n": 1})
    (body,) = queue.bodies()
    assert json.loads(body["Message"])["detail"] == {"n": 1}


def test_fifo_target_gets_the_group_of_its_rule(clients: Clients) -> None:
    queue = Queue(clients, FifoQueue="true", ContentBasedDeduplication="true")
    source = f"s{next(_NUMBERS)}"
    rule_with(clients, queue, {"source": [source]}, SqsParameters={"MessageGroupId": "of the rule"})
    put(clients, source, {"n": 1})
    (message,) = queue.messages()
    assert message["Attributes"]["MessageGroupId"] == "of the rule"


@pytest.mark.parametrize("entries", [0, 11])
def test_wrong_number_of_entries_is_refused(clients: Clients, entries: int) -> None:
    entry = {"Source": "s", "DetailType": "t", "Detail": "{}"}
    with pytest.raises(ClientError, match="ValidationException"):
        clients.get("events").put_events(Entries=[entry] * entries)


# ---------------------------------------------------------------- S3


def bucket_with(clients: Clients, configuration: dict[str, Any]) -> str:
    s3, name = clients.get("s3"), f"bucket-{next(_NUMBERS)}"
    s3.create_bucket(Bucket=name)
    s3.put_bucket_notification_configuration(Bucket=name, NotificationConfiguration=configuration)
    return name


def test_upload_goes_to_a_topic(clients: Clients) -> None:
    queue = Queue(clients)
    topic = topic_with(clients, queue)
    bucket = bucket_with(
        clients,
        {"TopicConfigurations": [{"TopicArn": topic, "Events": ["s3:ObjectCreated:*"]}]},
    )
    queue.messages()  # The test event of S3.
    clients.get("s3").put_object(Bucket=bucket, Key="k", Body=b"x")
    clients.get("s3").delete_object(Bucket=bucket, Key="k")
    (body,) = queue.bodies()
    (record,) = json.loads(body["Message"])["Records"]
    assert record["eventName"] == "ObjectCreated:Put"


def test_upload_goes_to_the_default_bus(clients: Clients) -> None:
    queue = Queue(clients)
    bucket = bucket_with(clients, {"EventBridgeConfiguration": {}})
    rule_with(clients, queue, {"source": ["aws.s3"], "detail": {"bucket": {"name": [bucket]}}})
    clients.get("s3").put_object(Bucket=bucket, Key="a b", Body=b"xyz")
    clients.get("s3").delete_object(Bucket=bucket, Key="a b")
    created, deleted = queue.bodies()
    assert (created["detail-type"], deleted["detail-type"]) == ("Object Created", "Object Deleted")
    assert created["detail"]["object"]["key"] == "a b"
    assert created["detail"]["object"]["size"] == 3
    assert created["detail"]["reason"] == "PutObject"
    assert created["resources"] == [f"arn:aws:s3:::{bucket}"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", created["time"])
