"""Parts of a template's state that belong to something outside it."""

from typing import Any

import pytest

from mayfly_local.application.outside import outside, undelivered, without_outside_targets

OWN = "arn:aws:{}:us-east-1:000000000000:{}"
OTHER = "arn:aws:{}:us-east-1:123456789012:{}"
STATE = {
    "Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "news"}},
    "Bus": {"Type": "AWS::Events::EventBus", "Properties": {"Name": "shop"}},
}


@pytest.mark.parametrize(
    ("kind", "properties", "is_outside"),
    [
        ("AWS::SNS::Subscription", {"TopicArn": {"Ref": "Topic"}}, False),
        ("AWS::SNS::Subscription", {"TopicArn": OWN.format("sns", "news")}, False),
        ("AWS::SNS::Subscription", {"TopicArn": OWN.format("sns", "other")}, True),
        ("AWS::SNS::Subscription", {"TopicArn": OTHER.format("sns", "news")}, True),
        ("AWS::Events::Rule", {}, False),
        ("AWS::Events::Rule", {"EventBusName": "default"}, False),
        ("AWS::Events::Rule", {"EventBusName": {"Ref": "Bus"}}, False),
        ("AWS::Events::Rule", {"EventBusName": "shop"}, False),
        ("AWS::Events::Rule", {"EventBusName": OWN.format("events", "event-bus/shop")}, False),
        ("AWS::Events::Rule", {"EventBusName": "other"}, True),
        ("AWS::Events::Rule", {"EventBusName": OTHER.format("events", "event-bus/shop")}, True),
        ("AWS::KMS::Alias", {"TargetKeyId": {"Ref": "Key"}}, False),
        ("AWS::KMS::Alias", {"TargetKeyId": {"Fn::GetAtt": ["Key", "Arn"]}}, False),
        ("AWS::KMS::Alias", {"TargetKeyId": OWN.format("kms", "key/1234")}, True),
        ("AWS::KMS::Alias", {"TargetKeyId": "1234abcd-12ab-34cd-56ef-1234567890ab"}, True),
    ],
)
def test_resource_of_a_topic_a_bus_or_a_key_outside_is_found(
    kind: str, properties: dict[str, Any], is_outside: bool
) -> None:
    found = outside({**STATE, "It": {"Type": kind, "Properties": properties}})
    assert list(found) == (["It"] if is_outside else [])


def test_notifications_to_other_accounts_are_left_out() -> None:
    own, other = OWN.format("lambda", "function:F"), OTHER.format("lambda", "function:F")
    bucket = {
        "Type": "AWS::S3::Bucket",
        "Properties": {
            "NotificationConfiguration": {
                "LambdaConfigurations": [{"Function": own}, {"Function": other}],
                "QueueConfigurations": [{"Queue": {"Fn::GetAtt": ["Q", "Arn"]}}],
            }
        },
    }
    kept, gone = without_outside_targets(bucket)
    assert gone == [other]
    notifications = kept["Properties"]["NotificationConfiguration"]
    assert notifications["LambdaConfigurations"] == [{"Function": own}]
    assert len(notifications["QueueConfigurations"]) == 1


@pytest.mark.parametrize(
    ("kind", "properties", "receivers"),
    [
        ("AWS::SNS::Subscription", {"Protocol": "lambda"}, []),
        ("AWS::SNS::Subscription", {"Protocol": "email"}, ["the protocol email"]),
        (
            "AWS::SNS::Topic",
            {"Subscription": [{"Protocol": "sqs"}, {"Protocol": "sms"}]},
            ["the subscription of the protocol sms"],
        ),
        ("AWS::Events::Rule", {"Targets": [{"Arn": {"Fn::GetAtt": ["Q", "Arn"]}}]}, []),
        ("AWS::Events::Rule", {"Targets": [{"Arn": OWN.format("lambda", "function:F")}]}, []),
        (
            "AWS::Events::Rule",
            {"Targets": [{"Arn": OWN.format("logs", "log-group:g")}]},
            [f"the target {OWN.format('logs', 'log-group:g')}"],
        ),
        (
            "AWS::Events::Rule",
            {"Targets": [{"Arn": OTHER.format("sqs", "q")}]},
            [f"the target {OTHER.format('sqs', 'q')}"],
        ),
    ],
)
def test_receiver_that_gets_nothing_here_is_named(
    kind: str, properties: dict[str, Any], receivers: list[str]
) -> None:
    assert undelivered({"Type": kind, "Properties": properties}) == receivers
